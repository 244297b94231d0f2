"""Problems that belong together, such as instances of one template or questions about one image: as
one unit each in intervals and tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from slm_math.evaluation.runs import FinishedEvaluation
from slm_math.metrics.arrays import as_column
from slm_math.metrics.columns import Samples
from slm_math.metrics.warnings import same_texts, same_texts_line

IMAGES, PROBLEM = "images", "problem"
_CLUSTER = 1 << 32  # above the numbers of problems and of their units


def by_cluster(samples: Samples, cluster: str) -> Samples:
    """Samples whose units are clusters: the problems with the same value of a tag, or with the same
    images for "images". A problem without that tag, or without an image, stays a unit. "problem"
    stands for none: every problem is a unit, also an instance of a template (whose units are else
    the templates, see `unit_of`).

    Raises ValueError if no problem has that tag, or any image.
    """
    if cluster == PROBLEM:
        drafts = samples.fact(lambda one: one.answer_type == "verdict") > 0
        return replace(
            samples, units=np.where(drafts, samples.units, samples.problems), cluster=None
        )
    if cluster in samples.tags:
        numbers = samples.tags[cluster].astype(np.int64)
    elif cluster == IMAGES and len(samples.tables.shown):
        digests = as_column(samples.tables.shown)
        _, places = np.unique(digests, return_inverse=True)
        numbers = np.where(digests == 0, 0, places + 1)[samples.problems]
    else:
        known = [*sorted(samples.tags), *([IMAGES] if len(samples.tables.shown) else [])]
        raise ValueError(
            f"no problem has a tag {cluster} to cluster by; there are {', '.join(known) or 'none'}"
        )
    own = samples.units.astype(np.int64)
    units = np.where(numbers > 0, _CLUSTER + numbers, own)
    return replace(samples, units=units, cluster=cluster)


def clustered(samples: Samples, cluster: str | None) -> Samples:
    """The samples of `by_cluster`; as they are without a cluster."""
    return samples if cluster is None else by_cluster(samples, cluster)


def units_lines(samples: Samples) -> list[str]:
    """Lines on which units intervals and tests have, if these are not the problems, or if some of
    them are the same.
    """
    units, problems = (len(np.unique(each)) for each in (samples.units, samples.problems))
    same = same_texts_line(same_texts(samples), problems)
    if samples.cluster is None:
        return same
    return [
        *same,
        f"the units of intervals and tests are {units:,} clusters of the {problems:,} problems, by "
        f"{samples.cluster} (--cluster problem: each problem is one)",
    ]


def clustered_runs(
    runs: Mapping[str, FinishedEvaluation], cluster: str | None
) -> dict[str, FinishedEvaluation]:
    """Evaluations with the samples of `clustered`."""
    return {
        name: replace(one, samples=clustered(one.samples, cluster)) for name, one in runs.items()
    }
