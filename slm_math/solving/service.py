"""One agent for many clients: their workflows run side by side in one scheduler, on a thread of its
own, so that their requests are decoded together.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, TypeAlias

from slm_math.agents import Agent
from slm_math.engines.base import EngineError
from slm_math.rollout.collect import Draws, job_of, trace_of
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Finished, Job, Scheduler
from slm_math.solving.protocol import Refusal
from slm_math.types import Problem, Trace, Workflow
from slm_math.visible import visible

PATIENCE = 0.05  # seconds after which a new workflow begins at the latest

Pending: TypeAlias = "Future[Trace]"


class Service:
    """Runs an agent on the problems of `submit`.

    A future that is canceled drops its workflow. An error of the agent's code ends its workflow; an
    error of an engine or the sandbox ends all that are under way, and the service goes on.

    Args:
        agent: solves the problems.
        executors: answer its requests; only the service's thread uses them.
        seed: of the sampling where a request names none.
        most: workflows at once; what comes beyond them is refused.
    """

    def __init__(self, agent: Agent, executors: Executors, seed: int = 0, most: int = 64) -> None:
        self.agent = agent
        self.executors = executors
        self.seed = seed
        self.most = most
        self._numbers = count(1)  # of requests without a seed: no two are answered alike
        self._change = threading.Condition()
        self._new: list[Job[Any]] = []
        self._jobs: dict[Pending, Job[Any]] = {}  # that were not answered yet
        self._canceled: list[Job[Any]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="agent", daemon=True)
        self._thread.start()

    def submit(self, problem: Problem, n: int = 1, seed: int | None = None) -> list[Pending]:
        """Begins `n` workflows on a problem; their futures hold traces, or raise Refusal.

        Raises Refusal if too many are under way, or the agent refuses the problem.
        """
        own: tuple[int | str, ...] = (seed,) if seed is not None else ("any", next(self._numbers))
        draws = Draws(key=("serve", self.seed, *own))
        futures: list[Pending] = []
        with self._change:
            if self._closing:
                raise Refusal(503, "the server is closing")
            if len(self._jobs) + n > self.most:
                busy = f"busy: {len(self._jobs)} workflows run, of at most {self.most}"
                raise Refusal(429, busy, "rate_limit_exceeded")
            for sample in range(n):
                future: Pending = Future()
                job = job_of(self.agent, problem, sample, draws=draws, about=future)
                job = replace(job, workflow=_guarded(job.workflow))
                self._jobs[future] = job
                self._new.append(job)
                futures.append(future)
            self._change.notify_all()
        for future in futures:
            future.add_done_callback(self._answered)
        return futures

    def close(self) -> None:
        """Ends all workflows, whose clients get status 503, and the thread."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()

    def _answered(self, future: Pending) -> None:
        with self._change:
            job = self._jobs.pop(future, None)
            if job is not None and future.cancelled():
                self._canceled.append(job)

    def _serve(self) -> None:
        scheduler = Scheduler(self.executors, patience=PATIENCE)
        while True:
            with self._change:
                self._change.wait_for(lambda: self._new or self._closing or scheduler.busy)
                new, self._new = self._new, []
                canceled, self._canceled = self._canceled, []
                if self._closing:
                    break
            try:
                for job in canceled:
                    scheduler.cancel(job)
                for job in new:
                    if not any(job is each for each in canceled):
                        self._deliver(scheduler.add(job))
                self._deliver(scheduler.step())
            except Exception as error:  # of an engine or the sandbox: the next request may go well
                print(visible(f"serve-agent: {_line(error)}"), file=sys.stderr, flush=True)
                scheduler.cancel()
                self._fail(Refusal(500, _line(error)))
        scheduler.cancel()
        self._fail(Refusal(503, "the server is closing"))

    def _deliver(self, finished: Iterable[Finished[Any]]) -> None:
        """Hands over what ended."""
        for result in finished:
            _, _, future = result.job.subject
            # its client may have gone meanwhile
            with suppress(InvalidStateError):
                if isinstance(result.value, Refusal):
                    future.set_exception(result.value)
                else:
                    future.set_result(trace_of(result))

    def _fail(self, refusal: Refusal) -> None:
        """Refuses all that was not answered."""
        with self._change:
            futures = list(self._jobs)
            self._new.clear()
        for future in futures:
            with suppress(InvalidStateError):
                future.set_exception(refusal)


def _guarded(workflow: Workflow[str | None]) -> Workflow[Any]:
    """The workflow, which returns a Refusal where its own code raises an error."""
    try:
        return (yield from workflow)
    except EngineError:
        raise
    except Exception as error:
        print(visible(f"serve-agent: {_line(error)}"), file=sys.stderr, flush=True)
        return Refusal(500, f"the agent failed: {_line(error)}")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]
