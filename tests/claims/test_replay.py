"""Agents run again on what records keep of their replies and programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slm_math.agents import (
    Agent,
    CodeAsAnswer,
    CodeFeedback,
    FewShot,
    MajorityVote,
    PythonTools,
    Selector,
    SelfCorrection,
    SingleShot,
    SolverVerifier,
)
from slm_math.answers.graded import grade_trace
from slm_math.claims.replay import Replayed, replayed
from slm_math.evaluation.identity import describe
from slm_math.prompts import Prompt
from slm_math.records.encoding import from_json, to_json
from slm_math.records.record import Record, TurnEvent, record
from slm_math.testing import drive
from slm_math.types import Problem, Reply, RunResult, Task

TASK = Task(Problem("p", "What is 3 + 4?"), "7")
BOX, CODE = r"So it is \boxed{7}.", "```python\nprint(3 + 4)\n```"
EXAMPLES = [Task(Problem("e", "What is 1 + 1?"), "2", r"\boxed{2}")]
CASES: dict[str, tuple[Agent, list[Any], list[Any]]] = {
    "single shot": (SingleShot(), [BOX], []),
    "settings": (
        SingleShot(prompt=Prompt("solve_plain"), temperature=0.5, not_first=("x",)),
        [BOX],
        [],
    ),
    "nothing stated": (SingleShot(), ["I do not know."], []),
    "truncated": (SingleShot(), [Reply("", finish="length")], []),
    "correction": (SelfCorrection(), [r"\boxed{6}", BOX], []),
    "feedback": (CodeFeedback(), [CODE, BOX], ["7\n"]),
    "printed": (CodeAsAnswer(), [CODE], ["7\n"]),
    "value": (
        CodeAsAnswer(),
        ["```python\nprint(7)\n7 == 7\n```"],
        [RunResult(True, "7\n", value="True")],
    ),
    "tools": (PythonTools(), [CODE, BOX], ["7\n"]),
    "failed": (
        SolverVerifier(rounds=1),
        [CODE, BOX],
        [RunResult(False, error="line 1: NameError", error_type="NameError")],
    ),
    "vote": (MajorityVote(k=3), [BOX, r"\boxed{6}", BOX], []),
    "selector": (Selector(k=2), [BOX, r"\boxed{6}", "Solution 1"], []),
    "shots": (FewShot(SingleShot(), EXAMPLES), [BOX], []),
}


def recorded(agent: Agent, replies: list[Any], programs: list[Any]) -> Record:
    """What an evaluation would write, read back."""
    driven = drive(agent, TASK.problem, replies, programs)
    return from_json(to_json(record(grade_trace(TASK, driven.trace))))


@pytest.mark.parametrize("name", CASES)
def test_an_agent_does_again_what_its_record_says(name: str) -> None:
    agent, replies, programs = CASES[name]
    again = replayed(describe(agent))
    assert isinstance(again, Replayed)
    own = recorded(agent, replies, programs)
    assert again.difference(own) is None
    if own.answer is not None:
        assert again.difference(replace(own, answer="8")) is not None


@pytest.mark.parametrize("name", ["correction", "vote", "selector", "tools"])
def test_a_reply_that_was_exchanged_is_noticed(name: str) -> None:
    again = replayed(describe(CASES[name][0]))
    own = recorded(*CASES[name])
    first = own.events[0]
    assert isinstance(again, Replayed)
    assert isinstance(first, TurnEvent)
    forged = replace(own, events=(replace(first, reply=r"\boxed{9}"), *own.events[1:]))
    assert again.difference(forged) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"class": "os.system"}, "os.system is no agent of slm-math"),
        ({"prompt": "../secret.txt"}, "its prompt is a file"),
        ({"prompt_hash": "0"}, "its prompt_hash differ here"),
        ({"temperature": 1e9}, "its temperature is 1000000000.0"),
        ({"temperature": -1.0}, "SingleShot.temperature"),
    ],
)
def test_other_agents_are_not_run_and_the_reason_is_given(
    change: dict[str, Any], reason: str
) -> None:
    found = replayed(describe(SingleShot()) | change)
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("skipped", [False, True])
def test_a_workflow_that_came_to_its_end_did_not_break(name: str, skipped: bool) -> None:
    """A right baseline could be made wrong by saying that its replies were lost."""
    again, own = replayed(describe(CASES[name][0])), recorded(*CASES[name])
    assert isinstance(again, Replayed)
    lost = replace(own, answer=None, error="EngineError: lost", skipped=skipped)
    assert "lead the agent to its end" in str(again.difference(lost))


@pytest.mark.parametrize(
    ("name", "events", "skipped"),
    [
        ("single shot", 0, False),
        ("single shot", 0, True),
        ("correction", 2, False),
        ("feedback", 0, True),
        ("feedback", 3, False),
        ("vote", 0, True),
        ("vote", 1, False),  # of three that were asked at once
        ("selector", 4, False),
    ],
)
def test_a_workflow_breaks_where_a_reply_is_missing(name: str, events: int, skipped: bool) -> None:
    again, own = replayed(describe(CASES[name][0])), recorded(*CASES[name])
    assert isinstance(again, Replayed)
    broken = replace(
        own, answer=None, error="EngineError: lost", skipped=skipped, events=own.events[:events]
    )
    assert again.difference(broken) is None


def test_engines_alone_break_a_workflow() -> None:
    again, own = replayed(describe(CASES["feedback"][0])), recorded(*CASES["feedback"])
    assert isinstance(again, Replayed)
    lost = replace(own, answer=None, error="lost", events=own.events[:1])  # its program ran
    assert "the agent wants RunPython, and the record has nothing" in str(again.difference(lost))
    late = replace(own, answer=None, error="lost", events=own.events[:3], skipped=True)
    assert "was skipped, and its agent has replies" in str(again.difference(late))
