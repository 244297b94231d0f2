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

IMAGES = "images"
_CLUSTER = 1 << 32  # above the numbers of problems and of their units


def by_cluster(samples: Samples, cluster: str) -> Samples:
    """Samples whose units are clusters: the problems with the same value of a tag, or with the same
    images for "images". A problem without that tag, or without an image, stays a unit.

    Raises ValueError if no problem has that tag, or any image.
    """
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
    return replace(samples, units=np.where(numbers > 0, _CLUSTER + numbers, own))


def clustered_runs(
    runs: Mapping[str, FinishedEvaluation], cluster: str | None
) -> dict[str, FinishedEvaluation]:
    """Evaluations with the samples of `by_cluster`; as they are without a cluster."""
    if cluster is None:
        return dict(runs)
    return {
        name: replace(one, samples=by_cluster(one.samples, cluster)) for name, one in runs.items()
    }
