"""`slm_math.testing` tells a test what an agent did, and does not let mistakes pass."""

import subprocess
import sys
from typing import Any

import pytest
from agents.driving import box, code, printed
from agents.inputs import FAILED, PROBLEM

import slm_math.testing
from slm_math.agents import Agent, CodeFeedback, MajorityVote, SolverVerifier
from slm_math.testing import drive, drive_workflow
from slm_math.types import Generate, Note, Problem, Reply, Run, RunPython, RunResult, Turn, user

PROGRAM = "```python\nprint(3 + 4)\n```"


class Doing(Agent):
    """Yields what it is given, and returns the last of it."""

    def __init__(self, *effects: Any, answer: Any = None) -> None:
        self.effects, self.answer, self.results = effects, answer, []

    def solve(self, problem: Problem) -> Any:
        for effects in self.effects:
            self.results = yield effects
        return self.answer


def test_run_is_described_in_full() -> None:
    driven = drive(CodeFeedback(), PROBLEM, [PROGRAM, r"\boxed{7}"], ["7\n"])
    assert (driven.answer, driven.finished) == ("7", True)
    assert driven.steps == ["solver", "run", "solver"]
    assert driven.requests[1] == [RunPython("print(3 + 4)")]
    assert driven.temperatures == [None, None]
    assert driven.noted("draft") == ["7", "7"]
    assert driven.shown(2).startswith("Your program printed:\n7\n")
    with pytest.raises(TypeError, match="step 1 runs a program"):
        driven.chat(1)


def test_the_trace_has_events_in_order() -> None:
    trace = drive(CodeFeedback(), PROBLEM, [code(), box(7)], [printed(7)]).trace
    assert [type(event) for event in trace.events] == [Turn, Run, Note, Turn, Note]
    assert (trace.problem, trace.answer, trace.error) == (PROBLEM, "7", None)
    assert trace.turns[1].reply == box(7)
    assert trace.runs[0].result == printed(7)


def test_texts_are_replies_that_ended_and_programs_that_succeeded() -> None:
    trace = drive(CodeFeedback(), PROBLEM, [PROGRAM, "x"], ["7"]).trace
    assert trace.turns[0].reply == Reply(PROGRAM, finish="stop")
    assert trace.runs[0].result == RunResult(True, "7")


def test_failed_programs_and_several_requests_at_once() -> None:
    assert "NameError" in drive(CodeFeedback(), PROBLEM, [PROGRAM, "x"], [FAILED]).shown(2)
    assert drive(MajorityVote(k=2), PROBLEM, ["a", "b"]).steps == ["solver+solver"]


@pytest.mark.parametrize(
    ("replies", "programs", "error"),
    [
        ([], [], r"no result for step 1: Generate\("),
        ([PROGRAM], [], r"no result for step 2: RunPython\(code='print\(3 \+ 4\)'"),
        (["none", "more"], [], r"ended after 1 steps; unused: \[Reply\(text='more'"),
        (["none"], ["7"], r"ended after 1 steps; unused: \[RunResult\("),
    ],
)
def test_a_script_must_fit(replies: list[str], programs: list[str], error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        drive(CodeFeedback(), PROBLEM, replies, programs)


def test_a_part_of_a_run() -> None:
    driven = drive(SolverVerifier(), PROBLEM, [box(7)], partial=True)
    assert (driven.answer, driven.finished) == (None, False)
    assert driven.steps == ["solver", "verifier"]
    assert driven.noted("draft") == ["7"]


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        (Doing(answer=7), "agent Doing returned 7, of type int: solve must return the answer as a"),
        (Doing(answer=["7"]), r"agent Doing returned \['7'\], of type list"),
        (Doing([RunPython("1")]), "agent Doing runs a program, but .* set uses_python = True"),
        (Doing([Generate(user("q"), "judge")]), "agent Doing asks for role 'judge'; its roles are"),
        (Doing(["q"]), "agent Doing yielded 'q' in its list of requests: only Generate, RunPython"),
        (Doing([]), r"must yield lists that are not empty, got \[\]"),
        (Doing(Generate(user("q"))), "must yield lists that are not empty, got Generate"),
    ],
)
def test_mistakes_of_an_agent_are_named(agent: Agent, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        drive(agent, PROBLEM)


@pytest.mark.parametrize("answer", ["7", "", None])
def test_an_answer_is_a_string_or_none(answer: str | None) -> None:
    assert drive(Doing([Note("draft", "x")], answer=answer), PROBLEM).answer == answer


def test_parts_of_agents_may_return_anything() -> None:
    assert drive_workflow(Doing(answer=[1]).solve(PROBLEM)).answer == [1]


def test_its_own_example_runs() -> None:
    text = slm_math.testing.__doc__ or ""
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    exec("\n".join(lines), {})


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import slm_math.testing"
    subprocess.run([sys.executable, "-c", code], check=True)
