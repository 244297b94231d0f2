#!/usr/bin/env python3
"""How often the intervals and tests of this project hold what is known to be true.

    python scripts/truth.py [--draws 10000] [--only paired] [--out FILE.json]

Evaluations are drawn from solvers whose accuracy on each problem is known: on problem i a solver is
right with a probability of its own, which varies over problems from a little to very much. Each
setting (problems n, accuracy p, samples, spread) is drawn many times; the share of the intervals
that hold the true mean is their coverage. Wilson's and McNemar's are computed exactly; the worth of
a turn is that of evaluations which run through agents, scheduler, grader and records. After the
totals stands, for each n and accuracy, the smallest and the largest coverage.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import numpy as np
from covering import ACCURACIES, PROBLEMS, SPREADS, Coverage, measured, probabilities
from covering_means import projections, ratios, rewards
from covering_pairs import control_arms, equal_cost, paired, paired_samples, seeds, twins
from covering_power import of_samples, of_single, pilots
from covering_turns import worths
from covering_units import templates, templates_of_two
from covering_verdicts import balanced, balanced_of_two, calibrated

from slm_math.evaluation.compare import holm, mcnemar, sign_flip
from slm_math.metrics.intervals import clustered, wilson
from slm_math.metrics.samples import maj_at_k

SAMPLES = (4, 16)
LOW, HIGH = 0.94, 0.97
FLIPS = 1000  # of a sign-flip test; commands take 10,000


def of_values(values: np.ndarray) -> Iterator[tuple[float, float]]:
    """`clustered` of each evaluation (draws, n)."""
    for row in values:
        distinct, counts = np.unique(row, return_counts=True)
        yield clustered(distinct.tolist(), counts.tolist())


def one_sample(draws: int) -> Iterator[Coverage]:
    """Wilson's interval, exactly."""
    for n in PROBLEMS:
        ends = np.array([wilson(k, n) for k in range(n + 1)])
        for p in ACCURACIES:
            chances = binomial(n, p)
            holds = (ends[:, 0] <= p) & (p <= ends[:, 1])
            width = float(chances @ (ends[:, 1] - ends[:, 0]))
            yield Coverage("one sample", f"n {n}, p {p}", float(chances @ holds), width)


def binomial(n: int, p: float) -> np.ndarray:
    """The probabilities of 0 to n."""
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    k = np.arange(n + 1)
    return np.exp(np.array(logs) + k * math.log(p) + (n - k) * math.log1p(-p))


def several_samples(draws: int) -> Iterator[Coverage]:
    draw = np.random.default_rng(1)
    for n, p, m, spread in settings(SAMPLES):
        right = draw.binomial(m, probabilities(p, spread, (draws, n), draw))
        name = f"n {n}, p {p}, {m} samples, spread {spread}"
        yield measured("several samples", name, p, of_values(right / m))


def settings(samples: Sequence[int]) -> Iterator[tuple[int, float, int, float]]:
    for n in PROBLEMS:
        for p in ACCURACIES:
            for m in samples:
                for spread in SPREADS:
                    yield n, p, m, spread


def pass_at_4(draws: int) -> Iterator[Coverage]:
    """pass@4 of 8 samples."""
    draw, m, k = np.random.default_rng(2), 8, 4
    table = np.array([1 - math.comb(m - c, k) / math.comb(m, k) for c in range(m + 1)])
    for n, p, _, spread in settings((m,)):
        if math.isinf(spread):
            truth = 1 - (1 - p) ** k
        else:
            b = (1 - p) * spread
            truth = 1 - math.prod((b + i) / (spread + i) for i in range(k))
        right = draw.binomial(m, probabilities(p, spread, (draws, n), draw))
        name = f"n {n}, p {p}, spread {spread}"
        yield measured("pass@4 of 8", name, truth, of_values(table[right]))


