"""What a verifier's reply is taken for, in spellings that models use."""

import pytest

from slm_math.agents import verdict
from slm_math.answers.verdicts import stated_verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VERDICT: CORRECT", "CORRECT"),
        ("VERDICT: INCORRECT", "INCORRECT"),
        ("VERDICT: UNCLEAR", "UNCLEAR"),
        ("Verdict: correct", "CORRECT"),
        ("verdict: incorrect", "INCORRECT"),
        ("Verdict:UNCLEAR", "UNCLEAR"),
        ("VERDICT:\n\nCORRECT", "CORRECT"),
        ("**VERDICT: CORRECT**", "CORRECT"),
        ("**VERDICT: Incorrect**", "INCORRECT"),
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
        ("this is NOT CORRECT", "INCORRECT"),
        ("First I thought INCORRECT, but it is CORRECT", "INCORRECT"),
        ("The answer is CORRECT.\nVERDICT: INCORRECT", "INCORRECT"),
        ("It looks CORRECT.\nVERDICT: INCORRECT", "INCORRECT"),
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
        "correct in spirit",
        "INCORRECTLY",
        "UNACCEPTABLE",
        "\x00\ud800",
        "</script>",
        "VERDICT:",
        "a" * 100_000,
    ],
)
def test_no_verdict_is_unclear_and_known_as_none(text: str) -> None:
    assert (stated_verdict(text), verdict(text)) == (None, "UNCLEAR")


def test_stated_unclear_is_a_verdict() -> None:
    assert stated_verdict("VERDICT: UNCLEAR") == "UNCLEAR"


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


@pytest.mark.parametrize(
    "text", ["**Verdict**: correct", "Verdict : correct", "VERDICT: _correct_"]
)
def test_markdown_around_the_mark(text: str) -> None:
    assert verdict(text) == "CORRECT"


@pytest.mark.parametrize(
    "text",
    ["VERDICT: The answer isn't correct.", "VERDICT: NOT QUITE CORRECT", "VERDICT: IN-CORRECT"],
)
def test_other_denials_are_not_correct(text: str) -> None:
    assert verdict(text) != "CORRECT"


DOUBTS = """but the final answer is wrong|. However, the final answer 5 is wrong.|; but the arithmetic is wrong
 up to step 3, then it fails| except for the last step| only if x>0| unless x is 0|, mostly| in part| with errors
, although the answer should be 7| would be 5| is 7| final answer: 8| method, bad result| reasoning but erroneous answer
. No, INCORRECT.|? No.| or INCORRECT|/INCORRECT|, INCORRECT or UNCLEAR| \u274c|-ish| (50%)"""  # noqa: E501


@pytest.mark.parametrize("rest", [rest for line in DOUBTS.split("\n") for rest in line.split("|")])
def test_an_approval_that_is_taken_back_or_bounded_is_unclear(rest: str) -> None:
    assert verdict(f"VERDICT: CORRECT{rest if rest[:1] in ' .,;?/-(' else ' ' + rest}") == "UNCLEAR"


@pytest.mark.parametrize(
    "text",
    [
        "The CORRECT answer is 6, not 5.",
        "VERDICT: The correct answer is 6, so this is INCORRECT",
        "The answer claims to be CORRECT. VERDICT: WRONG",
        "VERDICT: It is not at all correct.",
        "VERDICT: never correct",
        "VERDICT: partially correct",
        "VERDICT: NOT **CORRECT**",
        "VERDICT: **IN**CORRECT",
        "VERDICT: IN\u2013CORRECT",
        "VERDICT: in\u200bcorrect",
        "VERDICT: CORRECT, VERDICT: INCORRECT or VERDICT: UNCLEAR",
        "VERDICT: is this CORRECT",
        "VERDICT: CORRECT\nNo wait, it is INCORRECT",
        "VERDICT: ~CORRECT",
        "NOT\nCORRECT",
        "INCORRECT. The correct answer:\nCORRECT",
        "CORRECT?",
    ],
)
def test_what_refuses_never_approves(text: str) -> None:
    assert verdict(text) != "CORRECT"


@pytest.mark.parametrize(
    "text",
    [
        "VERDICT: CORRECT (no errors)",
        "VERDICT: CORRECT, no mistakes.",
        "VERDICT: CORRECT solution.",
        "VERDICT: The final answer of 72 is CORRECT",
        "VERDICT: The student's answer is CORRECT",
        "VERDICT: All steps are CORRECT",
        "VERDICT: Yes, CORRECT",
        "VERDICT: CORRECT, since 7 is not even",
        "VERDICT: CORRECT. I found nothing wrong.",
        "The verdict is: CORRECT",
        "VERDICT = CORRECT",
        "VERDICT CORRECT",
        "I checked it.\n**CORRECT**",
    ],
)
def test_plain_approvals_are_read(text: str) -> None:
    assert verdict(text) == "CORRECT"
