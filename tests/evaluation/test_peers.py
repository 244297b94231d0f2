"""Statistics that scipy 1.17.1 and statsmodels 0.15.0 have as well: the numbers are theirs."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from evaluation.test_compare import with_partial_units

from slm_math.evaluation.compare import (
    holm,
    mcnemar,
    sign_flip,
)
from slm_math.metrics.differences import (
    clustered_error,
    clustered_interval,
    spread_error,
    spread_interval,
)
from slm_math.metrics.intervals import mean_interval, t_inside, wilson

DIFFERENCES = [0.5, 0.25, -0.25, 0.75, 1.0, 0.0, 0.5, -0.5, 0.25, 0.75]
CLUSTERS = [
    [1, 0, 1],
    [0, 0],
    [1, 1, 1, 1],
    [-1, 0, 1],
    [0],
    [1, 0, 0, 1, 1],
    [-1, -1],
    [0, 1],
]


@pytest.mark.parametrize(
    ("k", "n", "ends"),
    [  # statsmodels' proportion_confint(k, n, method="wilson")
        (0, 30, (0.0, 0.1135133931739688)),
        (1, 30, (0.005908590381612455, 0.16670390991409176)),
        (17, 30, (0.39197307000813597, 0.7262251442353348)),
        (250, 1319, (0.16929916347306653, 0.21157902526306963)),
        (300, 300, (0.9873570287754538, 1.0)),
    ],
)
def test_wilson(k: int, n: int, ends: tuple[float, float]) -> None:
    assert wilson(k, n) == pytest.approx(ends, abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [  # statsmodels' mcnemar(exact=True)
        (0, 0, 1.0),
        (5, 0, 0.0625),
        (12, 4, 0.076812744140625),
        (30, 30, 1.0),
        (70, 41, 0.0075848117754316186),
    ],
)
def test_mcnemar(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, rel=1e-12)


def test_holm() -> None:
    # statsmodels' multipletests(method="holm")
    ps = [0.011, 0.02, 0.04, 0.0005, 0.5, 0.02]
    assert holm(ps) == pytest.approx([0.055, 0.08, 0.08, 0.003, 0.5, 0.08])


def test_sign_flips() -> None:
    # scipy.stats.permutation_test(permutation_type="samples", n_resamples=inf) of the mean
    assert sign_flip(map(Fraction, DIFFERENCES)) == 0.0859375


def test_the_interval_of_a_mean() -> None:
    # scipy.stats.ttest_1samp(...).confidence_interval()
    ends = (-0.01274897857121543, 0.6627489785712155)
    assert mean_interval(DIFFERENCES) == pytest.approx((0.325, *ends), rel=1e-6)


def test_the_error_of_a_mean_difference() -> None:
    # scipy.stats.sem and t.ppf(0.975, 9)
    error, t = 0.14930394055974097, 2.2621571628540993
    assert spread_error(DIFFERENCES) == pytest.approx(error, rel=1e-12)
    ends = with_partial_units(0.325, error, 10, t)
    assert spread_interval(DIFFERENCES) == pytest.approx(ends, rel=1e-6)


@pytest.mark.parametrize(
    ("t", "freedom", "inside"),
    [  # scipy.stats.t.cdf(t, freedom) - scipy.stats.t.cdf(-t, freedom)
        (1.0, 1, 0.5),
        (2.5, 2, 0.8703882797784892),
        (2.0, 7, 0.914380671437024),
        (3.1, 30, 0.9958155151394492),
    ],
)
def test_students_t(t: float, freedom: int, inside: float) -> None:
    assert t_inside(t, freedom) == pytest.approx(inside, rel=1e-12)


def test_the_error_of_a_mean_over_clusters() -> None:
    # statsmodels' OLS of a constant, fit(cov_type="cluster", use_t=True): params, bse, t
    mean, error, t = 0.36363636, 0.20654072, 2.36462425
    assert clustered_error(CLUSTERS) == pytest.approx(error, rel=1e-7)
    squares = (error * 22) ** 2 * 7 / 8  # of the clusters' sums, whose sizes are 2.75 in the mean
    own = math.sqrt(squares / 2.75**2 / 7 / 8)
    ends = with_partial_units(mean, own, 8, t)
    assert clustered_interval(CLUSTERS) == pytest.approx(ends, rel=1e-6)
