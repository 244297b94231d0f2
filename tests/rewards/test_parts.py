"""Each reward on small traces, with values worked out by hand."""

import math

import pytest
from rewards.traces import (
    EMPTY,
    MATH,
    MC,
    NESTED,
    NUM,
    PARTS,
    RIGHT,
    WRONG,
    ran,
    say,
    tagged,
    trace,
)

from slm_math.answers.graded import grade_trace
from slm_math.rewards import (
    CodeAgrees,
    CodeRan,
    Correct,
    Credit,
    Format,
    Length,
    Overlong,
    Parsable,
    VerifierApproval,
    VerifierDecision,
)
from slm_math.types import Note, Task, Trace


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (trace(RIGHT), 1.0),
        (trace(WRONG), -1.0),
        (trace(EMPTY), -0.5),
        (trace(say(RIGHT, finish="length")), -0.5),
        (trace(r"\boxed{\frac{1}{}"), -0.5),
    ],
)
def test_correct(what: Trace, expected: float) -> None:
    assert Correct(1.0, -1.0, -0.5)(grade_trace(MATH, what)) == expected


def test_correct_counts_a_truncated_answer_if_configured() -> None:
    assert Correct(finish=False)(grade_trace(MATH, trace(say(RIGHT, finish="length")))) == 1.0


def test_correct_looks_at_the_end_of_the_last_reply() -> None:
    cut_off = say("I think", finish="length")
    assert [
        Correct()(grade_trace(MATH, trace(*turns)))
        for turns in ((cut_off, RIGHT), (RIGHT, cut_off))
    ] == [
        1.0,
        0.0,
    ]


def test_correct_reads_letters_and_values_of_choices() -> None:
    assert [
        Correct()(grade_trace(MC, trace(rf"\boxed{{{said}}}", task=MC)))
        for said in ("(b)", "15", "A")
    ] == [
        1.0,
        1.0,
        0.0,
    ]


def test_correct_tells_unreadable_from_wrong() -> None:
    reward = Correct(wrong=-1.0, unreadable=-0.25)
    assert [reward(grade_trace(MATH, trace(text))) for text in (r"\boxed{5 +}", WRONG)] == [
        -0.25,
        -1.0,
    ]
    assert Correct(wrong=-1.0)(grade_trace(MATH, trace(r"\boxed{5 +}"))) == -1.0


def test_correct_behind_a_gate() -> None:
    assert [
        Correct(layout="tags")(grade_trace(MATH, trace(text))) for text in (RIGHT, tagged("7", 60))
    ] == [
        0.0,
        1.0,
    ]


def test_format_boxed() -> None:
    assert [
        Format()(grade_trace(MATH, trace(text)))
        for text in (RIGHT, r"\boxed{}", "The answer is 7.", EMPTY)
    ] == [1, 0, 0, 0]


TAGS = "<think>a</think>\n<answer>7</answer>"


@pytest.mark.parametrize("text", [TAGS, f" {TAGS}\n", "<think></think><answer></answer>"])
def test_format_tags(text: str) -> None:
    assert Format("tags")(grade_trace(MATH, trace(text))) == 1.0


@pytest.mark.parametrize(
    ("old", "new"), [("\n", "so"), ("</answer>", ""), (">a", "><think>"), ("</think>", "")]
)
def test_format_tags_broken(old: str, new: str) -> None:
    assert Format("tags")(grade_trace(MATH, trace(TAGS.replace(old, new)))) == 0.0


@pytest.mark.parametrize(
    "text",
    ["So " + TAGS, TAGS + "!", TAGS + "<answer>8</answer>", "<answer>7</answer><think>a</think>"],
)
def test_format_tags_more_or_in_another_order(text: str) -> None:
    assert Format("tags")(grade_trace(MATH, trace(text))) == 0.0


def test_format_of_a_wrong_answer() -> None:
    reward = Format("boxed", passed=0.5, failed=-2.0, wrong=-0.5)
    assert [reward(grade_trace(MATH, trace(text))) for text in (RIGHT, WRONG, EMPTY)] == [
        0.5,
        -0.5,
        -2.0,
    ]


