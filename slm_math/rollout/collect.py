"""An agent meets problems: what evaluation, training, synthesis and distillation share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from slm_math.agents.base import Agent, check_answer, owner_name, work_name
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Finished, Job, Scheduler
from slm_math.types import Problem, Task, Trace

_Results: TypeAlias = Generator[Finished[str | None], None, None]


@dataclass(frozen=True)
class Draws:
    """How the samples of an agent are drawn.

    Args:
        key: the first parts of every random key: purpose, seed, step. Problem id, sample and the
            number of the request within its workflow follow.
        window: workflows under way at once.
        support: ask the engines which tokens could be sampled, for training.
    """

    key: tuple[int | str, ...] = ()
    window: int = 1024
    support: bool = False


def collect(
    agent: Agent,
    jobs: Iterable[tuple[Task, int]],
    executors: Executors,
    sink: Callable[[GradedTrace], Any],
    draws: Draws = Draws(),
) -> None:
    """Runs an agent on (task, sample) pairs, grades every trace once, and hands it to `sink` as
    soon as it is finished.

    `jobs` are drawn lazily. The agent sees only the problem of a task. What `sink` raises ends the
    run; requests that are still open are canceled. Raises ValueError before the first request when
    an engine or a sandbox is missing.
    """
    with closing(Collection(agent, jobs, executors, sink=sink, draws=draws)) as collection:
        while collection.under_way:
            collection.advance()


class Collection:
    """A `collect` that goes on a little whenever it is told to. Close it if it does not come to
    its end.
    """

    def __init__(
        self,
        agent: Agent,
        jobs: Iterable[tuple[Task, int]],
        executors: Executors,
        sink: Callable[[GradedTrace], Any],
        draws: Draws = Draws(),
    ) -> None:
        meetings = ((task.problem, sample, task) for task, sample in jobs)
        self._sink = sink
        self._scheduler = Scheduler(executors, draws.window)
        self._scheduler.start(_jobs(agent, meetings, executors, draws))

    @property
    def under_way(self) -> bool:
        return self._scheduler.under_way

    def advance(self, wait: bool = True) -> None:
        """Takes what has come, which may be waited for, and sends the next requests."""
        for result in self._scheduler.advance(wait):
            _, _, task = result.job.subject
            self._sink(grade_trace(task, trace_of(result)))

    def close(self) -> None:
        """Drops what is under way."""
        self._scheduler.cancel()


def check_agents(agents: Mapping[str, Agent], tasks: Sequence[Task]) -> None:
    """Raises ValueError for an agent, by its name, that refuses the first problem of a kind: of one
    answer type, with or without a draft. Each is advanced to its first request; nothing is sent.
    """
    kinds: dict[tuple[str, bool], Problem] = {}
    for task in tasks:
        kinds.setdefault((task.problem.answer_type, task.problem.draft is None), task.problem)
    for name, agent in agents.items():
        for problem in kinds.values():
            workflow = agent.solve(problem)
            if isinstance(workflow, Generator):  # what else it may be, is refused when it runs
                try:
                    next(workflow, None)
                except ValueError as error:
                    raise ValueError(f"agent {name}: {error}") from error
                finally:
                    workflow.close()


def run_agent(
    agent: Agent,
    jobs: Iterable[tuple[Problem, int]],
    executors: Executors,
    draws: Draws = Draws(),
) -> Generator[Trace, None, None]:
    """The traces of an agent on (problem, sample) pairs, each as soon as it is finished.

    `collect` for callers that have no reference answers; it raises likewise.
    """
    meetings = ((problem, sample, None) for problem, sample in jobs)
    jobs_of_agent = _jobs(agent, meetings, executors, draws)
    return _traces(Scheduler(executors, draws.window).run(jobs_of_agent))


def _traces(finished: _Results) -> Generator[Trace, None, None]:
    with closing(finished):
        yield from map(trace_of, finished)


def _jobs(
    agent: Agent,
    meetings: Iterable[tuple[Problem, int, Task | None]],
    executors: Executors,
    draws: Draws,
) -> Iterator[Job[str | None]]:
    executors.check(owner_name(agent), agent.roles, agent.uses_python)
    return (
        job_of(agent, problem, sample, draws=draws, about=task)
        for problem, sample, task in meetings
    )


def job_of(
    agent: Agent, problem: Problem, sample: int, draws: Draws, about: Any = None
) -> Job[str | None]:
    """The job of an agent that meets a problem; its subject is (problem, sample, `about`).

    Raises ValueError unless the agent's `solve` is a generator.
    """
    owner, workflow = owner_name(agent), agent.solve(problem)
    if not isinstance(workflow, Generator):
        raise ValueError(f"{owner}: solve yields no request, it must be a generator")
    return Job(
        workflow=workflow,
        owner=owner,
        about=work_name(problem, sample),
        key=(*draws.key, problem.id, sample),
        roles=tuple(agent.roles),
        uses_python=agent.uses_python,
        support=draws.support,
        subject=(problem, sample, about),
    )


def trace_of(result: Finished[str | None]) -> Trace:
    """The trace of a job of `job_of` that ended. Raises ValueError unless its answer is a text."""
    job = result.job
    answer = check_answer(result.value, job.owner, job.about)
    problem, sample, _ = job.subject
    return Trace(
        problem,
        sample,
        events=result.events,
        answer=answer,
        error=result.error,
        seconds=result.seconds,
        skipped=result.skipped,
    )
