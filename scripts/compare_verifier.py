"""Trains a verifier on drafts of a model, by SFT and GRPO, with true and with shuffled labels, and
compares the balanced accuracies on drafts of held-out problems.

    python scripts/compare_verifier.py runs/quickstart/sft/export --seeds 0 1 2 --steps 60

Each seed has problems, drafts and trainings of its own. Called again, it skips what is done.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from slm_math.evaluation.compare import compare, shown_p
from slm_math.metrics.summary import summarize
from slm_math.records.files import read_records
from slm_math.records.record import Record

CONFIGS = Path(__file__).parents[1] / "configs/quickstart"
JUDGE = (
    "{class_path: Judge, init_args: {prompt: verify_plain, output_prompt: output_plain, runs: 1}}"
)
LORA = "lora: {r: 16, alpha: 32, dropout: 0.0, targets: all-linear}"
PLAIN = "plain model"
STAGES = {  # by row: how it is trained, from which row, and whether the labels are shuffled
    "SFT": ("sft", PLAIN, False),
    "GRPO": ("grpo", "SFT", False),
    "GRPO without SFT": ("grpo", PLAIN, False),
    "shuffled SFT": ("sft", PLAIN, True),
    "shuffled GRPO": ("grpo", "shuffled SFT", True),
    "shuffled GRPO of SFT": ("grpo", "SFT", True),
}


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "slm_math", *map(str, arguments)], check=True)


def draft(seed: int, split: str, options: argparse.Namespace) -> Path:
    """The folder of the model's drafts of the problems of a split."""
    out = options.out / str(seed) / f"drafts-{split}"
    if not (out / "single_shot" / "summary.json").is_file():
        run(
            *("eval", f"--config={CONFIGS / 'eval_drafts.yaml'}", f"--model={options.model}"),
            *(f"--source={{class_path: Arithmetic, init_args: {{seed: {seed}}}}}", f"--out={out}"),
            f"--limit={options.problems if split == 'train' else options.n}",
            f"--split={split}",
        )
    return out


def train(row: str, seed: int, options: argparse.Namespace) -> str:
    """The folder of the model of a row, trained if it is not there."""
    if row == PLAIN:
        return options.model
    stage, start, shuffled = STAGES[row]
    root = options.out / str(seed) / row.replace(" ", "-")
    if not (root / "export").is_dir():
        policy = f"path: {train(start, seed, options)}" + (f", {LORA}" if start == PLAIN else "")
        run(
            *("fit", f"--config={CONFIGS / f'verifier_{stage}.yaml'}", f"--seed_everything={seed}"),
            *(f"--model.policy={{{policy}}}", f"--trainer.default_root_dir={root}"),
            *(f"--data.source.path={draft(seed, 'train', options)}",),
            "--trainer.callbacks=[ExportHF]",
            *([f"--data.source.shuffle_labels={seed}"] if shuffled else []),
            *(
                [f"--data.source.solutions.seed={seed}"]
                if stage == "sft"
                else ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={options.steps}"]
            ),
        )
    return str(root / "export")


def judge(row: str, seed: int, options: argparse.Namespace) -> list[Record]:
    """The verdicts of a row on the drafts of held-out problems."""
    out = options.out / str(seed) / f"eval-{row.replace(' ', '-')}"
    if not (out / "judge" / "summary.json").is_file():
        path = draft(seed, "test", options)
        run(
            *("eval", f"--out={out}", f"--agents.judge={JUDGE}", "--torch_threads=1"),
            *(f"--model={train(row, seed, options)}", "--inference.slots=128"),
            f"--source={{class_path: Drafts, init_args: {{path: {path}}}}}",
            "--inference.sampling={temperature: 0.0, max_new_tokens: 48}",
        )
    return read_records(out / "judge" / "records.jsonl")


def show(verdicts: dict[str, list[Record]]) -> None:
    """Prints the figures of every row in per cent, and its difference from where it started."""
    for row, records in verdicts.items():
        found = summarize(records)
        ends = found.intervals["balanced_accuracy"]
        names = ("balanced_accuracy", "true_positive_rate", "true_negative_rate")
        numbers = [*(found.metrics[name] for name in names), *ends[:2]]
        balanced, right, wrong, low, high = (f"{100 * number:.1f}" for number in numbers)
        line = f"{row:20} {balanced} [{low}, {high}], n = {ends[2]}, right {right}, wrong {wrong}"
        if row != PLAIN and (start := STAGES[row][1]) in verdicts:
            [one] = compare({start: verdicts[start], row: records})
            gain, low, high = (f"{100 * x:+.1f}" for x in (one.difference, one.low, one.high))
            line += f"; minus {start}: {gain} [{low}, {high}], p = {shown_p(one.p)} ({one.test})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the export of an SFT run, such as quickstart/sft.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60, help="of GRPO")
    parser.add_argument("--problems", type=int, default=1500, help="training problems with drafts")
    parser.add_argument("--n", type=int, default=300, help="held-out problems with drafts")
    parser.add_argument("--rows", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--out", type=Path, default=Path("runs/compare_verifier"))
    options = parser.parse_args()
    pooled: dict[str, list[Record]] = {}
    for seed in options.seeds:
        verdicts = {row: judge(row, seed, options) for row in (PLAIN, *options.rows)}
        print(f"\nseed {seed}: balanced accuracy, that of right and of wrong drafts, in %")
        show(verdicts)
        for row, records in verdicts.items():
            pooled.setdefault(row, []).extend(records)
    print(f"\nseeds {options.seeds}, {options.steps} steps of GRPO")
    show(pooled)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nCPU: {used.ru_utime + used.ru_stime:.0f} s")


if __name__ == "__main__":
    main()
