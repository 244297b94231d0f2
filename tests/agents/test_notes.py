"""Workflows side by side, single questions, and which verdict is about what."""

from collections.abc import Iterator
from typing import Any

import pytest
from agents.driving import Flow, box, cut, play

from slm_math.agents import parallel, stated_answer, usable_reply
from slm_math.agents.judging import reviewed
from slm_math.testing import drive_workflow
from slm_math.types import Generate, Note, Reply, RunPython, RunResult, user

REQUEST = Generate(user("q"), role="judge", temperature=0.2)


def says(*notes: str, then: Any = None) -> Iterator[Any]:
    """A workflow of notes only."""
    for note in notes:
        yield [Note("draft", note)]
    return then


def asks(name: str, turns: int = 1) -> Iterator[Any]:
    """Asks `turns` times, notes what it hears, returns the last reply's text."""
    text = ""
    for turn in range(turns):
        [reply] = yield [Generate(user(f"{name}{turn}"))]
        text = reply.text
        yield [Note("draft", text)]
    return text


def questions(effects: list[Any]) -> list[str]:
    return [effect.chat[0].text for effect in effects if isinstance(effect, Generate)]


def test_requests_of_a_round_go_out_together_and_results_keep_their_order() -> None:
    flow = parallel([asks("a"), asks("b", 2), asks("c")])
    assert questions(next(flow)) == ["a0", "b0", "c0"]
    second = flow.send([Reply("A"), Reply("B"), Reply("C")])
    assert [(e.text, e.branch) for e in second if isinstance(e, Note)] == [
        ("A", (0,)),
        ("B", (1,)),
        ("C", (2,)),
    ]
    assert questions(second) == ["b1"]
    third = flow.send([None, None, None, Reply("BB")])
    assert third == [Note("draft", "BB", branch=(1,))]
    with pytest.raises(StopIteration) as end:
        flow.send([None])
    assert end.value.value == ["A", "BB", "C"]


def test_workflows_of_notes_only_say_them_and_return() -> None:
    driven = play(Flow(lambda: parallel([says("x", "y", then=1), says("z", then=2)])))
    assert [(note.text, note.branch) for note in driven.notes] == [
        ("x", (0,)),
        ("y", (0,)),
        ("z", (1,)),
    ]
    assert (driven.requests, driven.answer) == ([], [1, 2])


def test_workflows_that_end_at_once() -> None:
    assert play(Flow(lambda: parallel([says(then=1), says(then=2)]))).answer == [1, 2]
    assert play(Flow(lambda: parallel([]))).answer == []


def test_one_that_ends_at_once_beside_one_that_asks() -> None:
    driven = play(Flow(lambda: parallel([says(then=1), asks("b"), says("z", then=3)])), Reply("B"))
    assert driven.answer == [1, "B", 3]
    assert [(note.text, note.branch) for note in driven.notes] == [("z", (2,)), ("B", (1,))]


def test_notes_among_requests_of_one_list() -> None:
    def mixed() -> Iterator[Any]:
        got = yield [
            Note("draft", "n"),
            Generate(user("q")),
            Note("candidate", "m"),
            RunPython("1"),
        ]
        return got

    flow = parallel([asks("a"), mixed()])
    effects = next(flow)
    assert [type(effect).__name__ for effect in effects] == [
        "Generate",
        "Note",
        "Generate",
        "Note",
        "RunPython",
    ]
    assert [e.branch for e in effects if isinstance(e, Note)] == [(1,), (1,)]
    reply, result = Reply("r"), RunResult(True)
    assert flow.send([Reply("A"), None, reply, None, result]) == [Note("draft", "A", branch=(0,))]
    with pytest.raises(StopIteration) as end:
        flow.send([None])
    assert end.value.value == ["A", [None, reply, None, result]]


def test_nested_branches_read_from_the_outside_in() -> None:
    def inner(name: str) -> Any:
        return parallel([asks(f"{name}x"), says(f"{name}y", then=0)])

    driven = play(Flow(lambda: parallel([inner("a"), inner("b")])), [Reply("A"), Reply("B")])
    assert sorted((note.branch, note.text) for note in driven.notes) == [
        ((0, 0), "A"), ((0, 1), "ay"), ((1, 0), "B"), ((1, 1), "by"),
    ]  # fmt: skip
    assert driven.answer == [["A", 0], ["B", 0]]


def test_an_error_of_one_workflow_is_the_whole_ones() -> None:
    def broken() -> Iterator[Any]:
        yield [Generate(user("q"))]
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        play(Flow(lambda: parallel([asks("a", 2), broken()])), [Reply("A"), Reply("B")])


