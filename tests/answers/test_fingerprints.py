"""Equivalent answers share a fingerprint, so that different ones need not be compared."""

from __future__ import annotations

import pytest

from slm_math.answers import classes, decide, equivalent
from slm_math.answers.fingerprints import fingerprint

EQUIVALENT = [
    ("1/2", r"\frac{3}{6}"), ("0.5", r"\dfrac12"), ("7 3/4", r"\frac{31}{4}"), ("1e3", "1000"),
    ("x(x-2)", "x^2-2x"), (r"\frac{x^2-1}{x-1}", "x+1"), (r"\{5\}", "5"), ("2^{10}", "1024"),
    ("0.3333333333333333", "1/3"), ("0.3333333333x", r"\frac{x}{3}"), ("x^2+C", "x^2+K"),
    ("3.141592653589793", "3.14159265358979"), ("1234.5678", "1234.5678000000003"),
    ("50%", "0.5"), ("30^\\circ", r"\frac{\pi}{6}"), ("1,5", "1.5"), (r"\sqrt{4}", "2"),
]  # fmt: skip
DIFFERENT = [("1/2", "1/3"), ("x+1", "x+2"), ("x", "y"), ("0.5", "0.25"), ("x", "5")]


@pytest.mark.parametrize(("one", "other"), EQUIVALENT)
def test_equivalent_answers_have_no_different_fingerprints(one: str, other: str) -> None:
    assert equivalent(one, other)
    prints = {fingerprint(one), fingerprint(other)} - {None}
    assert len(prints) < 2


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_numbers_and_polynomials_have_different_fingerprints(
    one: str, other: str
) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert None not in (fingerprint(one), fingerprint(other))


@pytest.mark.parametrize("text", ["", "yes", r"\sqrt{2}", "n!", "2, 3", "5 cm", r"\pi", "x = 5"])
def test_other_answers_have_none(text: str) -> None:
    assert fingerprint(text) is None


def test_votes_on_many_different_answers_compare_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(decide, "equivalent", lambda *pair: compared.append(pair[0]))
    answers = [rf"\frac{{1}}{{{n}}}" for n in range(2, 40)] + [f"{n}x+1" for n in range(40)]
    assert classes(answers) == [[index] for index in range(len(answers))]
    assert compared == []


def test_long_decimals_vote_for_what_they_are_close_to() -> None:
    answers = ["3.141592653589793", "3.14159265358979", "3", "3", "3.14159265358979", "3"]
    assert classes(answers) == [[0, 1, 4], [2, 3, 5]]
    assert classes(["0.5", "7", "0.50000000000000001", "7"]) == [[0, 2], [1, 3]]


def test_a_difference_without_a_blank_is_no_symbol() -> None:
    assert not equivalent(r"\Deltap \approx 5", "p")
    assert equivalent(r"2\Delta x", r"\Delta  x \cdot 2")
