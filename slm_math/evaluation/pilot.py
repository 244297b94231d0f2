"""What two runs of a few problems say about how many a comparison needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slm_math.evaluation.compare import check_paired
from slm_math.evaluation.outcomes import outcome
from slm_math.evaluation.power import Design, Variances
from slm_math.metrics.arrays import in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.intervals import wilson
from slm_math.metrics.samples import interval_of_means
from slm_math.records.record import Record

LEAST = 10  # problems of a pilot


@dataclass(frozen=True)
class Pilot:
    """Two runs of the same `problems`, with at least as many `samples` of each.

    `discordance` is the share of problems on which a sample of one run and a sample of the other
    differ, with its 95 % interval (`low`, `high`); `design` the design effect of clusters, such as
    several drafts of one problem. `table` has right and sampled of both runs: (P, 4).
    """

    problems: int
    samples: int
    discordance: float
    low: float
    high: float
    design: float
    table: np.ndarray

    @property
    def variances(self) -> Variances | None:
        """The variance between problems and within them; None for single samples, which do not
        tell them apart.
        """
        if self.samples < 2:
            return None
        return Variances.of([(a, b, c, d) for a, b, c, d in self.table.tolist()])

    def designs(self, samples: int) -> list[Design]:
        """Comparisons with as many samples: as the pilot is, and at both ends of the 95 % interval
        of its discordance, with which variances grow and shrink.
        """
        found = self.variances
        designs = []
        for discordance in (self.discordance, self.low, self.high):
            factor = discordance / self.discordance if self.discordance else 1.0
            scaled = found and replace(
                found, between=found.between * factor, within=found.within * factor
            )
            design = Design(samples, discordance, scaled, self.design)
            designs.append(design)
        return designs


def pilot(runs: Mapping[str, Samples | Sequence[Record]]) -> Pilot:
    """The pilot that two runs are.

    Raises ValueError for other than two runs, for runs of different problems, and for fewer than 10
    problems.
    """
    if len(runs) != 2:
        raise ValueError(f"a pilot is two runs of the same problems, got {len(runs)}")
    (a, before), (b, after) = ((name, outcome(Samples.of(some))) for name, some in runs.items())
    check_paired(a, before, b, after)
    places = before.places_in(after)
    table = np.stack(
        [before.right, before.sizes, after.right[places], after.sizes[places]], axis=1
    ).astype(np.int64)
    n = len(table)
    if n < LEAST:
        raise ValueError(f"a pilot of {n} problems says nothing: evaluate at least {LEAST}")
    old, new = table[:, 0] / table[:, 1], table[:, 2] / table[:, 3]
    differing = old + new - 2 * old * new
    samples = int(table[:, [1, 3]].min())
    _, units = in_order(before.units)
    if samples == 1 and int(units.max()) + 1 == n:
        low, high = wilson(float(differing.sum()), n)
    else:
        low, high = interval_of_means(differing, units)
    return Pilot(
        problems=n,
        samples=samples,
        discordance=float(differing.mean()),
        low=low,
        high=high,
        design=design_effect(new - old, units),
        table=table,
    )


def design_effect(differences: np.ndarray, units: np.ndarray) -> float:
    """How many times larger the variance of the mean of differences is, if those of one unit belong
    together, than if all were independent (Kish 1965); at least 1, and 1 without any variance.
    """
    n, clusters = len(differences), int(units.max()) + 1
    residuals = differences - differences.mean()
    alone = n / (n - 1) * float((residuals**2).sum()) / n**2
    if clusters == n or clusters < 2 or not alone:
        return 1.0
    sums = np.bincount(units, weights=residuals, minlength=clusters)
    together = clusters / (clusters - 1) * float((sums**2).sum()) / n**2
    return max(together / alone, 1.0)
