"""What ranks share, against what was measured of two of them (docs/measurements/sharding.md)."""

from __future__ import annotations

import pytest

from slm_math.planning.memory import Resident
from slm_math.planning.network import Sizes
from slm_math.planning.sharing import Sharing

LAYERS, WIDTH = 12, 768
LAYER = (108_000_000 - 8192 * WIDTH) // LAYERS
SMALL, LARGE = 8192, 32768  # vocabularies


def sizes_of(vocabulary: int) -> Sizes:
    outside = vocabulary * WIDTH
    weights = outside + LAYERS * LAYER
    return Sizes(
        weights=weights,
        trained=weights,
        matrices=LAYERS * LAYER,
        largest=outside,
        orthogonal=LAYERS * LAYER,
        token=0,
        vocabulary=vocabulary,
        layers=LAYERS,
        width=WIDTH,
    )


@pytest.mark.parametrize(
    ("kind", "vocabulary", "again", "measured"),
    [
        ("copies", SMALL, False, 2118),
        ("moments", SMALL, False, 1139),
        ("slices", SMALL, False, 1032),
        ("copies", LARGE, True, 2501),
        ("moments", LARGE, True, 1639),
        ("slices", LARGE, True, 1387),
    ],
)
def test_two_ranks_take_what_was_measured(
    kind: str, vocabulary: int, again: bool, measured: int
) -> None:
    sizes, alone = sizes_of(vocabulary), {SMALL: 1774, LARGE: 2206}[vocabulary]
    n = sizes.weights
    whole = Resident(weights=4 * n, reference=0, teacher=0, moments=8 * n, gradients=4 * n)
    activations = (alone << 20) - 16 * n  # what else one process took
    sharing = Sharing(kind, ranks=2)  # type: ignore[arg-type]
    own = sharing.own(whole, sizes, rounded=False, adapters=False, again=again)
    passing = sharing.passing(sizes, rounded=False, adapters=False, again=again)
    if kind == "slices" and not again:
        # the rehearsal has the gradients of what is whole
        passing += 4 * (sizes.weights - sizes.matrices) + 8 * LAYER
    taken = own.networks + own.moments + own.gradients + passing + activations
    assert taken / 2**20 == pytest.approx(measured, rel=0.12)


def test_adapters_stay_whole_where_their_base_is_sliced() -> None:
    sizes = Sizes(1000, 100, 800, 10, 90, token=0, vocabulary=10, layers=4, width=8)
    whole = Resident(weights=4000, reference=0, teacher=0, moments=800, gradients=400)
    own = Sharing("slices", ranks=3).own(whole, sizes, rounded=False, adapters=True, again=True)
    assert own == Resident(weights=400 + 1200, reference=0, teacher=0, moments=800, gradients=400)


def test_one_rank_shares_nothing() -> None:
    sizes, whole = sizes_of(SMALL), Resident(4, 0, 0, 8, 4)
    for kind in ("copies", "moments", "slices"):
        sharing = Sharing(kind, copy=True)  # type: ignore[arg-type]
        assert sharing.own(whole, sizes, rounded=True, adapters=False, again=True) == whole
        assert sharing.passing(sizes, rounded=True, adapters=False, again=True) == 0
        assert sharing.decoding(sizes, rounded=True) == 0
