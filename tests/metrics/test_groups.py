"""Numbers that are added up by problem."""

from slm_math.metrics.groups import Groups


def test_numbers_are_added_up_by_problem_in_order() -> None:
    groups = Groups(2)
    assert groups.add("a", (1, 0)) == (1, 0)
    assert groups.add(1, (1, 1)) == (1, 1)
    assert groups.add("1", (2, 1)) == (2, 1)
    assert groups.add("a", (1, 1)) == (2, 1)
    assert groups.add(True, (1, 0)) == (1, 0)
    assert list(groups) == [(2, 1), (1, 1), (2, 1), (1, 0)]
    assert len(groups) == 4
