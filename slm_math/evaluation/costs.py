"""Accuracy against tokens: agents at equal cost, paired by problem.

An agent with several samples of each problem is a curve: one sample, and votes of two samples and
more, which end once they are decided. Its accuracy at a budget between two of these is that of a
mixture of both whose mean cost is the budget, and beyond the last it stays as it is. The variance
of a difference at an equal budget has both parts, that of outcomes and that of costs, which decide
the share of the mixture (the delta method).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from slm_math.agents.majority_vote import decided
from slm_math.evaluation.compare import check_paired, holm
from slm_math.evaluation.outcomes import Outcome, outcome
from slm_math.metrics.arrays import grouped, in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.differences import (
    clustered_error,
    clustered_interval,
    spread_error,
    spread_interval,
)
from slm_math.metrics.intervals import t_inside
from slm_math.metrics.samples import answer_classes, interval_of_means

NO_TOKENS = "has no numbers of tokens: its records come from a tool that does not write them"


@dataclass(frozen=True)
class Spending:
    """An agent with a vote of `votes` samples of each problem (1: no vote), (P,) each.

    Args:
        right: the share of right answers of each problem.
        tokens: the mean cost of each problem.
        low, high: the 95 % interval of the mean of `right`.
    """

    votes: int
    right: np.ndarray
    tokens: np.ndarray
    low: float
    high: float

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def cost(self) -> float:
        """Tokens of a problem, in the mean."""
        return float(self.tokens.mean())


@dataclass(frozen=True)
class Curve:
    """What an agent makes of more tokens: points of rising cost, over the same problems.

    `units` are the independent observations that problems belong to, (P,).
    """

    name: str
    points: tuple[Spending, ...]
    units: np.ndarray

    def at(self, budget: np.ndarray) -> np.ndarray | None:
        """Values by problem (P,), whose mean is the accuracy at a budget, given its tokens by
        problem (P,), and whose variance is that of this accuracy; None below the first point.
        """
        cost = float(budget.mean())
        first, last = self.points[0], self.points[-1]
        if cost < first.cost:
            return None
        if cost >= last.cost:
            return last.right
        n = max(n for n, point in enumerate(self.points) if point.cost <= cost)
        one, other = self.points[n], self.points[n + 1]
        share = (cost - one.cost) / (other.cost - one.cost)
        mixed = (1 - share) * one.right + share * other.right
        # what a problem with unusual costs does to the share
        more = budget - one.tokens - share * (other.tokens - one.tokens)
        slope = (other.accuracy - one.accuracy) / (other.cost - one.cost)
        return mixed + slope * more


@dataclass(frozen=True)
class AtEqualCost:
    """An agent and the baseline with the same budget, in tokens of a problem.

    `point` is the agent's own, if the budget is its cost. `difference` of accuracies, with its 95 %
    interval and p (Student's t over problems), also corrected for all rows (Holm); `baseline` is
    None where the baseline cannot do with so few tokens.
    """

    name: str
    budget: float
    accuracy: float
    point: Spending | None = None
    baseline: float | None = None
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    p_adjusted: float = 1.0

    @property
    def better(self) -> int:
        """1 where the agent is shown to be better, -1 where the baseline is, else 0."""
        if self.baseline is None or self.p_adjusted >= 0.05:
            return 0
        return 1 if self.difference > 0 else -1


def curves(runs: Mapping[str, Samples], prompt_weight: float = 0.0) -> list[Curve]:
    """The curve of each run; a token of a prompt costs `prompt_weight` of a sampled one.

    Raises ValueError for runs of different problems, and for one without numbers of tokens.
    """
    (first, samples), *_ = runs.items()
    baseline = outcome(samples)
    found = []
    for name, own in runs.items():
        other = outcome(own)
        check_paired(first, baseline, name, other)
        found.append(_curve(name, own, baseline, other, prompt_weight=prompt_weight))
    return found


def _curve(
    name: str, samples: Samples, baseline: Outcome, own: Outcome, *, prompt_weight: float
) -> Curve:
    tokens = samples.turns.sums(1)
    if prompt_weight:
        prompts = [sum(turn.prompt_tokens for turn in one.turns) for one in samples.records]
        tokens = tokens + prompt_weight * np.array(prompts, float)[samples.rows]
    if not tokens.any():
        raise ValueError(f"{name} {NO_TOKENS}")
    right = samples.fact(lambda one: one.correct and not one.broken)
    order, starts = samples.groups()
    groups = [order[start:end] for start, end in pairwise(starts)]
    fewest = min(map(len, groups))
    sizes = [1, *votes_of(fewest)]
    table = np.array([_problem(samples, some, right, tokens, sizes=sizes) for some in groups])
    table = table[baseline.places_in(own)]  # (P, votes, 2), in the order of the baseline
    units = baseline.units
    points: list[Spending] = []
    for column, votes in enumerate(sizes):
        shares = table[:, column, 0]
        if points and np.array_equal(points[-1].right, shares):
            continue  # such as of equal samples: a vote changes nothing
        low, high = interval_of_means(shares, units)
        points.append(Spending(votes, shares, table[:, column, 1], low=low, high=high))
    return Curve(name, tuple(points), units)


def votes_of(samples: int) -> list[int]:
    """Votes of how many samples are shown: 3, 5, 9, 17 and the most that there are; odd ones, since
    a vote of one more only adds ties.
    """
    most = samples - (samples % 2 == 0)
    sizes = {2**power + 1 for power in range(1, samples.bit_length())} | {most}
    return sorted(size for size in sizes if 3 <= size <= most)


def _problem(
    samples: Samples,
    places: np.ndarray,
    right: np.ndarray,
    tokens: np.ndarray,
    *,
    sizes: Sequence[int],
) -> list[tuple[float, float]]:
    """Share right and mean tokens of each vote on a problem, over all places at which it may begin:
    the samples stand in a circle.
    """
    n = len(places)
    labels = answer_classes(samples, places) if len(sizes) > 1 else []
    verdicts, costs = right[places], tokens[places]
    found = [(float(verdicts.mean()), float(costs.mean()))]
    for votes in sizes[1:]:
        ends = [
            _vote([(start + step) % n for step in range(votes)], labels, verdicts, costs)
            for start in range(n)
        ]
        found.append((sum(end[0] for end in ends) / n, sum(end[1] for end in ends) / n))
    return found


def _vote(
    order: Sequence[int], labels: Sequence[int | None], right: np.ndarray, tokens: np.ndarray
) -> tuple[float, float]:
    """Whether a vote is right, and the tokens until it is decided."""
    counts: dict[int, int] = {}  # in the order in which classes came
    first: dict[int, int] = {}
    cost = 0.0
    for n, place in enumerate(order, 1):
        cost += float(tokens[place])
        label = labels[place]
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
            first.setdefault(label, place)
        if decided(list(counts.values()), len(order) - n):
            break
    if not counts:
        return 0.0, cost
    winner = max(counts, key=lambda label: counts[label])  # of equal ones the first
    return float(right[first[winner]]), cost


def at_equal_cost(found: Sequence[Curve]) -> list[AtEqualCost]:
    """Every curve but the first one, which is the baseline, at the costs of its own points and of
    the baseline's that it can do with, in order.
    """
    baseline, *others = found
    rows = []
    for one in others:
        first = one.points[0].cost
        budgets = [*one.points, *(own for own in baseline.points if own.cost > first)]
        budgets.sort(key=lambda point: point.cost)
        rows += [against(baseline, one, budget) for budget in budgets]
    compared = [n for n, row in enumerate(rows) if row.baseline is not None]
    for n, p in zip(compared, holm([rows[n].p for n in compared])):
        rows[n] = replace(rows[n], p_adjusted=p)
    return rows


def against(baseline: Curve, one: Curve, budget: Spending) -> AtEqualCost:
    own, values = one.at(budget.tokens), baseline.at(budget.tokens)
    assert own is not None  # budgets below its first point are none
    point = budget if any(budget is each for each in one.points) else None
    row = AtEqualCost(one.name, budget.cost, float(own.mean()), point)
    if values is None:
        return row
    differences = own - values
    units, numbers = in_order(one.units)
    if len(units) < len(differences):
        order, starts = grouped(numbers)
        clusters = [differences[order[a:b]].tolist() for a, b in pairwise(starts)]
        (low, high), error = clustered_interval(clusters), clustered_error(clusters)
    else:
        listed = differences.tolist()
        (low, high), error = spread_interval(listed), spread_error(listed)
    mean = float(differences.mean())
    p = 1 - t_inside(abs(mean) / error, len(units) - 1) if error else float(mean == 0)
    return replace(
        row, baseline=float(values.mean()), difference=mean, low=low, high=high, p=p, p_adjusted=p
    )
