import pytest

from slm_math.metrics.intervals import clustered, pooled, t_point, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81/263 -> .2553, .3662 and 0/20 -> 0, .1611
    low, high = wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("freedom", "point"),
    # published tables of Student's t, two-sided 95 %
    [
        (1, 12.706205),
        (2, 4.302653),
        (3, 3.182446),
        (4, 2.776445),
        (5, 2.570582),
        (7, 2.364624),
        (10, 2.228139),
        (29, 2.045230),
        (30, 2.042272),
        (31, 2.039513),
        (60, 2.000298),
        (120, 1.979930),
        (1318, 1.961766),
    ],
)
def test_points_of_student_t_are_those_of_the_tables(freedom: int, point: float) -> None:
    assert t_point(freedom) == pytest.approx(point, abs=1e-6)


def test_clustered_interval_ignores_how_often_a_problem_was_sampled() -> None:
    assert clustered([1.0, 0.0] * 50) == pytest.approx((0.5 - 0.0985, 0.5 + 0.0985), abs=1e-3)


def test_interval_of_pooled_observations_is_around_their_share() -> None:
    """Also where problems have very different numbers of marks."""
    for groups in (
        [[1.0] * 40, [0.0], [1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0], [0.0] * 25, [1.0] * 3],
        [[1.0, 0.0]] * 9,
    ):
        marks = [mark for group in groups for mark in group]
        low, high = pooled(list(map(sum, groups)), list(map(len, groups)))
        assert low <= sum(marks) / len(marks) <= high
    assert pooled([1.0, 0.0, 1.0], [1, 1, 1]) == wilson(2, 3)
    assert pooled([1.0, 2.0, 0.0], [2, 2, 2]) == pytest.approx(clustered([0.5, 1.0, 0.0]))