def test_format_looks_at_the_last_reply_of_its_role() -> None:
    assert Format()(grade_trace(MATH, trace(RIGHT, "no box", say(RIGHT, "verifier")))) == 0.0


@pytest.mark.parametrize(
    ("task", "reads", "does_not"),
    [
        (
            MATH,
            ["8", r"\frac{1}{2} + x", "x = 5", "1, 2", "Tuesday"],
            [r"\frac{1}{", "1, +*", "1" * 5000, NESTED, ""],
        ),
        (MC, ["A", "b", "12", "18 cm"], ["19 cm", "A or B", "Tuesday"]),
        (NUM, ["2.5", r"x = \frac{5}{2}", r"\approx 3.14"], ["y + 1", "long", "1, 2", ""]),
    ],
)
def test_parsable(task: Task, reads: list[str], does_not: list[str]) -> None:
    for answer in reads + does_not:
        found = Parsable()(grade_trace(task, Trace(task.problem, 0, (say("..."),), answer)))
        assert found == float(answer in reads), answer


def test_parsable_needs_an_answer_that_counts() -> None:
    assert [
        Parsable()(grade_trace(MATH, trace(turn)))
        for turn in (say(EMPTY), say(RIGHT, finish="length"))
    ] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("ramp", [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]),
        ("brief", [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]),
        ("cosine", [1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0, 0.0]),
        ("window", [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_length_of_right_answers(shape, values: list[float]) -> None:
    reward = Length(shape, low=100, high=500, right=2.0)
    found = [
        reward(grade_trace(MATH, trace(say(RIGHT, tokens=n)))) for n in (0, 100, 200, 300, 500, 501)
    ]
    assert found == pytest.approx([2 * value for value in values])


def test_length_counts_all_replies_of_the_role() -> None:
    what = trace(say("ab", tokens=10), say("abc", "verifier", tokens=50), say(RIGHT, tokens=20))
    assert Length(high=100)(grade_trace(MATH, what)) == pytest.approx(0.3)
    assert Length(high=100, unit="chars")(grade_trace(MATH, what)) == pytest.approx(0.11)


@pytest.mark.parametrize("bad", [{"low": -1}, {"high": 0}, {"low": 9, "high": 9}])
def test_length_refuses_empty_ranges(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="0 <= low < high"):
        Length(**bad)


@pytest.mark.parametrize("cls", PARTS)
def test_defaults_ignore_the_length_of_wrong_answers(cls) -> None:
    yes = say("VERDICT: CORRECT", "verifier")
    lengths = (1, 100, 400, 512, 5000)
    traces = [trace("code", ran("7"), say("x " * n + WRONG, tokens=n), yes) for n in lengths]
    assert len({cls()(grade_trace(MATH, what)) for what in traces}) == 1


@pytest.mark.parametrize(
    ("n", "expected"), [(0, 0), (80, 0), (90, -0.5), (95, -0.75), (100, -1), (500, -1)]
)
def test_overlong(n: int, expected: float) -> None:
    assert (
        Overlong(limit=100, buffer=20)(
            grade_trace(MATH, trace(say(RIGHT, tokens=7), say(WRONG, tokens=n)))
        )
        == expected
    )


@pytest.mark.parametrize("buffer", [0, 101])
def test_overlong_refuses_a_bad_buffer(buffer: int) -> None:
    with pytest.raises(ValueError, match="buffer"):
        Overlong(100, buffer)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((RIGHT,), 0.0),
        (("code", ran("7\n"), RIGHT), 0.05),
        (("code", ran(error="line 1: ZeroDivisionError"), RIGHT), -0.2),
        (("code", ran(error="line 1: NameError"), "code", ran("7"), RIGHT), 0.05),
        (
            (
                RIGHT,
                say("code", "verifier"),
                ran(error="line 1: NameError"),
                say("CORRECT", "verifier"),
            ),
            0.0,
        ),
    ],
    ids=["none", "passed", "failed", "mended", "the verifier's"],
)
def test_code_ran(events, expected: float) -> None:
    assert CodeRan(passed=0.05)(grade_trace(MATH, trace(*events))) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("code", ran("7\n"), RIGHT), 0.1),
        (("code", ran("1\n7.0\n\n"), RIGHT), 0.1),
        (("code", ran("3", value="7"), RIGHT), 0.1),
        (("code", ran("The answer is 7"), RIGHT), 0.1),
        (("code", ran("6"), RIGHT), -0.2),
        (("code", ran("8"), WRONG), 0.1),
        (("code", ran("7"), "code", ran("6", error="line 1: NameError"), RIGHT), 0.1),
        (("code", ran(error="line 1: NameError"), RIGHT), 0.0),
        (("code", ran(), RIGHT), 0.0),
        (("code", ran("7"), "The answer is 7."), 0.0),
        (("code", ran("7"), EMPTY), 0.0),
        ((RIGHT,), 0.0),
    ],
)
def test_code_agrees(events, expected: float) -> None:
    assert CodeAgrees()(grade_trace(MATH, trace(*events))) == expected


