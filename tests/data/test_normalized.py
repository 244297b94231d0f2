"""Normalized problems: which printings agree, and which problems stay different."""

from __future__ import annotations

import pytest
from growth import grows_linearly
from hypothesis import given
from hypothesis import strategies as st

from slm_math.data.normalized import _CHARACTERS, _MARKS, _composed, _rules, normalized


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("How many?", "how  many"),
        ("Janet’s ducks — all of them", "Janet's ducks - all of them"),
        ("1,000,000 people", "1000000 people"),
        (r"$10,\!000$ or $10{,}000$", "10000 or 10,000"),
        (r"$\left( \dfrac{1}{2} \right)$", r"\((\frac12)\)"),
        (r"$x^{2}\,+\;y$", "$x^2 + y$"),
        (r"$5\text{ cm}$", "5 cm"),
        (r"the $x$-axis and the $n$th one", "the x-axis and the nth one"),
        ("x² + ½", "x^2 + 1/2"),
        ("3 × 4 ≤ 20", r"$3 \times 4 \leq 20$"),
        ("−5", "-5"),
        ("twenty-five", "twenty five"),
        ("１２ apples", "12 apples"),
        ("pro\u200bblem\u00ad", "problem"),
        (".5", "0.5"),
    ],
)
def test_two_printings_agree(one: str, two: str) -> None:
    assert normalized(one) == normalized(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("3.5", "35"),
        ("3.5", "3 5"),
        ("-5", "5"),
        ("x - 5", "x + 5"),
        ("x^2", "x2"),
        ("5²", "52"),
        ("3½", "31/2"),
        ("1,2", "12"),
        ("20%", "20"),
        ("2^{2+3}", "2^2+3"),
        ("2(3+4)", "2*3+4"),
        (r"\frac{1}{23}", r"\frac{12}{3}"),
        ("(1,2)", "[1,2)"),
        ("1,100", "1 100"),
    ],
)
def test_two_problems_stay_different(one: str, two: str) -> None:
    assert normalized(one) != normalized(two)


@given(st.text(alphabet=st.characters(), max_size=200))
def test_any_text_has_words(text: str) -> None:
    words = normalized(text)
    assert words == " ".join(words.split())
    assert words.isprintable()


@pytest.mark.parametrize(
    "piece",
    ["\\", "{", "}{a ", "\ud800", "\x00", "1,", "a-", "</script>", "$", "\\text{", ". ", "frac1"],
)
def test_long_hostile_lines_take_linear_time(piece: str) -> None:
    assert grows_linearly(lambda size: normalized(piece * (size // len(piece))), 25_000)


@given(st.text("ab1,.-'’{}()$\\\\~½²× frac", max_size=20))
def test_rules_that_are_left_out_would_change_nothing(text: str) -> None:
    whole = _composed(text)
    for rule, change in _rules(_MARKS):
        whole = rule.sub(change, whole)
    assert normalized(text) == " ".join(whole.translate(_CHARACTERS).split())
