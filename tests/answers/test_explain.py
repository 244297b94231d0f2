"""The explanation of a verdict, step by step."""

from __future__ import annotations

import pytest

from slm_math.answers import explain, grade


def steps(reply: str, gold: str, **rules) -> dict[str, str]:
    return dict(explain(reply, gold, **rules))


def test_explanation_shows_reading_extraction_and_decision() -> None:
    explained = explain(
        r"<think>\boxed{1}</think> The answer is 3. \boxed{\dfrac12}<|im_end|> \boxed{9}", "0.5"
    )
    assert (
        "reads",
        "skips 24 characters of thinking; stops at character 58, before <|im_end|> \\boxed{9}",
    ) in explained
    assert ("finds", r"box: \dfrac12 at 49-57") in explained
    assert ("passes over", "phrase: 3 at 39-40") in explained
    assert ("takes", r"\dfrac12") in explained
    assert ("answer read as", r"number \frac{1}{2}") in explained
    assert ("compared", "exactly, in process") in explained


@pytest.mark.parametrize(
    ("reply", "gold", "reading"),
    [
        ("12 cm", "12", "number 12 [centimetre^1]"),
        ("x = 5", "5", "assignment to x"),
        ("1, 2", "1", "list of 2"),
        ("(1, 2]", "1", "ordered, ( number 1; number 2 ]"),
        ("even", "1", "text 'even'"),
        ("10_2", "1", "digits 10 in base 2"),
        (r"\oint x", "1", "not readable in process"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "1", "matrix of 2 rows"),
    ],
)
def test_explanation_shows_how_an_answer_is_read(reply: str, gold: str, reading: str) -> None:
    assert reading in steps(f"\\boxed{{{reply}}}", gold)["answer read as"]


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        (r"\boxed{2+3}", "5"),
        ("no", "5"),
        (r"\boxed{5} or \boxed{6}", "5"),
        (r"\boxed{9^{9^{9}}}", "5"),
        ("", ""),
    ],
)
def test_its_verdict_is_the_graders(reply: str, gold: str) -> None:
    verdict = grade(reply, gold)
    assert f": {verdict.reason};" in steps(reply, gold)["verdict"]


def test_explanation_shows_the_use_of_algebra() -> None:
    assert steps(r"\boxed{\frac{1}{1+\sqrt{7}}}", r"\frac{\sqrt7-1}{6}")["compared"].startswith(
        "by the algebra process"
    )
