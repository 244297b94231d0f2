"""Driving an agent by hand, request by request."""

from typing import Any

from slm_math.agents import Agent
from slm_math.types import Problem

PROBLEM = Problem("p/1", "What is 3 + 4?")


def drive(agent: Agent, *answers: list[Any]) -> tuple[list[Any], Any]:
    """Runs an agent on scripted results; returns its requests and its answer."""
    workflow = agent.solve(PROBLEM)
    asked = [next(workflow)]
    for results in answers:
        try:
            asked.append(workflow.send(results))
        except StopIteration as end:
            return asked, end.value
    return asked, "still running"
