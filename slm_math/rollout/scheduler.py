"""Drives many workflows at once: sends their requests to executors, resumes them with the results,
records what happened.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from slm_math.agents.base import MOST_EVENTS, check_request
from slm_math.engines.base import ContextFull, EngineError, Request
from slm_math.rollout.awaited import Awaited, Executor
from slm_math.rollout.executors import Executors
from slm_math.types import (
    Effect,
    Generate,
    Note,
    Reply,
    Run,
    RunPython,
    RunResult,
    Turn,
    Workflow,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """A workflow to run, of an agent or of a reward.

    Args:
        workflow: a generator that was not started yet.
        owner: whose workflow it is, for errors: "agent SingleShot".
        about: what the workflow works on, for errors: "problem gsm8k/3, sample 0".
        key: the first parts of the random key of its requests. The last part is the number of the
            request within the workflow, from 1; of a cascade, the number of the try and that of the
            request within it.
        roles: the roles that it may ask.
        uses_python: whether it may run programs.
        support: ask the engines which tokens could be sampled, for training.
        subject: anything that the caller needs to have beside the result.
    """

    workflow: Workflow[T]
    owner: str
    about: str
    key: tuple[int | str, ...]
    roles: tuple[str, ...] = ()
    uses_python: bool = False
    support: bool = False
    subject: Any = None


@dataclass(frozen=True)
class Finished(Generic[T]):
    """A workflow that ended.

    `value` is what it returned. `error` is set when an engine could not answer one of its requests
    and the workflow did not go on without the reply; `value` is None then. `events` are its turns,
    runs and notes in order, `seconds` the wall time. `skipped`: its first request does not fit into
    the model's context.
    """

    job: Job[T]
    value: T | None
    events: tuple[Turn | Run | Note, ...]
    error: str | None
    seconds: float
    skipped: bool = False


@dataclass(eq=False)
class _Live(Generic[T]):
    """A workflow under way."""

    job: Job[T]
    start: float = field(default_factory=time.perf_counter)
    events: list[Turn | Run | Note] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    missing: int = 0
    # generation requests so far, by the number of the try: the last part of the random key
    requested: Counter[int] = field(default_factory=Counter)

    def record(self) -> None:
        """Adds the effects that were answered to the events."""
        for effect, result in zip(self.effects, self.results):
            if isinstance(effect, Note) or isinstance(result, Reply | RunResult):
                self.events.append(event_of(effect, result))

    @property
    def failure(self) -> EngineError | None:
        """Why one of the effects was not answered; None if all were."""
        return next((each for each in self.results if isinstance(each, EngineError)), None)


class Audience(Protocol):
    """Is told what workflows do while they run; `number` tells their requests apart."""

    def asked(self, number: int, job: Job[Any], effect: Generate | RunPython) -> None: ...

    def grew(self, number: int, text: str) -> None:
        """The text of a reply so far, perhaps on another thread (see `Request.progress`)."""

    def happened(self, number: int, job: Job[Any], event: Turn | Run | Note) -> None:
        """A request was answered, or a note taken, which has the number 0."""


class Scheduler:
    """Runs workflows side by side, so that their requests are decoded together: those of `run`, or
    those that are added one by one with `add`, while `step` goes on with all of them.

    Args:
        executors: answer the requests.
        window: workflows under way at once in `run`.
        audience: is told what the workflows do.
        patience: seconds for which a step may wait for a single executor.
    """

    def __init__(
        self,
        executors: Executors,
        window: int = 1024,
        audience: Audience | None = None,
        patience: float = 1.0,
    ) -> None:
        self.executors = executors
        self.window = window
        self.audience = audience
        self._live: set[_Live[Any]] = set()
        self._source: Iterator[Job[Any]] | None = None  # of jobs that have not begun
        self._numbers = count(1)  # of requests, for the audience
        self._awaited = Awaited[tuple[_Live[Any], int, int]](
            executors.deterministic, programs=executors.sandbox, patience=patience
        )

    @property
    def busy(self) -> int:
        """The number of workflows under way."""
        return len(self._live)

    def run(self, jobs: Iterable[Job[T]]) -> Generator[Finished[T], None, None]:
        """Yields every workflow as soon as it ends; `jobs` are drawn lazily.

        Raises ValueError when an engine, a sandbox or a permission that a job needs is missing, or
        a workflow yields something else than a list of requests. What a workflow itself raises is
        raised with a note that names its owner.
        """
        self.start(jobs)
        try:
            while self.under_way:
                yield from self.advance()
        finally:
            self.cancel()  # also after an interrupt or an error

    def start(self, jobs: Iterable[Job[Any]]) -> None:
        """Takes jobs for `advance`, which draws them lazily."""
        self._source = iter(jobs)

    @property
    def under_way(self) -> bool:
        """Whether jobs of `start` or `add` have not ended."""
        return self._source is not None or bool(self.busy)

    def advance(self, wait: bool = True) -> Iterator[Finished[Any]]:
        """Begins as many jobs of `start` as may be under way, and goes on with all of them like
        `step`. Raises like `run`.
        """
        while self._source is not None and self.busy < self.window:
            job = next(self._source, None)
            if job is None:
                self._source = None
                break
            yield from self.add(job)
        if self.busy:
            yield from self.step(wait)

    def add(self, job: Job[T]) -> Iterator[Finished[T]]:
        """Begins a workflow; yields it if it ends at once. Raises like `run`."""
        self.executors.check(job.owner, job.roles, job.uses_python)
        item = _Live(job)
        self._live.add(item)
        yield from self._advance(item)

    def step(self, wait: bool = True) -> Iterator[Finished[Any]]:
        """Takes the next results, which it may wait for, and yields the workflows that they end.
        Raises like `run`.
        """
        for (item, index, number), result in self._awaited.results(wait):
            yield from self._deliver(item, index, number, result)

    def cancel(self, job: Job[Any] | None = None) -> None:
        """Drops the workflow of a job with its open requests; by default all workflows."""
        if job is None:
            self._source = None
        gone = {item for item in self._live if job is None or item.job is job}
        self._live -= gone
        self._awaited.cancel(lambda asker: asker[0] in gone)

    def _deliver(
        self, item: _Live[T], index: int, number: int, result: Any
    ) -> Iterator[Finished[T]]:
        """Hands one result to its workflow."""
        if item not in self._live:
            return
        answered = any(isinstance(event, Turn) for event in item.events)
        if isinstance(result, ContextFull) and answered:
            # From the second turn on the workflow receives an empty reply with finish="length"
            # instead, so that a long chat keeps the answers that it has.
            result = Reply("", finish="length")
        if isinstance(result, Exception) and not isinstance(result, EngineError):
            raise result
        if not isinstance(result, EngineError):
            self._tell(item, item.effects[index], result, number)
        item.results[index] = result
        item.missing -= 1
        if item.missing == 0:
            item.record()
            yield from self._advance(item)

    def _tell(self, item: _Live[Any], effect: Effect, result: Any = None, number: int = 0) -> None:
        """Tells the audience what happened."""
        if self.audience is not None:
            self.audience.happened(number, item.job, event_of(effect, result))

    def _advance(self, item: _Live[T]) -> Iterator[Finished[T]]:
        """Resumes a workflow until it asks for something or ends."""
        try:
            requests = self._resume(item)
        except StopIteration as end:
            yield self._end(item, end.value, None)
            return
        except EngineError as error:
            ended = self._end(item, None, str(error))
            yield replace(ended, skipped=isinstance(error, ContextFull))
            return
        except Exception as error:
            error.add_note(f"in {item.job.owner} on {item.job.about}")
            raise
        if len(item.events) > MOST_EVENTS:
            error = f"the workflow had not ended after {MOST_EVENTS} events"
            yield self._end(item, None, error)
            return
        item.missing = len(requests)
        for index in requests:
            number = next(self._numbers)
            executor, ticket = self._submit(item, item.effects[index], number)
            self._awaited.add(executor, ticket, (item, index, number))

    def _resume(self, item: _Live[Any]) -> list[int]:
        """Resumes a workflow until it asks for something; returns which of its effects do. Why an
        engine could not answer is raised in the workflow.
        """
        workflow, owner = item.job.workflow, item.job.owner
        while True:
            if item.failure is not None:
                effects = workflow.throw(item.failure)
            else:
                effects = workflow.send(item.results) if item.effects else next(workflow)
            if not effects or not isinstance(effects, (list, tuple)):
                raise ValueError(
                    f"{owner} must yield lists of requests that are not empty, got {effects!r:.200}"
                )
            item.effects, item.results = list(effects), [None] * len(effects)
            for note in (effect for effect in effects if isinstance(effect, Note)):
                self._tell(item, note)
            requests = [i for i, effect in enumerate(effects) if not isinstance(effect, Note)]
            if requests:
                return requests
            item.record()
            if len(item.events) > MOST_EVENTS:
                raise ValueError(f"{owner} never ends: {MOST_EVENTS} events")

    def _submit(self, item: _Live[Any], effect: Effect, number: int) -> tuple[Executor, int]:
        job, sandbox, audience = item.job, self.executors.sandbox, self.audience
        check_request(effect, job.owner, job.roles, job.uses_python, about=job.about)
        if audience is not None and not isinstance(effect, Note):
            audience.asked(number, job, effect)
        if isinstance(effect, RunPython):
            assert sandbox is not None  # checked when the job came
            return sandbox, sandbox.submit(effect)
        assert isinstance(effect, Generate)
        item.requested[effect.attempt] += 1
        attempt = (effect.attempt,) if effect.attempt else ()
        engine = self.executors.engine(effect.role)
        request = Request(
            chat=effect.chat,
            sampling=effect.sampling(self.executors.defaults(effect.role)),
            resume=effect.resume,
            key=(*job.key, *(effect.draw or (*attempt, item.requested[effect.attempt]))),
            support=job.support,
            role=effect.role,
            progress=None if audience is None else partial(audience.grew, number),
        )
        return engine, engine.submit(request)

    def _end(self, item: _Live[T], value: T | None, error: str | None) -> Finished[T]:
        self._live.remove(item)
        item.job.workflow.close()
        seconds = time.perf_counter() - item.start
        return Finished(item.job, value, events=tuple(item.events), error=error, seconds=seconds)


def event_of(effect: Effect, result: Reply | RunResult | None) -> Turn | Run | Note:
    """What a trace holds of an effect that was answered."""
    if isinstance(effect, Note):
        return effect
    if isinstance(effect, Generate):
        assert isinstance(result, Reply)
        return Turn(effect, result)
    assert isinstance(result, RunResult)
    return Run(effect.code, result, effect.earlier)
