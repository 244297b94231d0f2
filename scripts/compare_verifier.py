"""Trains a verifier on drafts of a model, by SFT and GRPO, with true and with shuffled labels, and
compares the balanced accuracies on drafts of held-out problems.

    python scripts/compare_verifier.py runs/quickstart/sft/export --seeds 0 1 2 --steps 40

Each seed has training problems of its own; all judge the same held-out drafts, so that a problem is
one observation, however many seeds judge it. Called again, it skips what is done.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from slm_math.evaluation.compare import compare, shown_p
from slm_math.metrics.summary import summarize
from slm_math.records.files import read_records
from slm_math.records.record import Record

CONFIGS = Path(__file__).parents[1] / "configs/quickstart"
LORA = "lora: {r: 16, alpha: 32, dropout: 0.0, targets: all-linear}"
PLAIN = "plain model"
FIGURES = ("balanced_accuracy", "true_positive_rate", "true_negative_rate")
STAGES = {  # by row: how it is trained, from which row, and whether the labels are shuffled
    "SFT": ("sft", PLAIN, False),
    "GRPO": ("grpo", "SFT", False),
    "GRPO without SFT": ("grpo", PLAIN, False),
    "shuffled SFT": ("sft", PLAIN, True),
    "shuffled GRPO": ("grpo", "shuffled SFT", True),
    "shuffled GRPO of SFT": ("grpo", "SFT", True),
}


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "slm_math", *arguments], check=True)


def evaluate(out: Path, agent: str, config: str, *arguments: str) -> Path:
    if not (out / agent / "summary.json").is_file():
        run("eval", f"--config={CONFIGS / config}", f"--out={out}", *arguments)
    return out


def draft(out: Path, split: str, options: argparse.Namespace, seed: int = 0) -> Path:
    """The folder of the model's drafts of the problems of a split."""
    return evaluate(
        *(out / f"drafts-{split}", "single_shot", "eval_drafts.yaml", f"--split={split}"),
        f"--model={options.model}",
        f"--source={{class_path: Arithmetic, init_args: {{seed: {seed}}}}}",
        f"--limit={options.problems if split == 'train' else options.n}",
    )


def train(row: str, seed: int, options: argparse.Namespace) -> str:
    """The folder of the model of a row, trained if it is not there."""
    if row == PLAIN:
        return options.model
    stage, start, shuffled = STAGES[row]
    root = options.out / str(seed) / row.replace(" ", "-")
    if not (root / "export").is_dir():
        policy = f"path: {train(start, seed, options)}" + (f", {LORA}" if start == PLAIN else "")
        own = {
            "sft": [f"--data.source.solutions.seed={seed}"],
            "grpo": ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={options.steps}"],
        }[stage] + [f"--data.source.shuffle_labels={seed}"] * shuffled
        run(
            *("fit", f"--config={CONFIGS / f'verifier_{stage}.yaml'}", f"--seed_everything={seed}"),
            *(f"--model.policy={{{policy}}}", f"--trainer.default_root_dir={root}"),
            *("--trainer.callbacks=[ExportHF]", *own),
            f"--data.source.path={draft(root.parent, 'train', options, seed)}",
        )
    return str(root / "export")


def judge(row: str, seed: int, options: argparse.Namespace) -> list[Record]:
    """The verdicts of a row on the drafts of held-out problems, as samples of a seed."""
    path, model = draft(options.out, "test", options), train(row, seed, options)
    parent = options.out if row == PLAIN else options.out / str(seed)
    out, own = (
        parent / f"eval-{row.replace(' ', '-')}",
        (f"--model={model}", f"--source.path={path}"),
    )
    evaluate(out, "judge", "eval_judge.yaml", *own)
    return [replace(each, sample=seed) for each in read_records(out / "judge" / "records.jsonl")]


def show(verdicts: dict[str, list[Record]]) -> None:
    """Prints the figures of every row in per cent, and its difference from where it started."""
    for row, records in verdicts.items():
        found = summarize(records)
        *ends, n = found.intervals["balanced_accuracy"]
        numbers = [*(found.metrics[name] for name in FIGURES), *ends]
        balanced, right, wrong, low, high = (f"{100 * number:.1f}" for number in numbers)
        line = f"{row:20} {balanced} [{low}, {high}], n = {n}, right {right}, wrong {wrong}"
        if row != PLAIN and (start := STAGES[row][1]) in verdicts:
            [one] = compare({start: verdicts[start], row: records})
            gain, low, high = (f"{100 * x:+.1f}" for x in (one.difference, one.low, one.high))
            line += f"; minus {start}: {gain} [{low}, {high}], p = {shown_p(one.p)} ({one.test})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="the export of an SFT run, such as quickstart/sft.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40, help="of GRPO")
    parser.add_argument("--problems", type=int, default=1500, help="training problems with drafts")
    parser.add_argument("--n", type=int, default=300, help="held-out problems with drafts")
    parser.add_argument("--out", type=Path, default=Path("runs/compare_verifier"))
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        runs.append({row: judge(row, seed, options) for row in (PLAIN, *STAGES)})
        print(f"\nseed {seed}: balanced accuracy, that of right and of wrong drafts, in %")
        show(runs[-1])
    print(f"\nseeds {options.seeds}, {options.steps} steps of GRPO")
    show({row: [record for one in runs for record in one[row]] for row in runs[0]})


if __name__ == "__main__":
    main()
