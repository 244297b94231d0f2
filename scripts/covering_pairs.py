"""Parts of truth.py: differences of two runs, of their control arms and twins, over seeds, and at
equal cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from covering import (
    ACCURACIES,
    HALF,
    LARGE,
    PROBLEMS,
    SPREADS,
    Coverage,
    counted,
    differences,
    measured,
    probabilities,
    two,
)

from slm_math.evaluation.costs import Curve, Spending, against
from slm_math.evaluation.seeds import compared, levels
from slm_math.metrics.differences import paired_interval

GRID = np.linspace(-9, 9, 40_001)
CDF = np.array([NormalDist().cdf(x) for x in GRID])


def of_cells(
    gained: float, lost: float, n: int, *, draws: int, draw: Any
) -> Iterator[tuple[float, float]]:
    """`paired_interval` of evaluations of n problems, of which these shares are gained and lost."""
    cells = draw.multinomial(n, (gained, lost, 1 - gained - lost), draws)
    for won, gone, _ in cells.tolist():
        yield paired_interval(won, gone, n)


def cells(p: float, other: float, alike: float) -> tuple[float, float]:
    """The shares gained and lost between runs with accuracies p and `other`, which have the same
    luck on a share `alike` of the problems.
    """
    gained = alike * max(other - p, 0) + (1 - alike) * (1 - p) * other
    lost = alike * max(p - other, 0) + (1 - alike) * p * (1 - other)
    return gained, lost


def paired(draws: int) -> Iterator[Coverage]:
    """The difference of two runs with a sample for each problem."""
    draw = np.random.default_rng(4)
    gains = ((0.02, 0.0), (0.1, 0.05), (0.3, 0.05), (0.5, 0.0), (0.5, 0.1), (0.7, 0.02))
    for n in PROBLEMS:
        for p, gain in (*gains, (0.9, 0.08), (0.98, 0.0)):
            for alike in (0.0, 0.5, 0.9):
                both = cells(p, p + gain, alike)
                name = f"n {n}, p {p} {gain:+}, alike {alike}"
                ends = of_cells(*both, n, draws=draws, draw=draw)
                yield measured("paired, one sample", name, gain, ends)


def paired_samples(draws: int) -> Iterator[Coverage]:
    """The difference of two runs with several samples for each problem: the second one is a little
    better on all problems ("drift"), or as good, but on a third it finds others hard ("turnover").
    """
    draw = np.random.default_rng(5)
    for m in (4, 16):
        for p in HALF:
            for spread in SPREADS[:3]:
                for kind in ("drift", "turnover"):
                    own, better = two(p, spread, kind, draw)
                    changes, chances = differences(own, better, m)
                    truth = float(changes @ chances)
                    for n in PROBLEMS:
                        sizes = np.ones(len(changes))
                        ends = counted(changes, sizes, chances, n, draws=draws, draw=draw)
                        name = f"n {n}, p {p}, {m} samples, spread {spread}, {kind}"
                        yield measured(f"paired, {m} samples", name, truth, ends)


def control_arms(draws: int) -> Iterator[Coverage]:
    """A run and its control arm, which begin with the same weights: the gain of the run, that of
    the arm, and the gain minus the control. Of the problems on which they have their own luck, the
    run and the arm each change some.
    """
    draw = np.random.default_rng(9)
    for n in PROBLEMS:
        for start, gain, control in (
            (0.1, 0.1, 0.0),
            (0.3, 0.2, 0.02),
            (0.5, 0.1, 0.1),
            (0.5, 0.0, 0.0),
            (0.6, 0.25, -0.55),
            (0.9, 0.05, -0.02),
        ):
            for alike in (0.5, 0.9):
                run, arm = start + gain, start + control
                for what, truth, both in (
                    ("gain", gain, cells(start, run, alike)),
                    ("control", control, cells(start, arm, alike)),
                    ("gain minus control", gain - control, cells(arm, run, alike**2)),
                ):
                    name = f"n {n}, p {start}, alike {alike}: {what} {100 * truth:+.0f} points"
                    ends = of_cells(*both, n, draws=draws, draw=draw)
                    yield measured("gain minus control", name, truth, ends)


def twins(draws: int) -> Iterator[Coverage]:
    """The memorization gap: problems and twins of the same difficulty, of which some are known by
    heart.
    """
    draw = np.random.default_rng(10)
    for n in PROBLEMS:
        for p in ACCURACIES:
            for known in (0.0, 0.2):
                mixed = p * (1 - p) * 2 / 3  # one right and one wrong of two draws, in this order
                # right on the problem and wrong on the twin, and the reverse
                gained, lost = known * (1 - p) + (1 - known) * mixed, (1 - known) * mixed
                name = f"n {n}, p {p}, {100 * known:.0f} % by heart"
                ends = of_cells(gained, lost, n, draws=draws, draw=draw)
                yield measured("memorization gap", name, known * (1 - p), ends)


def seeds(draws: int) -> Iterator[Coverage]:
    """Methods over seeds, whose accuracies differ by seed, by problem and by both: three intervals
    with a truth each. On problem i with seed s a run is right if m + a_s + t z_i + e_si > 0, all of
    them normal, so that each mean over seeds or over problems is the normal distribution's.
    """
    draw = np.random.default_rng(11)
    for number, n in ((3, 30), (3, 300), (3, 1319), (5, 30), (5, 300), (10, 100)):
        for center, of_seeds in ((0.0, 0.0), (0.0, 0.3), (1.3, 0.1), (-1.9, 0.3)):
            found = list(_of_seeds(number, n, center, of_seeds, size=draws, draw=draw))
            p = cdf(np.array(center / np.hypot(1, 0.5))).item()
            for place, key in enumerate(KEYS):
                ends = (one[1][place] for one in found)
                setting = f"n {n}, p {p:.2f}, {number} seeds, deviation {of_seeds}"
                truths = np.array([one[0][place] for one in found])
                yield measured(f"over seeds: {key}", setting, truths, ends)


KEYS = ("other seeds, other problems", "other seeds", "other problems")


def cdf(x: np.ndarray) -> np.ndarray:
    """The normal distribution's, to 1e-8."""
    return np.interp(x, GRID, CDF)


