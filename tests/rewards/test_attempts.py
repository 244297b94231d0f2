"""Rewards of two attempts, and of a selector's choice, with values worked out by hand."""

import pytest
from rewards.traces import say

from slm_math.answers.graded import grade_trace
from slm_math.rewards import (
    Correct,
    Credit,
    FirstAttempt,
    Improvement,
    LastAttempt,
    Reward,
    SelectorChoice,
    score,
)
from slm_math.types import Note, Problem, Task, Trace, Turn

TASK = Task(Problem("p/1", "What is 3 + 4?"), "7")


def attempts(*answers: int | None, finish: str = "stop", answer: int | None = -1) -> Trace:
    """A draft after every turn; the last one's answer is the agent's."""
    events: list[Turn | Note] = []
    for number, given in enumerate(answers):
        last = number + 1 == len(answers)
        events += [say("...", finish=finish if last else "stop")]
        events += [Note("draft", None if given is None else str(given))]
    final = answers[-1] if answer == -1 else answer
    return Trace(TASK.problem, 0, tuple(events), None if final is None else str(final))


def value(reward: Reward, trace: Trace) -> tuple[float | None, tuple[float, ...]]:
    found = reward(grade_trace(TASK, trace))
    assert isinstance(found, Credit)
    return found.score, found.turns


@pytest.mark.parametrize(
    ("answers", "first", "last", "improvement"),
    [
        ((7, 7), 1.0, 1.0, 0.0),
        ((6, 7), 0.0, 1.0, 1.0),
        ((7, 6), 1.0, 0.0, -1.0),
        ((6, 5), 0.0, 0.0, 0.0),
        ((None, 7), 0.0, 1.0, 1.0),
        ((7, None), 1.0, 0.0, -1.0),
    ],
)
def test_attempts_are_scored_by_their_answers_and_credited_to_their_turns(
    answers: tuple[int | None, ...], first: float, last: float, improvement: float
) -> None:
    trace = attempts(*answers)
    assert value(FirstAttempt(), trace) == (first, (1.0, 0.0))
    assert value(LastAttempt(), trace) == (last, (0.0, 1.0))
    assert value(Improvement(), trace) == (improvement, (0.0, 1.0))


def test_all_later_turns_share_the_credit() -> None:
    """Three drafts, of which the middle one plays no part."""
    trace = attempts(6, 5, 7)
    assert value(FirstAttempt(), trace) == (0.0, (1.0, 0.0, 0.0))
    assert value(Improvement(), trace) == (1.0, (0.0, 1.0, 1.0))


def test_turns_before_the_first_draft_belong_to_it() -> None:
    events = (say("program"), say("..."), Note("draft", "6"), say("..."), Note("draft", "7"))
    trace = Trace(TASK.problem, 0, events, "7")
    assert value(FirstAttempt(), trace) == (0.0, (1.0, 1.0, 0.0))
    assert value(Improvement(), trace) == (1.0, (0.0, 0.0, 1.0))


def test_turns_of_other_roles_and_drafts_of_branches_do_not_count() -> None:
    events = (
        say("...", "judge"),
        Note("draft", "7", branch=(0,)),
        say("..."),
        Note("draft", "6"),
        say("..."),
    )
    trace = Trace(TASK.problem, 0, events, "7")
    assert value(Improvement(), trace) == (1.0, (0.0, 1.0))


def test_without_a_draft_there_is_no_improvement_and_no_preference() -> None:
    trace = Trace(TASK.problem, 0, (say("..."),), None)
    assert value(Improvement(), trace) == (0.0, (0.0,))
    assert value(LastAttempt(wrong=-1.0), trace) == (-1.0, (0.0,))
    assert value(FirstAttempt(wrong=-1.0), trace) == (-1.0, (1.0,))
    assert score([Improvement()], grade_trace(TASK, trace), ["solver"]).credits == {}


def test_answer_of_a_reply_that_was_cut_off_does_not_count() -> None:
    trace = attempts(6, 7, finish="length")
    assert value(Improvement(), trace)[0] == 0.0
    assert value(Improvement(finish=False), trace)[0] == 1.0
    assert value(LastAttempt(), trace)[0] == 0.0
    assert value(LastAttempt(finish=False), trace)[0] == 1.0
    assert Correct()(grade_trace(TASK, trace)) == 0.0


def test_shaped_reward_is_that_of_the_paper() -> None:
    """r(first) + r(second) + alpha (r(second) - r(first)), alpha = 10."""
    parts = [FirstAttempt(), LastAttempt(), Improvement(weight=10.0)]
    totals = [
        score(parts, grade_trace(TASK, attempts(*answers)), ["solver"]).totals["solver"]
        for answers in ((7, 7), (6, 7), (7, 6), (6, 6))
    ]
    assert totals == [2.0, 11.0, -9.0, 0.0]


def test_each_part_keeps_its_credits_beside_their_combination() -> None:
    found = score(
        [FirstAttempt(), LastAttempt(weight=3.0)], grade_trace(TASK, attempts(6, 7)), ["solver"]
    )
    assert found.part_credits == {
        "solver": {"first_attempt": {0: 1.0, 1: 0.0}, "last_attempt": {0: 0.0, 1: 1.0}}
    }
    assert found.credits == {"solver": {0: 0.25, 1: 0.75}}


def chosen(choice: str | None, *candidates: int | None, asked: bool = True) -> Trace:
    notes = [
        Note("candidate", None if each is None else str(each), branch=(n,))
        for n, each in enumerate(candidates)
    ]
    made = [say("...", "selector"), Note("choice", choice, role="selector")] if asked else []
    return Trace(TASK.problem, 0, (say("..."), *notes, *made), choice or "7")


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (chosen("7", 7, 6), 1.0),
        (chosen("6", 7, 6), -1.0),
        (chosen(None, 7, 6), -0.5),  # also where the majority is right
        (chosen("7.0", 7, 6), 1.0),
        (chosen("6", 6, 5), None),
        (chosen(None, 6, None), None),
        (chosen(None, 7, 7, asked=False), None),
    ],
)
def test_a_choice_is_scored_where_candidates_are_right_and_wrong(
    trace: Trace, expected: float | None
) -> None:
    reward = SelectorChoice(right=1.0, wrong=-1.0, missing=-0.5)
    assert reward.role == "selector"
    assert reward(grade_trace(TASK, trace)) == expected
