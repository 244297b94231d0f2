"""An engine and an agent that do what a test tells them to."""

from collections.abc import Iterator
from typing import Any

from slm_math.agents import Agent
from slm_math.engines.base import Engine, Request
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, RunResult, Sampling


class Scripted(Engine):
    """Answers every request after a while, one a poll, the newest first; keeps what
    it was asked.
    """

    returns_logprobs = True

    def __init__(self, say: Any) -> None:
        self.say = say
        self.asked: list[Request] = []
        self.open: list[int] = []

    def submit(self, request: Request) -> int:
        self.asked.append(request)
        self.open.append(len(self.asked))
        return len(self.asked)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        if not self.open:
            return []
        ticket = self.open.pop()
        return [(ticket, self.say(self.asked[ticket - 1]))]

    def cancel(self, ticket: int) -> None:
        if ticket in self.open:
            self.open.remove(ticket)

    @property
    def busy(self) -> int:
        return len(self.open)


def printing(text: str) -> Scripted:
    """A sandbox whose programs all print the same."""
    return Scripted(lambda request: RunResult(True, text))


class Scene(Agent):
    """One given workflow."""

    def __init__(self, make: Any, uses_python: bool = False) -> None:
        self.make, self.uses_python = make, uses_python

    def solve(self, problem: Problem) -> Iterator[Any]:
        return (yield from self.make())


def served_by(default: Engine | None = None, sandbox: Any = None, **roles: Engine) -> Executors:
    """Executors with an engine for all roles, or one for each of some."""
    engines = roles if default is None else {"default": default, **roles}
    return Executors(engines, {"default": Sampling()}, sandbox)