def _of_seeds(
    number: int, n: int, center: float, of_seeds: float, *, size: int, draw: Any
) -> Iterator[tuple[tuple[float, float, float], list[tuple[float, float]]]]:
    """Three truths and three intervals, in the order of `KEYS`, of each evaluation."""
    wide, gain = np.hypot(1, 0.5), 0.2  # of e and t z together
    for _ in range(size):
        problems = 0.5 * draw.standard_normal(n)
        means = center + np.array([0, gain])[:, None] + of_seeds * draw.standard_normal((2, number))
        right = means[:, :, None] + problems + draw.standard_normal((2, number, n)) > 0
        table = right[1].astype(float) - right[0]
        every = np.hypot(wide, of_seeds)
        both = (cdf(np.array(center + gain) / every) - cdf(np.array(center) / every)).item()
        alone = np.hypot(1, of_seeds)
        on_these = cdf((center + gain + problems) / alone) - cdf((center + problems) / alone)
        these = cdf(means[1] / wide) - cdf(means[0] / wide)
        ends = levels(compared(table, n, [(("a", None), ("b", None))] * number))
        yield (both, float(on_these.mean()), float(these.mean())), list(ends.values())


def equal_cost(draws: int) -> Iterator[Coverage]:
    """An agent with one sample against votes of 1, 3 and 5 samples of the baseline, at the cost of
    the agent, between two points of the baseline.
    """
    draw = np.random.default_rng(12)
    for p in (0.1, 0.5, 0.9):
        for tokens in (2.0, 4.0):  # of the agent; a sample of the baseline takes 1
            truth = _at(*_of_votes(p, tokens, LARGE, draw))
            for n in PROBLEMS[:3]:
                ends = (
                    (row.low, row.high)
                    for _ in range(draws)
                    for row in [_row(*_of_votes(p, tokens, n, draw))]
                )
                name = f"n {n}, p {p}, {tokens:g} x the tokens"
                yield measured("at equal cost", name, truth, ends)


def _of_votes(p: float, tokens: float, n: int, draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Right (4, n) and cost (4, n): votes of 1, 3 and 5 of the baseline's samples, and the agent. A
    hard problem takes more tokens.
    """
    chance = probabilities(p, 2.0, (1, n), draw)[0]
    samples = draw.random((5, n)) < chance
    lengths = draw.gamma(3, 1 / 3, (5, n)) * (1.5 - chance)
    circle = [sum(samples[(start + step) % 5] for step in range(3)) > 1 for start in range(5)]
    right = [samples.mean(0), np.mean(circle, axis=0), (samples.sum(0) > 2).astype(float)]
    agent = draw.random(n) < chance + 0.2 * chance * (1 - chance)
    mean = lengths.mean(0)
    cost = [mean, 3 * mean, 5 * mean, tokens * draw.gamma(3, 1 / 3, n) * (1.5 - chance)]
    return np.array([*right, agent]), np.array(cost)


def _at(right: np.ndarray, cost: np.ndarray) -> float:
    """The difference at equal cost, by interpolation of means."""
    means, costs = right.mean(1), cost.mean(1)
    return float(means[3] - np.interp(costs[3], costs[:3], means[:3]))


def _row(right: np.ndarray, cost: np.ndarray) -> Any:
    points = [
        Spending(votes, *pair, low=0.0, high=1.0)
        for votes, *pair in zip((1, 3, 5, 1), right, cost, strict=True)
    ]
    units = np.arange(right.shape[1])
    baseline, agent = Curve("a", tuple(points[:3]), units), Curve("b", (points[3],), units)
    return against(baseline, agent, points[3])
