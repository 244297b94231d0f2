"""What is decoded together, and in which order results come, whatever takes how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from slm_math.agents import Agent
from slm_math.engines.base import Engine, Request
from slm_math.rollout.awaited import LAG
from slm_math.rollout.collect import run_agent
from slm_math.rollout.executors import Executors
from slm_math.types import (
    Generate,
    Problem,
    Reply,
    RunPython,
    RunResult,
    Sampling,
    Trace,
    Workflow,
    user,
)


class Decoder(Engine):
    """Replies of 3 to 9 tokens, decoded together; `batches` has the requests of every step."""

    returns_logprobs = runs_in_poll = True

    def __init__(self) -> None:
        self.left: dict[int, tuple[Request, int]] = {}
        self.count = 0
        self.batches: list[tuple[Any, ...]] = []

    def submit(self, request: Request) -> int:
        self.count += 1
        self.left[self.count] = request, 3 + random.Random(repr(request.key)).randrange(7)
        return self.count

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        while self.left:
            self.batches.append(tuple(request.key for request, _ in self.left.values()))
            self.left = {t: (request, left - 1) for t, (request, left) in self.left.items()}
            done = [ticket for ticket, (_, left) in self.left.items() if not left]
            if done or not timeout:
                return [(ticket, Reply(repr(self.left.pop(ticket)[0].key))) for ticket in done]
        return []

    def cancel(self, ticket: int) -> None:
        self.left.pop(ticket, None)


class Elsewhere(Engine):
    """Work that goes on elsewhere; after how many polls a request is done, `polls` draws."""

    def __init__(self, polls: Callable[[], int], result: Any = RunResult(True, "1")) -> None:
        self.polls, self.result = polls, result
        self.left: dict[int, int] = {}
        self.count = 0

    def submit(self, request: Any) -> int:
        self.count += 1
        self.left[self.count] = self.polls()
        return self.count

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        self.left = {ticket: left - 1 for ticket, left in self.left.items()}
        done = [ticket for ticket, left in self.left.items() if left <= 0]
        random.shuffle(done)
        return [(ticket, self.result) for ticket in done if self.left.pop(ticket) is not None]

    def cancel(self, ticket: int) -> None:
        self.left.pop(ticket, None)


class Busy(Agent):
    """Speaks, runs a program, asks an endpoint, three times."""

    roles = ("solver", "judge", "helper")
    uses_python = True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        for _ in range(3):
            yield [Generate(user(problem.text)), Generate(user("helper"), role="helper")]
            if self.uses_python:
                yield [RunPython("1")]
            yield [Generate(user("judge"), role="judge")]
        return "over"


class Talks(Busy):
    """The same without programs."""

    uses_python = False


def run(deterministic: bool, sandbox: Any = None, **engines: Engine) -> list[Trace]:
    executors = Executors(engines, {"default": Sampling()}, sandbox, deterministic)
    agent = Busy() if sandbox else Talks()
    return list(run_agent(agent, [(Problem(f"p/{n}", "?"), 0) for n in range(9)], executors))


def decoded(deterministic: bool, seed: int, judge_is_here: bool = False) -> Any:
    """The batches of every step, and the order in which workflows end, where all that works
    elsewhere takes another time with every seed.
    """
    draw = random.Random(seed)
    decoder, second = Decoder(), Decoder()
    judge = second if judge_is_here else Elsewhere(lambda: draw.randrange(40), Reply("said"))
    traces = run(
        deterministic,
        solver=decoder,
        helper=decoder,
        judge=judge,
        sandbox=Elsewhere(lambda: draw.randrange(20)),
    )
    return decoder.batches, second.batches, [trace.problem.id for trace in traces]


@pytest.mark.parametrize("judge_is_here", [False, True])
def test_batches_do_not_depend_on_how_long_programs_and_endpoints_take(judge_is_here: bool) -> None:
    first, *others = (decoded(True, seed, judge_is_here) for seed in range(6))
    assert all(other == first for other in others)


def test_by_default_a_result_is_used_as_soon_as_it_is_there() -> None:
    """Or the test above would try nothing."""
    assert len({str(decoded(False, seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize("polls", [1, 5 * LAG])
def test_result_is_due_after_a_number_of_steps(polls: int) -> None:
    class Once(Agent):
        uses_python = True

        def solve(self, problem: Problem) -> Workflow[str | None]:
            if problem.text == "program":
                yield [RunPython("1")]
            yield [Generate(user(problem.text))]
            return None

    class Long(Decoder):
        def submit(self, request: Request) -> int:
            ticket = super().submit(request)
            self.left[ticket] = request, 4 * LAG
            return ticket

    engine = Long()
    jobs = [(Problem("p/0", "program"), 0), (Problem("p/1", "alone"), 0)]
    sandbox = Elsewhere(lambda: polls)
    executors = Executors({"default": engine}, {"default": Sampling()}, sandbox, deterministic=True)
    list(run_agent(Once(), jobs, executors))
    assert [len(batch) for batch in engine.batches] == [1] * LAG + [2] * 3 * LAG + [1] * LAG


def test_results_that_come_together_come_in_the_order_of_the_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # how long a step takes decides how long programs are waited for
    monkeypatch.setattr("slm_math.rollout.awaited.time.perf_counter", lambda: 0.0)
    orders = []
    for seed in range(5):
        random.seed(seed)  # of the order in which programs finish
        decoder = Decoder()
        run(False, default=decoder, sandbox=Elsewhere(lambda: 3))
        orders.append(decoder.batches)
    assert all(order == orders[0] for order in orders)


def test_order_of_two_engines_does_not_depend_on_their_addresses() -> None:
    engines = Decoder(), Decoder()
    found = []
    for solver, judge in (engines, engines[::-1]):
        solver.batches.clear()
        judge.batches.clear()
        traces = run(False, solver=solver, helper=judge, judge=judge)
        order = [trace.problem.id for trace in traces]
        found.append((list(solver.batches), list(judge.batches), order))
    assert found[0] == found[1]


def test_all_requests_are_canceled_when_a_run_is_left() -> None:
    decoder, sandbox = Decoder(), Elsewhere(lambda: 10**6)
    executors = Executors({"default": decoder}, {"default": Sampling()}, sandbox, True)

    class Both(Agent):
        uses_python = True

        def solve(self, problem: Problem) -> Workflow[str | None]:
            if problem.text == "short":
                yield [Generate(user("1"))]
                return None
            yield [RunPython("1"), Generate(user("2")), Generate(user("3"))]
            return None

    traces = run_agent(
        Both(),
        [(Problem(f"p/{n}", t), 0) for n, t in enumerate(["long", "short", "long"])],
        executors,
    )
    next(traces)
    traces.close()
    assert (decoder.left, sandbox.left) == ({}, {})
