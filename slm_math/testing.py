r"""Runs an agent by hand in a test, on scripted replies and program results.

    from slm_math.agents import CodeFeedback
    from slm_math.testing import drive
    from slm_math.types import Problem

    driven = drive(
        CodeFeedback(),
        Problem("p/1", "What is 3 + 4?"),
        replies=["```python\nprint(3 + 4)\n```", r"So it is \boxed{7}."],
        programs=["7\n"],
    )
    assert driven.answer == "7"
    assert driven.steps == ["solver", "run", "solver"]
    assert "3 + 4" in driven.shown(0)

No model, no sandbox and no torch are needed. `driven.trace` is the trace that a reward would get.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from slm_math.agents.base import MOST_EVENTS, Agent, check_answer, check_request, owner_name
from slm_math.types import (
    Chat,
    Effect,
    Generate,
    Note,
    Problem,
    Reply,
    Run,
    RunPython,
    RunResult,
    Trace,
    Turn,
    Workflow,
)

Asked: TypeAlias = Generate | RunPython


@dataclass(frozen=True)
class Driven:
    """What a workflow did with its script.

    Args:
        answer: what it returned; None if it did not finish.
        finished: whether the workflow ended.
        requests: one list of requests for each `yield`, without notes.
        events: what happened, in order, as in a trace.
        problem: the problem of the agent.
    """

    answer: Any
    finished: bool
    requests: list[list[Asked]]
    events: tuple[Turn | Run | Note, ...]
    problem: Problem

    @property
    def trace(self) -> Trace:
        """The trace that the scheduler would record."""
        return Trace(self.problem, 0, self.events, self.answer)

    @property
    def steps(self) -> list[str]:
        """Who was asked, one text for each `yield`: a role, "run" for a program, or
        "solver+solver" for two requests at once.
        """
        return ["+".join(_who(request) for request in step) for step in self.requests]

    @property
    def temperatures(self) -> list[float | None]:
        """The temperature of every generation request."""
        return [r.temperature for step in self.requests for r in step if isinstance(r, Generate)]

    @property
    def notes(self) -> list[Note]:
        """All notes, in order."""
        return [event for event in self.events if isinstance(event, Note)]

    def noted(self, kind: str) -> list[str | None]:
        """The texts of the notes of one kind, such as "draft" or "stop"."""
        return [note.text for note in self.notes if note.kind == kind]

    def chat(self, step: int) -> Chat:
        """The chat of the first request of a step. Raises TypeError if the step runs a program."""
        request = self.requests[step][0]
        if not isinstance(request, Generate):
            raise TypeError(f"step {step} runs a program: it shows no chat")
        return request.chat

    def shown(self, step: int) -> str:
        """The text of the last message that the first request of a step shows."""
        return self.chat(step)[-1].text


def drive(
    agent: Agent,
    problem: Problem,
    replies: Sequence[Reply | str] = (),
    programs: Sequence[RunResult | str] = (),
    *,
    partial: bool = False,
) -> Driven:
    """Runs an agent on a problem to its end.

    Args:
        replies: the replies of all roles, in the order in which they are asked for. A text is a
            reply that ended by itself.
        programs: the results of the programs, likewise. A text is the output of a program that
            succeeded.
        partial: stop where the script ends, instead of raising.

    Raises:
        AssertionError: the agent asks for more than the script has, or does not use all of it.
        ValueError: the agent asks for what its class does not announce (see `check_request`), or
            returns something else than a string or None.
    """
    driven = drive_workflow(
        agent.solve(problem),
        replies,
        programs,
        partial=partial,
        check=lambda request: check_request(
            request, owner_name(agent), agent.roles, agent.uses_python
        ),
        problem=problem,
    )
    check_answer(driven.answer, owner_name(agent))
    return driven


def drive_workflow(
    workflow: Workflow[Any],
    replies: Sequence[Reply | str] = (),
    programs: Sequence[RunResult | str] = (),
    *,
    partial: bool = False,
    check: Callable[[Effect], None] = lambda request: None,
    problem: Problem = Problem("none", ""),
) -> Driven:
    """`drive` for a part of an agent, which may return anything.

    Args:
        check: called with every effect; raises for those that the workflow may not yield.
    """
    script: dict[type, deque[Any]] = {
        Generate: deque(Reply(item) if isinstance(item, str) else item for item in replies),
        RunPython: deque(
            RunResult(True, item) if isinstance(item, str) else item for item in programs
        ),
    }
    requests: list[list[Asked]] = []
    events: list[Turn | Run | Note] = []
    results: list[Any] | None = None
    while True:
        try:
            effects = next(workflow) if results is None else workflow.send(results)
        except StopIteration as end:
            assert not any(script.values()), (
                f"the workflow ended after {len(requests)} steps; unused: "
                f"{[*script[Generate], *script[RunPython]]}"
            )
            return Driven(end.value, True, requests=requests, events=tuple(events), problem=problem)
        if not effects or not isinstance(effects, list | tuple):
            raise ValueError(
                f"a workflow must yield lists that are not empty, got {effects!r:.100}"
            )
        for effect in effects:
            check(effect)
        pending = [effect for effect in effects if not isinstance(effect, Note)]
        if pending:
            requests.append(pending)
        missing = _first_without_result(pending, script)
        if missing is not None and partial:
            workflow.close()
            return Driven(None, False, requests=requests, events=tuple(events), problem=problem)
        assert missing is None, f"the script has no result for step {len(requests)}: {missing}"
        results = [
            None if isinstance(effect, Note) else script[type(effect)].popleft()
            for effect in effects
        ]
        events += map(_event, effects, results)
        if len(events) > MOST_EVENTS:
            raise ValueError(f"the workflow never ends: {MOST_EVENTS} events")


def _first_without_result(
    requests: Sequence[Asked], script: dict[type, deque[Any]]
) -> Asked | None:
    available = {kind: len(results) for kind, results in script.items()}
    for request in requests:
        available[type(request)] -= 1
        if available[type(request)] < 0:
            return request
    return None


def _who(request: Asked) -> str:
    return "run" if isinstance(request, RunPython) else request.role


def _event(effect: Effect, result: Any) -> Turn | Run | Note:
    if isinstance(effect, Note):
        return effect
    if isinstance(effect, Generate):
        return Turn(effect, result)
    return Run(effect.code, result, effect.earlier)
