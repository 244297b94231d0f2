"""How fast an endpoint is asked."""

import asyncio
from types import SimpleNamespace

import pytest
from engines.endpoint import ask, completion

from slm_math.engines import pacing
from slm_math.engines.base import EngineError, Request
from slm_math.engines.pacing import Pace, estimated_tokens
from slm_math.types import Image, Reply, Sampling, user


class Time:
    """A clock that waiting moves forward."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0

        async def sleep(seconds: float) -> None:
            self.now += seconds

        monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(Lock=asyncio.Lock, sleep=sleep))
        monkeypatch.setattr(pacing.random, "uniform", lambda low, high: high)

    def __call__(self) -> float:
        return self.now


def times(pace: Pace, clock: Time, *tokens: int) -> list[float]:
    """When each of several requests goes out, in seconds from now."""
    start = clock.now

    async def run() -> list[float]:
        found = []
        for amount in tokens:
            await pace.turn(amount)
            found.append(round(clock.now - start, 3))
        return found

    return asyncio.run(run())


def test_without_limits_nothing_waits(monkeypatch):
    clock = Time(monkeypatch)
    assert times(Pace(clock=clock), clock, 10**6, 10**6) == [0, 0]


def test_requests_are_spread_over_the_minute(monkeypatch):
    clock = Time(monkeypatch)
    assert times(Pace(30, clock=clock), clock, 0, 0, 0, 0) == [0, 2, 4, 6]


def test_tokens_are_paid_back_before_the_next_request(monkeypatch):
    clock = Time(monkeypatch)
    pace = Pace(tokens_per_minute=600, clock=clock)
    assert times(pace, clock, 100, 50, 1) == [0, 10, 15]


def test_idle_time_is_not_saved_up(monkeypatch):
    clock = Time(monkeypatch)
    pace = Pace(600, clock=clock)
    clock.now += 3600
    sent = times(pace, clock, *[0] * 30)
    assert sum(at <= 1 for at in sent) <= 21  # ten in a second, and those of one idle second


def test_what_a_server_counts_corrects_the_estimate(monkeypatch):
    clock = Time(monkeypatch)
    pace = Pace(tokens_per_minute=600, clock=clock)
    times(pace, clock, 1000)
    pace.correct(1000, prompt=40, sampled=60)
    assert times(pace, clock, 0) == [10]


def test_replies_so_far_tell_how_long_the_next_one_is():
    pace = Pace()
    chat = user("x" * 400)
    assert pace.estimate(chat, budget=2048) == 100 + 2048
    pace.correct(0, prompt=100, sampled=300)
    pace.correct(0, prompt=100, sampled=500)
    assert pace.estimate(chat, budget=2048) == 100 + 400
    assert pace.estimate(chat, budget=50) == 100 + 50


def test_a_pause_is_for_all(monkeypatch):
    clock = Time(monkeypatch)
    pace = Pace(clock=clock)
    pace.pause(20)
    pace.pause(5)
    assert times(pace, clock, 0, 0) == [25, 25]  # spread over a quarter more


def test_an_image_counts_as_tokens():
    assert estimated_tokens(user("word", [Image("a.png")])) == 1001


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(ValueError, match="requests_per_minute"):
        Pace(limit)


def test_status_429_makes_all_requests_wait(serve):
    server, engine = serve(
        lambda number, _: (429, {}, {"Retry-After": "0.5"}) if not number else (200, FOUR, {}),
        concurrency=1,
    )
    for _ in range(3):
        engine.submit(Request(user("2 + 2?"), Sampling()))
    finished = []
    while len(finished) < 3:
        finished += engine.poll(60)
    assert all(isinstance(reply, Reply) for _, reply in finished)
    assert min(server.times[1:]) - server.times[0] >= 0.5


def test_a_shared_limit_costs_no_request_its_retries(serve):
    """A server that takes one request in four, for 30 at once that have no retry."""
    _, engine = serve(
        lambda number, _: (200, FOUR, {}) if number % 4 == 3 else (429, {}, {}), retries=0
    )
    for _ in range(30):
        engine.submit(Request(user("2 + 2?"), Sampling()))
    finished = []
    while len(finished) < 30:
        finished += engine.poll(60)
    assert all(isinstance(reply, Reply) for _, reply in finished)


def test_a_server_that_only_says_429_is_given_up(serve):
    server, engine = serve(lambda *_: (429, {}, {}), retries=2, timeout=0.5)
    assert isinstance(ask(engine), EngineError)
    assert len(server.bodies) >= 3


FOUR = completion("four")