def test_code_agrees_by_the_value_of_a_choice() -> None:
    found = [
        CodeAgrees()(grade_trace(MC, trace("code", ran(out), r"\boxed{B}", task=MC)))
        for out in ("15", "12")
    ]
    assert found == [0.1, -0.2]


@pytest.mark.parametrize(
    ("draft", "said", "decision", "approval"),
    [
        (RIGHT, "VERDICT: CORRECT", 1.0, 0.3),
        (WRONG, "VERDICT: CORRECT", -1.0, 0.3),
        (RIGHT, "VERDICT: INCORRECT", -1.0, -0.1),
        (WRONG, "VERDICT: INCORRECT", 1.0, -0.1),
        (WRONG, "VERDICT: NOT CORRECT", 1.0, -0.1),
        (RIGHT, "VERDICT: UNCLEAR", -0.3, 0.0),
        (RIGHT, "", -0.3, 0.0),
    ],
)
def test_a_verdict(draft: str, said: str, decision: float, approval: float) -> None:
    what = trace(draft, say(said, "verifier"))
    assert (
        VerifierDecision()(grade_trace(MATH, what)),
        VerifierApproval()(grade_trace(MATH, what)),
    ) == (decision, approval)


def test_verdicts_of_several_rounds() -> None:
    yes, no, open_ = (
        say(f"VERDICT: {word}", "verifier") for word in ("CORRECT", "INCORRECT", "UNCLEAR")
    )
    what = trace(WRONG, no, r"\boxed{9}", open_, RIGHT, yes)  # 1, -0.3, 1
    assert VerifierDecision()(grade_trace(MATH, what)) == Credit(
        pytest.approx(1.7 / 3), turns=(1, 0, 1), blame=(0, 1, 0)
    )
    assert VerifierApproval()(grade_trace(MATH, what)) == 0.3


def test_a_verdict_is_about_the_draft_before_it_whoever_wrote_it() -> None:
    what = trace(WRONG, say(RIGHT, "editor"), say("VERDICT: CORRECT", "verifier"))
    assert VerifierDecision()(grade_trace(MATH, what)) == 1.0


def test_a_verifier_with_a_program_decides_once() -> None:
    program = say("I guess VERDICT: INCORRECT ```python\nprint(7)\n```", "verifier")
    what = trace(RIGHT, program, ran("7"), say("VERDICT: CORRECT", "verifier"))
    assert (
        VerifierDecision()(grade_trace(MATH, what)),
        VerifierApproval()(grade_trace(MATH, what)),
    ) == (1.0, 0.3)


def test_without_a_verdict_there_is_no_decision_and_no_approval() -> None:
    what = trace(RIGHT, say("```python\n```", "verifier"), ran())
    assert (
        VerifierDecision()(grade_trace(MATH, what)),
        VerifierApproval()(grade_trace(MATH, what)),
    ) == (None, 0.0)


def test_lost_replies_of_a_verifier_are_no_verdicts() -> None:
    cut = say("Step 1 looks INCORRECT because", "verifier", finish="length")
    what = trace(WRONG, Note("draft", "8"), cut, Note("lost", "truncated", role="verifier"))
    assert VerifierDecision()(grade_trace(MATH, what)) is None
    assert VerifierApproval()(grade_trace(MATH, what)) == 0.0
