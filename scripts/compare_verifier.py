"""Trains a verifier on drafts of a model, by SFT and then by GRPO, with true and with shuffled
labels, and compares the balanced accuracies on drafts of held-out problems.

    python scripts/compare_verifier.py runs/quickstart/sft/export --seeds 0 1 2 --steps 40

Each seed has training problems of its own; all judge the same held-out drafts. Called again, it
goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comparing import QUICKSTART, Pairs, Rows, evaluate, options, show, show_cpu, train

from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.compare_verdicts import adjusted_balanced, compare_balanced
from slm_math.metrics.summary import Summary
from slm_math.records.record import Record

LORA = "lora: {r: 16, alpha: 32, dropout: 0.0, targets: all-linear}"
PLAIN = "plain model"
STAGES = {  # by row: how it is trained, from which row, and whether the labels are shuffled
    "SFT": ("sft", PLAIN, False),
    "GRPO": ("grpo", "SFT", False),
    "shuffled GRPO": ("grpo", "SFT", True),
}
PAIRS = tuple((start, row) for row, (_, start, _) in STAGES.items())


def drafts(out: Path, split: str, chosen: argparse.Namespace, seed: int = 0) -> Path:
    """The folder of the model's drafts of the problems of a split."""
    folder, agent = out / f"drafts-{split}", "single_shot"
    evaluate(
        *(folder, agent, f"--config={QUICKSTART / 'eval_drafts.yaml'}", f"--split={split}"),
        f"--model={chosen.model}",
        f"--source={{class_path: Arithmetic, init_args: {{seed: {seed}}}}}",
        f"--limit={chosen.problems if split == 'train' else chosen.n}",
    )
    return folder


def trained(row: str, seed: int, chosen: argparse.Namespace) -> str:
    """The model of a row, trained if it is not there."""
    if row == PLAIN:
        return chosen.model
    stage, start, shuffled = STAGES[row]
    root = chosen.out / str(seed) / row.replace(" ", "-")
    policy = f"path: {trained(start, seed, chosen)}" + (f", {LORA}" if start == PLAIN else "")
    own = {
        "sft": [f"--data.source.solutions.seed={seed}"],
        "grpo": ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={chosen.steps}"],
    }[stage] + [f"--data.source.shuffle_labels={seed}"] * shuffled
    export = train(
        *(root, f"verifier_{stage}.yaml", f"--seed_everything={seed}", *own),
        f"--model.policy={{{policy}}}",
        f"--data.source.path={drafts(root.parent, 'train', chosen, seed)}",
    )
    return str(export)


def judged(row: str, seed: int, chosen: argparse.Namespace) -> list[Record]:
    """The verdicts of a row on the drafts of held-out problems."""
    parent = chosen.out if row == PLAIN else chosen.out / str(seed)
    model, path = trained(row, seed, chosen), drafts(chosen.out, "test", chosen)
    return evaluate(
        *(parent / f"eval-{row.replace(' ', '-')}", "judge"),
        *(f"--config={QUICKSTART / 'eval_judge.yaml'}", f"--model={model}"),
        f"--source.path={path}",
    )


def figures(summary: Summary) -> str:
    low, high, n = summary.intervals["balanced_accuracy"]
    names = ("balanced_accuracy", "true_positive_rate", "true_negative_rate")
    balanced, right, wrong = (100 * summary.metrics[name] for name in names)
    ends = f"[{100 * low:.1f}, {100 * high:.1f}], n = {n}"
    return f"balanced {balanced:.1f} {ends}, right {right:.1f}, wrong {wrong:.1f}"


def differences(rows: Rows, pairs: Pairs) -> list[str]:
    """Of every pair (a, b) the difference of balanced accuracy, b - a, paired by problem."""
    tests = [one for a, b in pairs for one in compare_balanced({a: rows[a], b: rows[b]})]
    return [
        f"{one.b} - {one.a}: {shown_difference(one.difference, one.low, one.high)}, p (Holm) "
        f"{shown_p(one.p_adjusted)}, n = {one.problems} problems"
        for one in adjusted_balanced(tests)
    ]


def main() -> None:
    parser = options(__doc__ or "", "compare_verifier")
    parser.add_argument("model", help=f"an export of {QUICKSTART.name}/sft.yaml")
    parser.add_argument("--steps", type=int, default=40, help="of GRPO")
    parser.add_argument("--problems", type=int, default=1500, help="training problems with drafts")
    chosen = parser.parse_args()
    rows = (PLAIN, *STAGES)
    seeds = {seed: {row: judged(row, seed, chosen) for row in rows} for seed in chosen.seeds}
    show(seeds, PAIRS, figures, differences)
    show_cpu()


if __name__ == "__main__":
    main()
