"""What a verifier's reply is taken for, in spellings that models use."""

import pytest

from slm_math.agents import verdict
from slm_math.agents.verdicts import decided


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VERDICT: CORRECT", "CORRECT"),
        ("verdict: incorrect", "INCORRECT"),
        ("Verdict:UNCLEAR", "UNCLEAR"),
        ("VERDICT:\n\nCORRECT", "CORRECT"),
        ("**VERDICT: CORRECT**", "CORRECT"),
        ("**Verdict:** incorrect.", "INCORRECT"),
        (r"VERDICT: \boxed{INCORRECT}", "INCORRECT"),
        (r"VERDICT: \text{CORRECT}", "CORRECT"),
        ("VERDICT: <CORRECT>", "CORRECT"),
        ("VERDICT: 'INCORRECT'", "INCORRECT"),
        ("VERDICT: ACCEPT", "CORRECT"),
        ("VERDICT: rejected", "INCORRECT"),
        ("VERDICT: not correct", "INCORRECT"),
        ("VERDICT: NOT ACCEPTED", "INCORRECT"),
        ("VERDICT: NOT INCORRECT", "UNCLEAR"),
        ("VERDICT: CORRECT\nWait.\nVERDICT: INCORRECT", "INCORRECT"),
        ("VERDICT: CORRECT, VERDICT: INCORRECT or VERDICT: UNCLEAR.", "UNCLEAR"),
        ("INCORRECT", "INCORRECT"),
        ("First I thought INCORRECT, but it is CORRECT", "INCORRECT"),
        ("The answer is CORRECT.\nVERDICT: INCORRECT", "INCORRECT"),
        ("The answer is INCORRECT", "INCORRECT"),
    ],
)
def test_the_verdict_is_read(text: str, expected: str) -> None:
    assert verdict(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "The answer is correct.",
        "INCORRECTLY",
        "UNACCEPTABLE",
        "\x00\ud800",
        "</script>",
        "VERDICT:",
        "a" * 100_000,
    ],
)
def test_no_verdict_is_unclear_and_known_as_none(text: str) -> None:
    assert (decided(text), verdict(text)) == (None, "UNCLEAR")


def test_a_verdict_that_says_unclear_is_one() -> None:
    assert decided("VERDICT: UNCLEAR") == "UNCLEAR"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VERDICT: INCORRECT. The correct answer is 8.", "INCORRECT"),
        ("VERDICT: INCORRECT\n\nThe corrected solution is 8.", "INCORRECT"),
        ("VERDICT: CORRECT. I found nothing incorrect.", "CORRECT"),
    ],
)
def test_prose_after_the_verdict_does_not_turn_it_round(text: str, expected: str) -> None:
    assert verdict(text) == expected


@pytest.mark.parametrize("text", ["I CORRECTED a sign and got 8.", "Here is a CORRECTED version."])
def test_corrected_is_not_correct(text: str) -> None:
    assert verdict(text) == "UNCLEAR"


@pytest.mark.parametrize("text", ["**Verdict**: correct", "Verdict : correct", "VERDICT: _correct_"])
def test_markdown_around_the_mark(text: str) -> None:
    assert verdict(text) == "CORRECT"


@pytest.mark.parametrize(
    "text", ["VERDICT: The answer isn't correct.", "VERDICT: NOT QUITE CORRECT", "VERDICT: IN-CORRECT"]
)
def test_other_denials_are_not_correct(text: str) -> None:
    assert verdict(text) != "CORRECT"
