"""Ratios of sums, means and projections, with their 95 % intervals."""

from __future__ import annotations

import math
import random

import pytest

from slm_math.metrics.intervals import projected, ratio


def test_interval_of_a_mean_is_students() -> None:
    # t with 3 degrees of freedom: 3.182446; standard deviation sqrt(5/3)
    half = 3.182446 * math.sqrt(5 / 3) / 2
    assert ratio([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - half, 2.5 + half), abs=1e-5)


def test_interval_of_a_ratio_solves_fiellers_equation() -> None:
    parts, wholes = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0], [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    value, low, high = ratio(parts, wholes)
    assert value == pytest.approx(23 / 5)
    for end in (low, high):
        residuals = [part - end * whole for part, whole in zip(parts, wholes)]
        mean = sum(residuals) / 6
        error = math.sqrt(sum((each - mean) ** 2 for each in residuals) / 5 / 6)
        assert abs(mean) / error == pytest.approx(2.570582, abs=1e-5)  # t with 5 degrees


def test_ratio_whose_denominator_may_be_zero_has_no_upper_end() -> None:
    value, low, high = ratio([1.0] * 20, [1.0] + [0.0] * 19)
    assert (value, high) == (20, math.inf)
    assert 0 < low < 20


@pytest.mark.parametrize(
    ("parts", "wholes", "expected"),
    [([2.0], [1.0], (2.0, 0.0, math.inf)), ([2.0, 2.0], [1.0, 1.0], (2.0, 2.0, 2.0))],
)
def test_few_or_equal_units(parts: list[float], wholes: list[float], expected: object) -> None:
    assert ratio(parts, wholes) == expected


def test_ratio_to_nothing_is_unknown() -> None:
    value, low, high = ratio([1.0, 2.0], [0.0, 0.0])
    assert math.isnan(value)
    assert (low, high) == (0.0, math.inf)


def test_ratio_covers_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(0)

    def unit() -> tuple[float, float]:
        accepted = draw.random() < 0.4
        return (1.0 if accepted else 3.0) + draw.random(), float(accepted)

    truth = (0.4 * 1.5 + 0.6 * 3.5) / 0.4
    inside = 0
    for _ in range(500):
        _, low, high = ratio(*zip(*(unit() for _ in range(40))))
        inside += low <= truth <= high
    assert 0.925 < inside / 500 < 0.975


def test_projection_of_all_units_is_their_sum() -> None:
    assert projected([1.0, 2.0, 3.0], 3) == (6.0, 6.0, 6.0)


def test_projection_covers_the_rest_as_often_as_it_says() -> None:
    draw = random.Random(1)
    inside = 0
    for _ in range(500):
        values = [draw.random() ** 2 for _ in range(60)]
        _, low, high = projected(values[:15], 60)
        inside += low <= sum(values) <= high
    assert 0.925 < inside / 500 < 0.975


def test_projection_is_never_below_what_is_known() -> None:
    value, low, high = projected([0.0, 0.0, 30.0], 30)
    assert value == 300
    assert low == 30
    assert high > 300
