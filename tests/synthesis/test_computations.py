"""Which computations a solution has, and how a change of one spreads."""

from fractions import Fraction

import pytest

from slm_math.synthesis.computations import parsed, propagated


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("She has 3 + 4 = 7 apples.", ["3 + 4 = 7"]),
        ("3 bags * 4 apples = 12 apples", ["3 bags * 4 apples = 12"]),
        (r"so (240 - 40) \div 2 = \$100", [r"(240 - 40) \div 2 = \$100"]),
        ("2 x 1,500 = 3,000", ["2 x 1,500 = 3,000"]),
        ("it costs $2.50 * 4 = $10", ["2.50 * 4 = $10"]),
        ("3 + 4 = 8", []),  # not right
        ("2x + 3 = 7", []),  # no computation
        ("the total = 7", []),
        ("1. 2 = 2", []),
        ("3 + 4 = 5 + 2", []),  # no result
        ("<<3*4=12>>12", ["3*4=12"]),
    ],
)
def test_right_computations_are_found(text: str, found: list[str]) -> None:
    solution = parsed(text)
    assert [text[each.start : each.end] for each in solution.computations] == found


def test_numbers_of_steps_say_nothing_about_the_problem() -> None:
    text = "Step 1: 3 + 4 = 7\n2. Then 7 - 1 = 6\n- **3.** So 6"
    ordinals = [number.written for number in parsed(text).numbers if number.ordinal]
    assert ordinals == ["1", "2", "3"]


def changed(text: str, value: int, known: tuple[int, ...] = ()) -> str | None:
    """The text after the result of its first computation is `value`."""
    solution = parsed(text)
    first = solution.computations[0].result
    values = propagated(solution, 0, {first: Fraction(value)}, [Fraction(n) for n in known])
    return None if values is None else solution.replaced(values)


def test_what_follows_is_computed_with_the_new_number() -> None:
    text = "3 * 4 = 12. 12 + 5 = 17. So 17 of 12.\n#### 17"
    assert changed(text, 10) == "3 * 4 = 10. 10 + 5 = 15. So 15 of 10.\n#### 15"


def test_a_number_that_may_stand_for_something_else_is_not_changed() -> None:
    assert changed("Of 12 eggs 3 * 4 = 12 are white.", 10) is None
    assert changed("3 * 4 = 12 are white.", 10, known=(12,)) is None


def test_a_whole_number_stays_one() -> None:
    assert changed("3 * 4 = 12. 12 / 2 = 6.", 11) is None


def test_numbers_are_written_as_before() -> None:
    assert changed("2 * 2.50 = 5.00 and 5.00 * 300 = 1,500.", 6) == (
        "2 * 2.50 = 6.00 and 6.00 * 300 = 1,800."
    )
