"""What a turn was worth, of the recorded evaluation and its two arms.

Left out: the accuracy as recorded minus that without the turn, paired by problem; the average
effect of the turn on the outcome. Drawn again: how often the outcome is another one. A recorded
turn is itself a draw, so the mean difference of this arm is 0 but for chance; what it shows is how
much of the outcome hangs on this draw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slm_math.evaluation.compare import Comparison, compare
from slm_math.metrics.columns import Samples
from slm_math.metrics.differences import clustered_interval
from slm_math.metrics.intervals import pooled

Key = tuple[str, int]  # of a workflow: problem and sample


@dataclass(frozen=True)
class Worth:
    """What an arm shows of a turn.

    `comparison` is of the whole evaluation: the recorded run against the arm. `difference`, `low`
    and `high` are the same for the `n` workflows that have the turn, of `problems` problems.
    `changed` is the share of the `reruns` of these that end otherwise (right instead of wrong, or
    wrong instead of right), with its interval; `lost` of the `right` ones became wrong, `gained` of
    the others right.
    """

    comparison: Comparison
    difference: float
    low: float
    high: float
    n: int
    problems: int
    reruns: int
    changed: float
    changed_low: float
    changed_high: float
    right: int
    lost: int
    gained: int


def worth(name: str, run: Samples, arm: str, samples: Samples, reached: Sequence[Key]) -> Worth:
    """What an arm shows, whose samples of each recorded one follow each other; `reached` are the
    workflows that have the turn.
    """
    [comparison] = compare({arm: samples, name: run})
    recorded = _right(run)
    each = len(samples) // len(run)
    again = _right(samples)
    differences: dict[int, list[float]] = defaultdict(list)
    changes: dict[int, list[int]] = defaultdict(list)
    lost = gained = 0
    units = dict(zip(run.problems.tolist(), run.units.tolist(), strict=True))
    for id, sample in reached:
        unit = units[run.tables.problems.get(id)]
        own = recorded[id, sample]
        others = [again[id, sample * each + draw] for draw in range(each)]
        differences[unit].append(own - sum(others) / each)
        changes[unit] += [own != other for other in others]
        lost += sum(own and not other for other in others)
        gained += sum(other and not own for other in others)
    low, high = clustered_interval(list(differences.values()))
    changed = [sum(some) for some in changes.values()]
    sizes = [len(some) for some in changes.values()]
    ends = pooled(changed, sizes)
    return Worth(
        comparison=comparison,
        difference=sum(map(sum, differences.values())) / len(reached),
        low=low,
        high=high,
        n=len(reached),
        problems=len(differences),
        reruns=sum(sizes),
        changed=sum(changed) / sum(sizes),
        changed_low=ends[0],
        changed_high=ends[1],
        right=each * sum(recorded[key] for key in reached),
        lost=lost,
        gained=gained,
    )


def _right(samples: Samples) -> Mapping[Key, bool]:
    """Whether each sample is right; one that broke is not."""
    return {own.key: own.correct and not own.broken for own in samples.records}
