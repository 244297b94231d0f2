import pytest

from slm_math.evaluation.metrics import clustered, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81/263 -> .2553, .3662 and 0/20 -> 0, .1611
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


def test_clustered_interval_ignores_how_often_a_problem_was_sampled() -> None:
    assert clustered([1.0, 0.0] * 50) == pytest.approx((0.5 - 0.0985, 0.5 + 0.0985), abs=1e-3)
