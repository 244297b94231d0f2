"""Drives many workflows at once: hands their requests to executors, resumes them with the results,
records traces.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from slm_math.agents.base import Agent
from slm_math.engines.base import ContextFull, Engine, EngineError, Request
from slm_math.types import (
    Effect,
    Generate,
    Note,
    Problem,
    Reply,
    Run,
    RunPython,
    RunResult,
    Sampling,
    Trace,
    Turn,
    Workflow,
)

MOST_EVENTS = 10_000  # of a trace: what asks for more is in a loop


class Executor(Protocol):
    """What engines and the sandbox have in common."""

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]: ...

    def cancel(self, ticket: int) -> None: ...


class Sandbox(Executor, Protocol):
    def submit(self, request: RunPython) -> int: ...

    def identity(self) -> dict[str, Any]: ...


@dataclass
class _Live:
    """A workflow under way."""

    problem: Problem
    sample: int
    workflow: Workflow[str | None]
    key: tuple[int | str, ...]
    start: float = field(default_factory=time.perf_counter)
    events: list[Turn | Run | Note] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    missing: int = 0
    asked: int = 0  # generation requests so far: the "turn" of the random key

    def note(self) -> None:
        """Writes down what was asked and answered."""
        done = [
            (e, r)
            for e, r in zip(self.effects, self.results)
            if r is not None or isinstance(e, Note)
        ]
        self.events += [_event(effect, result) for effect, result in done]


class Rollouts:
    """Runs an agent on problems with one engine per role and an optional sandbox.

    Args:
        agent: the workflow.
        engines: role -> engine; a role without its own takes "default".
        sampling: role -> decoding defaults; likewise.
        sandbox: for agents that run code.
        key: the first parts of every random key (seed, step).
        window: workflows under way at once.
        support: ask engines what could be sampled at each token, for training.
    """

    def __init__(
        self,
        agent: Agent,
        engines: Mapping[str, Engine],
        sampling: Mapping[str, Sampling],
        sandbox: Sandbox | None = None,
        key: tuple[int | str, ...] = (),
        window: int = 1024,
        support: bool = False,
    ) -> None:
        for role in agent.roles:
            if role not in engines and "default" not in engines:
                raise ValueError(
                    f"agent {type(agent).__name__} asks for role {role!r}, and no engine serves it"
                )
        if agent.uses_python and sandbox is None:
            raise ValueError(f"agent {type(agent).__name__} runs Python, and there is no sandbox")
        self.agent = agent
        self.engines = engines
        self.sampling = sampling
        self.sandbox = sandbox
        self.key = key
        self.window = window
        self.support = support
        self._pending: dict[tuple[int, int], tuple[_Live, int]] = {}
        self._executors: dict[int, Executor] = {}

    def run(self, jobs: Iterable[tuple[Problem, int]]) -> Iterator[Trace]:
        """Yields a trace as soon as its workflow ends; `jobs` are (problem, sample index) and are
        drawn lazily.
        """
        source = iter(jobs)
        live: dict[int, _Live] = {}
        exhausted = False
        try:
            while True:
                while not exhausted and len(live) < self.window:
                    job = next(source, None)
                    if job is None:
                        exhausted = True
                        break
                    item = self._start(*job)
                    live[id(item)] = item
                    yield from self._advance(item, live)
                if not live:
                    return
                for executor, ticket, result in self._finished():
                    found = self._pending.pop((id(executor), ticket), None)
                    if found is None:
                        continue
                    item, index = found
                    yield from self._deliver(item, index, result, live)
        finally:
            # an interrupt or an error must not leave requests behind in engines that live on
            for executor, ticket in list(self._pending):
                self._executors[executor].cancel(ticket)
            self._pending.clear()

    def _start(self, problem: Problem, sample: int) -> _Live:
        workflow = self.agent.solve(problem)
        if not isinstance(workflow, Generator):
            raise ValueError(
                f"{type(self.agent).__name__}.solve yields no request: it must be a generator"
            )
        return _Live(problem, sample, workflow, (*self.key, problem.id, sample))

    def _finished(self) -> list[tuple[Executor, int, Any]]:
        """What executors have finished. One that computes does so a step at a time while others owe
        something, too; when all merely wait, so does this."""
        owing = [self._executors[i] for i in {executor for executor, _ in self._pending}]
        if len(owing) == 1:
            return [(owing[0], *item) for item in owing[0].poll(timeout=1.0)]
        found = [(executor, *item) for executor in owing for item in executor.poll()]
        if not found and not any(getattr(executor, "runs_in_poll", False) for executor in owing):
            found = [
                (executor, *item) for executor in owing for item in executor.poll(timeout=0.02)
            ]
        return found

    def _deliver(
        self, item: _Live, index: int, result: Any, live: dict[int, _Live]
    ) -> Iterator[Trace]:
        if id(item) not in live:
            return
        if isinstance(result, ContextFull) and any(
            isinstance(event, Turn) for event in item.events
        ):
            result = Reply("", finish="length")  # a long chat keeps the answers that it has
        if isinstance(result, EngineError):
            item.note()  # what was answered beside it
            yield self._end(item, live, None, str(result))
            return
        if isinstance(result, Exception):
            raise result
        item.results[index] = result
        item.missing -= 1
        if item.missing == 0:
            item.note()
            yield from self._advance(item, live)

    def _advance(self, item: _Live, live: dict[int, _Live]) -> Iterator[Trace]:
        """Resumes a workflow until it asks for something or ends."""
        asked: list[int] = []
        try:
            while not asked:
                effects = item.workflow.send(item.results) if item.effects else next(item.workflow)
                if not effects or not isinstance(effects, (list, tuple)):
                    raise ValueError(
                        f"agent {type(self.agent).__name__} must yield lists of requests that are "
                        f"not empty, "
                        f"got {effects!r:.200}"
                    )
                item.effects, item.results = list(effects), [None] * len(effects)
                asked = [
                    index
                    for index, effect in enumerate(item.effects)
                    if not isinstance(effect, Note)
                ]
                if not asked:
                    item.note()
                    if len(item.events) > MOST_EVENTS:
                        raise ValueError(
                            f"agent {type(self.agent).__name__} never ends: {MOST_EVENTS} events"
                        )
        except StopIteration as end:
            yield self._end(item, live, end.value, None)
            return
        except Exception as error:
            error.add_note(
                f"in agent {type(self.agent).__name__} on problem {item.problem.id}, sample "
                f"{item.sample}"
            )
            raise
        if len(item.events) > MOST_EVENTS:
            yield self._end(
                item, live, None, f"the workflow had not ended after {MOST_EVENTS} events"
            )
            return
        item.missing = len(asked)
        for index in asked:
            executor, ticket = self._submit(item, item.effects[index])
            self._executors[id(executor)] = executor
            self._pending[id(executor), ticket] = (item, index)

    def _submit(self, item: _Live, effect: Effect) -> tuple[Executor, int]:
        if isinstance(effect, RunPython):
            assert self.sandbox is not None, "an agent that runs code must set uses_python"
            return self.sandbox, self.sandbox.submit(effect)
        assert isinstance(effect, Generate)
        if effect.role not in self.agent.roles:
            roles = ", ".join(self.agent.roles)
            raise ValueError(
                f"agent {type(self.agent).__name__} asks for role {effect.role!r}; its roles are "
                f"{roles}"
            )
        engine = self.engines.get(effect.role) or self.engines["default"]
        default = self.sampling.get(effect.role) or self.sampling["default"]
        item.asked += 1
        key = (*item.key, item.asked)
        request = Request(
            effect.chat, effect.sampling(default), effect.resume, key, self.support, effect.role
        )
        return engine, engine.submit(request)

    def _end(
        self, item: _Live, live: dict[int, _Live], answer: str | None, error: str | None
    ) -> Trace:
        del live[id(item)]
        item.workflow.close()
        seconds = time.perf_counter() - item.start
        return Trace(item.problem, item.sample, tuple(item.events), answer, error, seconds)


def _event(effect: Effect, result: Reply | RunResult | None) -> Turn | Run | Note:
    if isinstance(effect, Note):
        return effect
    if isinstance(effect, Generate):
        assert isinstance(result, Reply)
        return Turn(effect, result)
    assert isinstance(result, RunResult)
    return Run(effect.code, result, effect.earlier)
