"""The examples in the documentation of the seven rules are correct."""

import doctest

import slm_math.answers


def test_the_examples_of_the_rules_hold() -> None:
    results = doctest.testmod(slm_math.answers)
    assert results.attempted >= 18
    assert results.failed == 0
