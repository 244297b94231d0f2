"""The memorization gap: the accuracy on problems minus that on their unseen twins (see
`slm_math.data.twins`), paired by problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slm_math.evaluation.clusters import clustered
from slm_math.evaluation.compare import Comparison, compare, shown_p
from slm_math.evaluation.pairing import Renamed
from slm_math.evaluation.runs import read_beside
from slm_math.metrics.columns import Samples
from slm_math.records.eval_folders import TWIN_OF, TWINS
from slm_math.records.record import Record

# in what the identity of an evaluation of twins differs from that of its problems
OWN = ("twins", "data", "problems")


@dataclass(frozen=True)
class Gap:
    """Problems against their twins: `comparison` has the twins as its baseline, so that its
    difference is the gap. `untwinned` problems have no twin.
    """

    comparison: Comparison
    untwinned: int

    @property
    def metrics(self) -> dict[str, float]:
        """Under the names that training logs."""
        one = self.comparison
        return {
            "twin_accuracy": one.accuracy[0],
            "twinned_accuracy": one.accuracy[1],
            "gap": one.difference,
            "gap_low": one.low,
            "gap_high": one.high,
            "gap_p": one.p,
            "gap_problems": one.problems,
        }

    def shown(self) -> str:
        """In per cent: `60.0, on twins 55.0: memorization gap +5.0 [-2.1, 12.0], p = 0.180, n =
        100`.
        """
        one, p = self.comparison, shown_p(self.comparison.p)
        twins, problems = (100 * share for share in one.accuracy)
        return (
            f"{problems:.1f}, on twins {twins:.1f}: memorization gap {one.shown_difference()}, p "
            f"{p if p.startswith('<') else f'= {p}'}, n = {one.problems}"
        ) + (f" (without a twin: {self.untwinned})" if self.untwinned else "")


def memorization_gap(
    problems: Samples | Sequence[Record],
    twins: Samples | Sequence[Record],
    cluster: str | None = None,
) -> Gap:
    """Problems against their twins, paired by the tag `twin_of` of the twins; `cluster` as in
    `clustered`.

    Raises ValueError for twins of other problems.
    """
    every, others = Samples.of(problems), Samples.of(twins)
    first = {record.id: place for place, record in reversed(list(enumerate(every.records)))}
    rows, places = [], []
    for row, twin in enumerate(others.records):
        parent = twin.tags.get(TWIN_OF)
        if parent not in first:
            raise ValueError(f"{twin.id} is the twin of no problem of the evaluation ({parent})")
        rows.append(row)
        places.append(first[parent])
    renamed = clustered(
        Samples.of(_AsParents(others.records, rows, every.records, places)), cluster
    )
    twinned = every.also_in(renamed)
    [comparison] = compare({"twins": renamed, "problems": every.where(twinned)})
    return Gap(comparison, len(np.unique(every.problems[~twinned])))


class _AsParents(Renamed):
    """Records of twins as records of their problems, also if these show other images."""

    def _renamed(self, own: Record, model: Record) -> Record:
        return replace(super()._renamed(own, model), images=model.images, draft=model.draft)


def read_gap(folder: Path, cluster: str | None = None) -> Gap | None:
    """An agent's evaluation against that of its twins; None if there is none. `cluster` as in
    `clustered`.

    Raises ValueError if one of them is unfinished, or if they differ in more than their problems.
    """
    refusal = (
        "has the twins of another evaluation ({} differ): evaluate again with twins, or remove it"
    )
    both = read_beside(folder, TWINS, OWN, refusal)
    if both is None:
        return None
    problems, twins = both
    return memorization_gap(clustered(problems, cluster), twins, cluster)


def gap_lines(folders: Mapping[str, Path], cluster: str | None = None) -> Iterable[str]:
    """A line for every evaluation that has one of twins, by the name of its agent."""
    for name, folder in folders.items():
        try:
            gap = read_gap(folder, cluster)
        except ValueError as error:
            yield f"{name} is not compared with its twins: {error}"
        else:
            if gap is not None:
                yield f"{name}: {gap.shown()}"