def test_a_reply_is_asked_for_once() -> None:
    driven = play(Flow(lambda: usable_reply(REQUEST)), Reply("fine"))
    assert (driven.requests, driven.answer, driven.notes) == ([[REQUEST]], Reply("fine"), [])


@pytest.mark.parametrize("blank", ["", " \n\t", "\u2003"])
def test_empty_reply_is_noted_and_sampled_again_above_temperature_0(blank: str) -> None:
    driven = play(Flow(lambda: usable_reply(REQUEST)), Reply(blank), Reply("fine"))
    assert driven.answer == Reply("fine")
    assert driven.notes == [Note("lost", "empty", role="judge")]
    first, again = driven.requests[0][0], driven.requests[1][0]
    assert (again.chat, again.role) == (first.chat, "judge")
    assert again.temperature > 0


def test_a_greedy_question_is_not_repeated_greedily() -> None:
    driven = play(
        Flow(lambda: usable_reply(Generate(user("q"), temperature=0.0))), Reply(""), Reply("x")
    )
    assert driven.temperatures[0] == 0 < driven.temperatures[1]


def test_truncated_after_completion_is_used() -> None:
    reply = cut(r"\boxed{7} and furthermo")
    assert play(Flow(lambda: usable_reply(REQUEST, stated_answer)), reply).answer is reply


def test_truncated_before_completion_is_lost() -> None:
    driven = play(Flow(lambda: usable_reply(REQUEST, stated_answer)), cut("Let me thi"), box(7))
    assert driven.notes == [Note("lost", "truncated", role="judge")]
    assert driven.answer == box(7)


def test_truncated_and_blank_is_empty() -> None:
    assert play(Flow(lambda: usable_reply(REQUEST, stated_answer)), cut("  "), box(7)).noted(
        "lost"
    ) == ["empty"]


def test_whole_reply_counts_with_any_text() -> None:
    assert play(
        Flow(lambda: usable_reply(REQUEST, stated_answer)), Reply("no idea")
    ).answer == Reply("no idea")


def test_truncated_reply_counts_by_default() -> None:
    assert play(Flow(lambda: usable_reply(REQUEST)), cut("Let me thi")).answer == cut("Let me thi")


def test_twice_lost_is_none() -> None:
    driven = play(Flow(lambda: usable_reply(REQUEST, stated_answer)), Reply(""), cut("Let me"))
    assert (driven.answer, driven.noted("lost")) == (None, ["empty", "truncated"])


def test_retries_are_so_many() -> None:
    assert len(play(Flow(lambda: usable_reply(REQUEST, retries=0)), Reply("")).requests) == 1
    assert len(play(Flow(lambda: usable_reply(REQUEST, retries=3)), *[Reply("")] * 4).requests) == 4


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([("draft", (), "d"), ("verdict", (), "v")], [("d", "v")]),
        ([("draft", (), "d"), ("draft", (), "e"), ("verdict", (), "v")], [("e", "v")]),
        (
            [("draft", (), "d"), ("verdict", (), "v"), ("draft", (), "e"), ("verdict", (), "w")],
            [("d", "v"), ("e", "w")],
        ),
        (
            [("draft", (), "d"), ("verdict", (), "v"), ("verdict", (), "w")],
            [("d", "v"), ("d", "w")],
        ),
        ([("verdict", (), "v"), ("draft", (), "d")], []),
        (
            [("candidate", (0,), "a"), ("candidate", (1,), "b"), ("verdict", (0,), "v")],
            [("a", "v")],
        ),
        (
            [("candidate", (0,), "a"), ("candidate", (1,), "b"), ("verdict", (1, 2), "v")],
            [("b", "v")],
        ),
        ([("candidate", (0,), "a"), ("verdict", (), "v")], []),
        ([("candidate", (1,), "a"), ("verdict", (11,), "v")], []),
        ([("draft", (), "d"), ("verdict", (3,), "v")], [("d", "v")]),
        ([("draft", (), "d"), ("stop", (), "s"), ("lost", (), "l"), ("vote", (), "x")], []),
    ],
)
def test_a_verdict_is_about_the_last_draft_of_its_branch(notes: Any, expected: Any) -> None:
    assert list(reviewed(notes)) == expected


def notes_for_ever() -> Iterator[Any]:
    while True:
        yield [Note("draft", "1")]


def test_notes_without_end_are_stopped_in_a_parallel_workflow() -> None:
    with pytest.raises(ValueError, match="a workflow never ends: 10000 notes and no request"):
        next(parallel([asks("a"), notes_for_ever()]))


def test_notes_without_end_are_stopped_in_a_test_of_ones_own() -> None:
    with pytest.raises(ValueError, match="the workflow never ends: 10000 events"):
        drive_workflow(notes_for_ever())
