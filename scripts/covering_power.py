"""Parts of truth.py: whether comparisons find differences as often as `power` promises, and the
interval of a pilot's discordance.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from covering import Coverage, measured, probabilities

from slm_math.evaluation.compare import mcnemar, sign_flip
from slm_math.evaluation.power import POWER, Design, Variances
from slm_math.metrics.intervals import wilson
from slm_math.metrics.samples import interval_of_means

FLIPS = 1000


@lru_cache(maxsize=1 << 20)
def found(gained: int, lost: int) -> bool:
    return mcnemar(gained, lost) < 0.05


def of_single(draws: int) -> Iterator[tuple[str, float, float]]:
    """One sample per problem: (setting, promised, measured) with the number of problems that
    `power` names for 80 %, with half of it, and with the smallest difference that 1,319 see.
    """
    draw = np.random.default_rng(19)
    for discordance in (0.1, 0.2, 0.4):
        design = Design(discordance=discordance)
        for difference in (0.02, 0.05, 0.1):
            needed = design.problems(difference) or 0
            for n in (needed, needed // 2):
                yield _single(design, n, difference, draws, draw=draw)
        for n in (100, 300, 1319):
            yield _single(design, n, design.detectable(n) or 1.0, draws, draw=draw)


def _single(
    design: Design, n: int, difference: float, draws: int, *, draw: Any
) -> tuple[str, float, float]:
    share = max(design.discordance, difference)
    changed = draw.binomial(n, share, draws)
    gained = draw.binomial(changed, (share + difference) / (2 * share))
    hits = [found(*each) for each in zip(gained.tolist(), (changed - gained).tolist())]
    name = f"n {n}, discordance {share:g}, {100 * difference:.1f} points"
    return name, design.power(n, difference), float(np.mean(hits))


def of_samples(draws: int) -> Iterator[tuple[str, float, float]]:
    """Several samples per problem, with the true variances, at the n that is named for 80 %."""
    draw = np.random.default_rng(20)
    for spread in (2.0, 10.0):
        for difference in (0.1,):
            for m in (4, 16):
                # own probabilities p, and those of the other run: a little better on all problems
                slope = difference / (0.25 * spread / (spread + 1))
                own = draw.beta(0.5 * spread, 0.5 * spread, 1_000_000)
                gain = slope * own * (1 - own)
                within = float((own * (1 - own) + (own + gain) * (1 - own - gain)).mean())
                variances = Variances(float(gain.var()), within)
                design = Design(m, 0.2, variances)
                n = design.problems(difference, POWER) or 0
                chances = probabilities(0.5, spread, (draws, n), draw)
                better = chances + slope * chances * (1 - chances)
                change = draw.binomial(m, better) - draw.binomial(m, chances)
                rows = ([Fraction(value, m) for value in row] for row in change.tolist())
                hits = [sign_flip(row, FLIPS) < 0.05 for row in rows]
                name = f"n {n}, {m} samples, spread {spread}, {100 * difference:.0f} points"
                yield name, design.power(n, difference), float(np.mean(hits))


def pilots(draws: int) -> Iterator[Coverage]:
    """The discordance of a pilot of two runs, from which `power` computes its ends."""
    draw = np.random.default_rng(21)
    for m in (1, 4, 16):
        for n in (30, 100, 300):
            for p in (0.1, 0.5, 0.9):
                for spread in (0.3, 2.0, 10.0):
                    own = probabilities(p, spread, (draws, n), draw)
                    variance = p * (1 - p) * spread / (spread + 1)
                    right = draw.binomial(m, own) / m, draw.binomial(m, own) / m
                    differing = right[0] + right[1] - 2 * right[0] * right[1]
                    units = np.arange(n)
                    ends = (
                        wilson(float(row.sum()), n) if m == 1 else interval_of_means(row, units)
                        for row in differing
                    )
                    name = f"n {n}, p {p}, {m} samples, spread {spread}"
                    yield measured("discordance of a pilot", name, 2 * variance, ends)
