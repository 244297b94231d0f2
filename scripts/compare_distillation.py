"""On-policy distillation against SFT on the teacher's texts, at the same number of tokens.

    python scripts/compare_distillation.py --teacher runs/quickstart/grpo/export [--seeds 0 1 2]

For each seed a small student starts with a short SFT (configs/quickstart/student.yaml). One copy
then learns on-policy from the teacher (configs/quickstart/distill.yaml); the other by SFT on texts
that the teacher samples for the same training problems, until it has seen as many sampled tokens.
Both and their start are evaluated greedily on the test split, and compared problem by problem.
Every finished step is kept, so that the command can be run again after an interruption.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "quickstart"


def command(*arguments: object) -> None:
    """Runs `slm-math` with these arguments."""
    subprocess.run([sys.executable, "-m", "slm_math", *map(str, arguments)], check=True)


def fit(root: Path, *arguments: object) -> Path:
    """The export of a training run, which is made if it is not there."""
    if not (root / "export").is_dir():
        shutil.rmtree(root, ignore_errors=True)  # a run that was interrupted
        command("fit", *arguments, "--trainer.default_root_dir", root)
    return root / "export"


def evaluate(out: Path, model: Path, *arguments: object) -> Path:
    """The evaluation of a model on all problems of a split, which goes on if it was interrupted."""
    agent = ["--agents.single_shot", "SingleShot", "--agents.single_shot.prompt", "solve_plain"]
    slots = ["--inference.slots", 128, "--inference.sampling.max_new_tokens", 40]
    rest = ["--torch_threads", 1, "--source", "Arithmetic", "--model", model, "--out", out]
    command("eval", *agent, *slots, *rest, *arguments)
    return out


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def sampled_tokens(records: list[dict]) -> list[int]:
    """The tokens that were sampled in each record."""
    return [sum(event.get("tokens", 0) for event in record["events"]) for record in records]


def write_texts(records: list[dict], budget: int, file: Path) -> int:
    """Writes what the teacher said as CoT, until `budget` tokens are reached; returns their
    number.
    """
    lines, spent = [], 0
    for record, tokens in zip(records, sampled_tokens(records), strict=True):
        if spent >= budget:
            break
        texts = [event["reply"] for event in record["events"] if event["kind"] == "turn"]
        lines.append({"question": record["problem"], "ground_truth": record["gold"]})
        lines[-1]["solution"] = texts[-1]
        spent += tokens
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return spent


def one_seed(seed: int, teacher: Path, out: Path) -> tuple[Path, Path, Path]:
    """The evaluations of the start, of SFT and of distillation."""
    sft = [f"--config={CONFIGS / name}" for name in ("sft.yaml", "student.yaml")]
    seeds = ["--seed_everything", seed, "--data.seed", seed]
    source = ["--data.source.seed", seed]
    start = fit(out / "start", *sft, *seeds, *source, "--model.policy.scratch.seed", seed)
    policy = ["--model.policy.path", start]
    distill = [f"--config={CONFIGS / 'distill.yaml'}", *seeds, *source, "--model.seed", seed]
    student = fit(out / "distilled", *distill, *policy, "--model.teacher.path", teacher)
    budget = sum(sampled_tokens(read_lines(out / "distilled" / "rollouts.jsonl")))

    texts = evaluate(
        out / "texts", teacher, "--split", "train", "--samples", 2, "--source.seed", seed,
        "--inference.sampling.temperature", 1.0,
    )  # fmt: skip
    file = out / "texts.jsonl"
    spent = write_texts(read_lines(texts / "single_shot" / "records.jsonl"), budget, file)
    print(f"seed {seed}: {budget} tokens of the student, {spent} of the teacher", flush=True)
    data = ["--data.source", "CoT", "--data.source.path", file, "--data.shuffle", "true"]
    plain = [*policy, "--model.policy.scratch", "null", "--model.optim.lr", 1e-3]
    other = fit(
        out / "sft", *sft, *plain, *seeds, *data, "--model.optim.matrix_lr", 5e-3,
        "--data.prompt_weight", 0.0, "--trainer.limit_train_batches", 1.0,
    )  # fmt: skip
    test = ["--inference.sampling.temperature", 0.0, "--source.seed", seed]
    models = {"start": start, "sft": other, "distilled": student}
    found = [evaluate(out / "test" / name, model, *test) for name, model in models.items()]
    return found[0], found[1], found[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--teacher", type=Path, required=True, help="the export of a GRPO run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/compare_distillation"))
    options = parser.parse_args()
    for seed in options.seeds:
        start, sft, distilled = one_seed(seed, options.teacher, options.out / str(seed))
        command("compare", start, sft, distilled)
        command("compare", sft, distilled)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{spent.ru_utime + spent.ru_stime:.0f} s of CPU")


if __name__ == "__main__":
    main()