def maj_at_8(draws: int) -> Iterator[Coverage]:
    """maj@8 of 8 samples; a wrong one states one of three other answers, the first twice as often
    as each other.
    """
    draw, m = np.random.default_rng(3), 8
    known: dict[tuple[int, ...], float] = {}

    def values(counts: np.ndarray) -> np.ndarray:
        """(.., 4): how often each answer was stated, the right one first."""
        base = (m + 1) ** np.arange(4)
        codes, places = np.unique(counts @ base, return_inverse=True)
        made = []
        for code in codes.tolist():
            of = tuple(code // int(each) % (m + 1) for each in base)
            if of not in known:
                labels = [label for label, times in enumerate(of) for _ in range(times)]
                known[of] = maj_at_k(labels, [label == 0 for label in labels], m)
            made.append(known[of])
        return np.array(made)[places.reshape(counts.shape[:-1])]

    def stated(p: np.ndarray) -> np.ndarray:
        chances = np.stack([p, (1 - p) / 2, (1 - p) / 4, (1 - p) / 4], -1)
        return draw.multinomial(m, chances)

    for n, p, _, spread in settings((m,)):
        truth = float(values(stated(probabilities(p, spread, (400_000, 1), draw))).mean())
        votes = values(stated(probabilities(p, spread, (draws, n), draw)))
        yield measured("maj@8", f"n {n}, p {p}, spread {spread}", truth, of_values(votes))


INTERVALS: dict[str, Callable[[int], Iterator[Coverage]]] = {
    "one": one_sample,
    "several": several_samples,
    "pass": pass_at_4,
    "maj": maj_at_8,
    "paired": paired,
    "samples": paired_samples,
    "templates": templates,
    "two": templates_of_two,
    "controls": control_arms,
    "twins": twins,
    "seeds": seeds,
    "cost": equal_cost,
    "balanced": balanced,
    "verifiers": balanced_of_two,
    "calibration": calibrated,
    "turns": worths,
    "pilots": pilots,
    "ratios": ratios,
    "projections": projections,
    "rewards": rewards,
}


def tests(draws: int) -> dict[str, float]:
    """The largest shares of false alarms at 5 %."""
    draw = np.random.default_rng(6)
    exact = 0.0
    for changed in range(1, 200):  # of n problems, each equally likely to change either way
        chances = binomial(changed, 0.5)
        alarms = [mcnemar(k, changed - k) <= 0.05 for k in range(changed + 1)]
        exact = max(exact, float(chances @ np.array(alarms)))
    family = 0.0
    for n in (100, 1319):
        for p in (0.1, 0.5, 0.9):
            runs = draw.random((4, draws, n)) < p
            gained, lost = (runs[1:] & ~runs[0]).sum(2), (runs[0] & ~runs[1:]).sum(2)
            counts = zip(gained.T.tolist(), lost.T.tolist())
            alarms = [min(holm([mcnemar(*some) for some in zip(*each)])) <= 0.05 for each in counts]
            family = max(family, float(np.mean(alarms)))
    flips = {}
    for n, m in ((30, 4), (30, 16), (300, 4)):
        own = probabilities(0.5, 2.0, (draws, n), draw)
        differences = draw.binomial(m, own) - draw.binomial(m, own)
        alarms = [sign_flip(row, FLIPS) <= 0.05 for row in whole(differences)]
        flips[f"sign flips, {n} problems, {m} samples"] = float(np.mean(alarms))
    return {"McNemar": exact, "McNemar, three runs, Holm": family, **flips}


def whole(rows: np.ndarray) -> Iterator[list[Fraction]]:
    for row in rows.tolist():
        yield list(map(Fraction, row))


def line(name: str, found: Sequence[Coverage]) -> dict[str, Any]:
    values = np.array([each.coverage for each in found])
    worst = sorted(found, key=lambda each: each.coverage)[:3]
    return {
        "interval": name,
        "settings": len(found),
        "mean": round(float(values.mean()), 4),
        "least": round(float(values.min()), 4),
        "most": round(float(values.max()), 4),
        "below": int((values < LOW).sum()),
        "above": int((values > HIGH).sum()),
        "width": round(float(np.mean([each.width for each in found])), 4),
        "worst": [f"{each.setting}: {each.coverage:.3f}" for each in worst],
    }


def by_setting(found: Sequence[Coverage]) -> Iterator[str]:
    """For each n the smallest and the largest coverage by how far the accuracy is from 0 or 1."""
    groups: dict[tuple[int, float], list[float]] = {}
    for each in found:
        n, p = re.match(r"n (\d+), p ([0-9.]+)", each.setting).groups()  # pyright: ignore
        groups.setdefault((int(n), min(float(p), round(1 - float(p), 4))), []).append(each.coverage)
    for n in sorted({n for n, _ in groups}):
        cells = [
            f"{p:g}: {100 * min(values):.1f} to {100 * max(values):.1f}"
            for (own, p), values in sorted(groups.items())
            if own == n
        ]
        yield f"    n {n}, accuracy or its complement {'; '.join(cells)}"


def shown(found: Sequence[Coverage]) -> dict[str, Any]:
    """Prints what was measured of one interval, and returns it."""
    row = line(found[0].interval, found)
    print(
        f"{row['interval']:40} {row['settings']:8} {row['mean']:6.3f} {row['least']:6.3f} "
        f"{row['most']:6.3f} {row['below']:6} {row['above']:6}",
        *(f"    {each}" for each in row["worst"]),
        *by_setting(found),
        sep="\n",
        flush=True,
    )
    return row | {"all": [vars(each) for each in found]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--only", choices=[*INTERVALS, "tests", "power"])
    parser.add_argument("--out")
    chosen = parser.parse_args()
    report: dict[str, Any] = {"draws": chosen.draws, "intervals": []}
    print(f"{'interval':40} settings   mean  least   most  <94 %  >97 %")
    for key, measure in INTERVALS.items():
        if chosen.only in (None, key):
            by_interval: dict[str, list[Coverage]] = {}
            for one in measure(chosen.draws):
                by_interval.setdefault(one.interval, []).append(one)
            for found in by_interval.values():
                report["intervals"].append(shown(found))
    if chosen.only in (None, "tests"):
        report["false alarms at 5 %"] = alarms = tests(chosen.draws)
        print(*(f"false alarms of {name}: {share:.4f}" for name, share in alarms.items()), sep="\n")
    if chosen.only in (None, "power"):
        report["power"] = [*of_single(chosen.draws), *of_samples(chosen.draws)]
        for name, promised, hits in report["power"]:
            print(f"power, {name}: {promised:.3f} promised, {hits:.3f} measured")
    if chosen.out:
        with open(chosen.out, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
