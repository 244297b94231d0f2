"""A cascade: any agent, tried by a plan until its answer is accepted."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slm_math.agents import Agent
from slm_math.agents.base import check_answer, check_request, owner_name, rewritten, with_branch
from slm_math.engines.base import EngineError
from slm_math.ranges import check_number
from slm_math.rollout.scheduler import event_of
from slm_math.synthesis.accept import Accept, Ruling
from slm_math.types import (
    Effect,
    Generate,
    Note,
    Problem,
    Run,
    Task,
    Trace,
    Turn,
    Workflow,
)


@dataclass(frozen=True)
class Try:
    """One try of a plan.

    Args:
        role: the engine of this role answers all requests of the try, whatever roles the agent has.
        temperature: of all its requests; by default that of the role. At temperature 0 those keep
            theirs for which the agent sets one, since a retry or a vote would repeat one text.
        effort: how much a thinking model behind an endpoint shall think: low, medium, high.
    """

    role: str = "solver"
    temperature: float | None = None
    effort: str | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            check_number("plan: temperature", self.temperature, low=0)

    def applied(self, request: Generate, number: int) -> Generate:
        """A request of the agent as try `number` makes it."""
        own = request.temperature
        keeps = self.temperature is None or (not self.temperature and bool(own))
        return replace(
            request,
            role=self.role,
            temperature=own if keeps else self.temperature,
            effort=self.effort or request.effort,
            attempt=number,
            plays=request.role,
        )


class Tries(Agent):
    """An agent that is tried by a plan until a solution is accepted. It returns the answer of the
    solution that was kept, or None.

    It knows the reference answers; the agent inside sees the problem alone. A try that an endpoint
    fails is lost, and the next one begins; if nothing was kept and a try is lost, the workflow
    breaks, so that the problem is tried again. Notes with the number of the try as `branch` say
    what became of each: "candidate" its answer, "try" the reason, "kept" which one was kept.

    Args:
        agent: what is tried.
        plan: the tries, in order.
        accept: what decides after each.
        tasks: the problems with their reference answers.
    """

    def __init__(
        self, agent: Agent, plan: Sequence[Try], accept: Accept, tasks: Sequence[Task]
    ) -> None:
        if not plan:
            raise ValueError("plan: there is no try in it")
        accept.check(agent, len(plan))
        self.agent, self.plan, self.accept = agent, tuple(plan), accept
        self._tasks: Mapping[str, Task] = {task.problem.id: task for task in tasks}
        roles = (*(each.role for each in self.plan), *accept.roles)
        self.roles = tuple(dict.fromkeys(roles))
        self.uses_python = agent.uses_python or accept.uses_python

    def solve(self, problem: Problem) -> Workflow[str | None]:
        traces: list[Trace] = []
        numbers: list[int] = []  # of the tries that these are
        failure: EngineError | None = None
        for number, each in enumerate(self.plan, 1):
            try:
                traces.append((yield from self._attempt(problem, each, number)))
                numbers.append(number)
                yield [Note("candidate", traces[-1].answer, role=each.role, branch=(number,))]
                ruling = yield from self._ruling(problem, traces, number)
            except EngineError as error:
                failure = error
                yield [Note("lost", str(error), role=each.role, branch=(number,))]
                continue
            yield [Note("try", ruling.reason, ruling.score, role=each.role, branch=(number,))]
            if ruling.accepted:
                kept = numbers[ruling.chosen]
                role = self.plan[kept - 1].role
                yield [Note("kept", ruling.printed, ruling.score, role=role, branch=(kept,))]
                return traces[ruling.chosen].answer
        if failure is not None:
            raise failure
        return None

    def _attempt(self, problem: Problem, each: Try, number: int) -> Workflow[Trace]:
        """One try, as a trace in which the agent's roles are its own."""
        owner, events = owner_name(self.agent), list[Turn | Run | Note]()

        def change(effect: Effect) -> Effect:
            check_request(effect, owner, self.agent.roles, self.agent.uses_python)
            if isinstance(effect, Generate):
                return each.applied(effect, number)
            return with_branch(effect, number)

        def record(effect: Effect, result: Any) -> None:
            events.append(event_of(effect, result))

        answer = yield from rewritten(self.agent.solve(problem), change, record)
        return Trace(problem, number - 1, tuple(events), check_answer(answer, owner))

    def _ruling(self, problem: Problem, traces: Sequence[Trace], number: int) -> Workflow[Ruling]:
        task = self._tasks[problem.id]
        judged = self.accept.judge(task, traces, len(self.plan))
        if not isinstance(judged, Generator):
            return judged

        def change(effect: Effect) -> Effect:
            return replace(effect, attempt=number) if isinstance(effect, Generate) else effect

        return (yield from rewritten(judged, change))
