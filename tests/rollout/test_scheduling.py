"""When the scheduler computes, when it waits, and for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from rollout.scripted import served_by

from slm_math.agents import Agent
from slm_math.engines.base import Engine, Request
from slm_math.rollout.awaited import Awaited
from slm_math.rollout.collect import run_agent
from slm_math.types import Generate, Problem, Reply, RunPython, RunResult, Trace, Workflow, user


class Computing(Engine):
    """Sixteen tokens a reply, a step of all open requests in each poll, or as many as fit before
    `timeout` is over.
    """

    returns_logprobs = runs_in_poll = True

    def __init__(
        self, length: Callable[[Request], int] = lambda request: 16, pause: float = 0.0
    ) -> None:
        self.length, self.pause = length, pause
        self.open: dict[int, list[Any]] = {}
        self.requests: list[Request] = []
        self.timeouts: list[float] = []
        self.steps = 0

    def submit(self, request: Request) -> int:
        self.requests.append(request)
        self.open[len(self.requests)] = [request, self.length(request)]
        return len(self.requests)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        self.timeouts.append(timeout)
        end = time.perf_counter() + timeout
        while self.open:
            self.steps += 1
            time.sleep(self.pause)
            for item in self.open.values():
                item[1] -= 1
            done = [ticket for ticket, (_, left) in self.open.items() if left <= 0]
            if done:
                return [(ticket, Reply(self.open.pop(ticket)[0].chat[0].text)) for ticket in done]
            if time.perf_counter() >= end:
                break
        return []

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


class Waiting(Engine):
    """Work that goes on elsewhere: every request is over when `ready` says so of the seconds since
    it came.
    """

    def __init__(self, ready: Callable[[float], bool], result: Any = RunResult(True, "1")) -> None:
        self.ready, self.result = ready, result
        self.open: dict[int, float] = {}
        self.count = 0
        self.timeouts: list[float] = []

    def submit(self, request: Any) -> int:
        self.count += 1
        self.open[self.count] = time.perf_counter()
        return self.count

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        self.timeouts.append(timeout)
        assert len(self.timeouts) < 100_000, "polled without end"
        done = self._done()
        if not done and timeout:
            threading.Event().wait(min(timeout, 0.05))
            done = self._done()
        return [(ticket, self.result) for ticket in done if self.open.pop(ticket)]

    def _done(self) -> list[int]:
        return [
            ticket for ticket, since in self.open.items() if self.ready(time.perf_counter() - since)
        ]

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)

    def identity(self) -> dict[str, Any]:
        return {}


class Coder(Agent):
    """Problems whose text begins with `code` run a program and then speak; the
    others only speak.
    """

    roles = ("solver", "judge")
    uses_python = True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        if problem.text.startswith("code"):
            yield [RunPython("1")]
        [reply] = yield [
            Generate(user(problem.text), "judge" if "judge" in problem.text else "solver")
        ]
        return reply.text


def traces(texts: list[str], sandbox: Any, **engines: Engine) -> list[Trace]:
    jobs = [(Problem(f"p/{i}", text), 0) for i, text in enumerate(texts)]
    return list(run_agent(Coder(), jobs, served_by(sandbox=sandbox, **engines)))


@pytest.mark.timeout(120)
def test_decoding_continues_while_a_program_runs() -> None:
    engine = Computing(lambda request: 200 if request.chat[0].text == "long" else 10)
    # a program that is over when decoding has gone far
    sandbox = Waiting(lambda seconds: engine.steps >= 150)
    found = traces(["code", "long", "short"], sandbox, default=engine)
    assert [trace.problem.text for trace in found] == ["short", "code", "long"]
    assert engine.steps == 200  # what the program was followed by shared steps with the long reply


@pytest.mark.timeout(120)
def test_program_that_is_over_is_seen_after_one_step() -> None:
    engine = Computing(lambda request: 300 if request.chat[0].text == "long" else 10)
    sandbox = Waiting(lambda seconds: True)
    found = traces(["code", "long"], sandbox, default=engine)
    assert [trace.problem.text for trace in found] == ["code", "long"]
    assert len(sandbox.timeouts) <= 3
    assert engine.timeouts[0] == 0.0  # a step at a time while the sandbox owes something
    assert engine.steps == 300


@pytest.mark.timeout(120)
def test_engine_alone_computes_as_long_as_it_likes() -> None:
    engine = Computing(pause=0.0002)
    traces(["short"] * 3, Waiting(lambda seconds: True), default=engine)
    assert all(timeout > 0 for timeout in engine.timeouts)
    assert len(engine.timeouts) == 1
    assert engine.steps == 16


@pytest.mark.timeout(120)
def test_sandbox_alone_is_waited_for() -> None:
    sandbox, engine = Waiting(lambda seconds: seconds > 0.2), Computing()
    [trace] = traces(["code"], sandbox, default=engine)
    assert trace.answer == "code"
    assert all(timeout > 0 for timeout in sandbox.timeouts)
    assert len(sandbox.timeouts) < 20


@pytest.mark.timeout(120)
def test_sleeps_when_all_merely_wait() -> None:
    sandbox = Waiting(lambda seconds: seconds > 0.4)
    endpoint = Waiting(lambda seconds: seconds > 0.5, Reply("said"))
    found = traces(["code", "short"], sandbox, default=endpoint)
    assert [trace.answer for trace in found] == ["said", "said"]
    assert len(sandbox.timeouts) + len(endpoint.timeouts) < 200


@pytest.mark.timeout(120)
def test_engine_that_computes_is_not_held_up_by_an_endpoint() -> None:
    engine = Computing(lambda request: 100)
    endpoint = Waiting(lambda seconds: engine.steps >= 90, Reply("said"))
    found = traces(["judge", "long"], Waiting(lambda seconds: True), default=engine, judge=endpoint)
    assert [trace.problem.text for trace in found] == ["judge", "long"]
    assert set(endpoint.timeouts) == {0.0}


@pytest.mark.timeout(120)
def test_two_engines_that_compute_take_turns() -> None:
    solver, judge = Computing(lambda request: 50), Computing(lambda request: 20)
    found = traces(["long", "judge"], Waiting(lambda seconds: True), default=solver, judge=judge)
    assert [trace.problem.text for trace in found] == ["judge", "long"]
    assert set(judge.timeouts) == {0.0}
    assert (solver.steps, judge.steps) == (50, 20)


@pytest.mark.timeout(120)
def test_engine_that_owes_nothing_is_not_polled() -> None:
    idle = Computing()
    traces(["code long", "long"], Waiting(lambda seconds: True), default=Computing(), judge=idle)
    assert idle.timeouts == []


class Steps(Engine):
    """Writes to `log` what it is asked; a step takes two of the seconds of `clock`."""

    runs_in_poll = True

    def __init__(self, clock: list[float], log: list[Any]) -> None:
        self.clock, self.log = clock, log

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        self.clock[0] += 2.0
        self.log.append("step")
        return []


class Programs(Engine):
    """One of its programs ends whenever it is waited for, one and a half seconds later."""

    def __init__(self, clock: list[float], log: list[Any]) -> None:
        self.clock, self.log, self.tickets = clock, log, 0

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        if not timeout:
            return []
        self.log.append(timeout)
        self.clock[0] += min(timeout, 1.5)
        if timeout < 1.5:
            return []
        self.tickets += 1
        return [(self.tickets, "over")]


def waits(monkeypatch: pytest.MonkeyPatch, programs: int, known: bool = True) -> list[Any]:
    """The steps, and how long programs are waited for between them, with one request to decode."""
    clock, log = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    engine, sandbox = Steps(clock, log), Programs(clock, log)
    awaited = Awaited[int](programs=sandbox if known else None)
    awaited.add(engine, 1, 0)
    for ticket in range(1, programs + 1):
        awaited.add(sandbox, ticket, ticket)
    for _ in range(4):
        awaited.results()
    return log


def test_programs_are_waited_for_while_most_workflows_wait_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # at most as long as the step took, so that decoding keeps half its pace
    assert waits(monkeypatch, programs=5) == ["step", 2.0, 0.5, "step", 2.0]


def test_decoding_waits_for_no_program_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits(monkeypatch, programs=1) == ["step"] * 4
    assert waits(monkeypatch, programs=5, known=False) == ["step"] * 4  # nor for an endpoint
