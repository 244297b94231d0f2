"""Driving an agent by hand, request by request."""

from typing import Any

from slm_math.agents import Agent
from slm_math.types import Note, Problem

PROBLEM = Problem("p/1", "What is 3 + 4?")


class Driven:
    """An agent that was run on scripted results: what it asked for (without notes), what it noted, and its answer."""

    def __init__(self, agent: Agent, results: list[list[Any]], problem: Problem = PROBLEM) -> None:
        self.asked: list[list[Any]] = []
        self.notes: list[Note] = []
        self.answer: Any = "still running"
        script = iter(results)
        workflow = agent.solve(problem)
        try:
            effects = next(workflow)
            while True:
                self.notes += [effect for effect in effects if isinstance(effect, Note)]
                requests = [effect for effect in effects if not isinstance(effect, Note)]
                answers = iter(())
                if requests:
                    self.asked.append(requests)
                    given = next(script, None)
                    if given is None:
                        return
                    assert len(given) == len(requests), f"{len(requests)} requests: {requests}"
                    answers = iter(given)
                effects = workflow.send([None if isinstance(e, Note) else next(answers) for e in effects])
        except StopIteration as end:
            self.answer = end.value

    def noted(self, kind: str) -> list[str | None]:
        return [note.text for note in self.notes if note.kind == kind]


def drive(agent: Agent, *answers: list[Any]) -> tuple[list[Any], Any]:
    """Runs an agent on scripted results; returns its requests and its answer."""
    driven = Driven(agent, list(answers))
    return driven.asked, driven.answer
