"""Agents driven by hand: `play`, and the replies and program results it goes through."""

from typing import Any

from agents.inputs import PROBLEM

from slm_math.agents import Agent
from slm_math.testing import Driven, drive_workflow
from slm_math.types import Generate, Problem, Reply, RunPython, RunResult, Workflow


def play(agent: Agent, *script: Any, problem: Problem = PROBLEM) -> Driven:
    """Runs an agent to its end on results in order, a list for several requests at once; all of
    them must be used.
    """
    steps = [item if isinstance(item, list) else [item] for item in script]
    driven = follow(agent.solve(problem), steps, problem, partial=False)
    asked = [[type(request) for request in step] for step in driven.requests]
    expected = [[Generate if isinstance(r, Reply) else RunPython for r in step] for step in steps]
    assert asked == expected, driven.steps
    return driven


def begin(agent: Agent, *steps: list[Any]) -> tuple[list[list[Any]], Any]:
    """Runs an agent as far as the results go; returns its requests and its answer."""
    driven = follow(agent.solve(PROBLEM), steps, PROBLEM, partial=True)
    return driven.requests, driven.answer


def follow(workflow: Workflow[Any], steps: Any, problem: Problem, partial: bool) -> Driven:
    results = [result for step in steps for result in step]
    return drive_workflow(
        workflow,
        [result for result in results if isinstance(result, Reply)],
        [result for result in results if isinstance(result, RunResult)],
        partial=partial,
        problem=problem,
    )


class Flow(Agent):
    """An agent that is one workflow: `Flow(lambda: usable_reply(request))`."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def solve(self, problem: Problem) -> Workflow[Any]:
        return (yield from self.make())


def box(answer: object) -> Reply:
    return Reply(rf"So it is \boxed{{{answer}}}.")


def code(source: str = "print(3+4)") -> Reply:
    return Reply(f"```python\n{source}\n```")


def cut(text: str) -> Reply:
    """A reply that ran into the token budget."""
    return Reply(text, finish="length")


def judged(word: str) -> Reply:
    return Reply(f"I looked.\nVERDICT: {word}")


def printed(text: object) -> RunResult:
    return RunResult(True, f"{text}\n")
