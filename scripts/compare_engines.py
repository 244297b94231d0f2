"""Compares runs of scripts/compare_engines.sh: a table and a plot of rewards, KL and the difference
between engine and trainer.

    python scripts/compare_engines.py runs/compare-engines
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
from rich.console import Console
from rich.table import Table

from slm_math.metrics.intervals import t_point

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ARMS = {
    "transformers": "transformers engine",
    "again": "the same, other random numbers",
    "vllm": "vLLM in process",
    "vllm-again": "the same, other random numbers",
    "served": "vllm serve",
}


def column(run: Path, name: str) -> list[float]:
    """The values of a metric, in order."""
    with next(run.glob("logs/version_*/metrics.csv")).open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def interval(values: Sequence[float]) -> str:
    """Mean with a 95 % t interval over seeds."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    mean, half = fmean(values), t_point(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def main() -> None:
    root = Path(sys.argv[1])
    by_arm = {arm: sorted(path for path in (root / arm).glob("*") if path.is_dir()) for arm in ARMS}
    table = Table(title="GRPO of the embedded model, means over seeds with 95 % intervals")
    for name in (
        "",
        "seeds",
        "reward, first third",
        "second",
        "last",
        "difference",
        "KL, last third",
    ):
        table.add_column(name)
    for name in ("|d logp| mean", "largest", "ESS", "accuracy", "s / step"):
        table.add_column(name)
    for arm, runs in by_arm.items():
        if not runs:
            continue
        rewards = [column(run, "train/reward") for run in runs]
        thirds = [
            [fmean(r[i * len(r) // 3 : (i + 1) * len(r) // 3]) for r in rewards] for i in range(3)
        ]
        base = [fmean(column(run, "train/reward")) for run in by_arm["transformers"]]
        gaps = [fmean(r) - b for r, b in zip(rewards, base)]
        seconds = [
            sum(
                fmean(column(run, f"train/seconds/{name}")[1:])
                for name in ("sync", "generate", "update", "reference")
            )
            for run in runs
        ]
        table.add_row(
            ARMS[arm],
            str(len(runs)),
            *(interval(third) for third in thirds),
            interval(gaps) if arm != "transformers" else "",
            interval([fmean(column(run, "train/kl")[-20:]) for run in runs]),
            f"{fmean(fmean(column(run, 'train/logp_diff')) for run in runs):.1e}",
            f"{max(max(column(run, 'train/logp_diff_max')) for run in runs):.1e}",
            f"{min(min(column(run, 'train/effective_sample_size')) for run in runs):.6f}",
            interval([column(run, "eval/single_shot/accuracy")[-1] for run in runs]),
            f"{fmean(seconds):.2f}",
        )
    Console(width=220).print(table)
    draw(by_arm, root / "rewards.png")


def draw(by_arm: dict[str, list[Path]], path: Path) -> None:
    """The mean reward over seeds, smoothed over five steps, in front of the single seeds."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for number, (arm, runs) in enumerate(by_arm.items()):
        curves = [column(run, "train/reward") for run in runs]
        if not curves:
            continue
        steps = range(min(map(len, curves)))
        mean = [fmean(curve[i] for curve in curves) for i in steps]
        smooth = [fmean(mean[max(0, i - 2) : i + 3]) for i in steps]
        for curve in curves:
            axes.plot(
                steps,
                [fmean(curve[max(0, i - 2) : i + 3]) for i in steps],
                color=f"C{number}",
                alpha=0.25,
            )
        axes.plot(
            steps,
            smooth,
            color=f"C{number}",
            linewidth=2,
            label=f"{ARMS[arm]} ({len(curves)} seeds)",
        )
    axes.set(xlabel="step", ylabel="mean reward (smoothed over 5 steps)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
