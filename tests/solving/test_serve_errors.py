"""What an endpoint of an agent survives."""

from __future__ import annotations

from typing import Any

import pytest
from solving.replay import Replay, post, serving

from slm_math.agents import SingleShot
from slm_math.engines.base import EngineError
from slm_math.types import Reply

FOUR = "It is \\boxed{4}."
ONE = SingleShot("solve_plain")


class Failing(Replay):
    """The first poll breaks, as an engine does that cannot be used."""

    broken = True

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        if self.broken:
            self.broken = False
            raise RuntimeError("no\x1b[2J memory")
        return super().poll(timeout)


class Faulty(SingleShot):
    """Its own code fails on one problem."""

    def solve(self, problem: Any) -> Any:
        if "fail" in problem.text:
            yield from ()
            raise KeyError("x")
        return (yield from super().solve(problem))


def test_a_broken_engine_ends_requests_but_not_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(ONE, Failing([FOUR])) as server:
        first = post(server)
        assert (first.status, first.json()["error"]["type"]) == (500, "server_error")
        assert post(server).status == 200
    assert "\x1b" not in capsys.readouterr().err


def test_an_error_of_the_agent_ends_its_own_request_only() -> None:
    with serving(Faulty("solve_plain"), Replay([FOUR])) as server:
        broken = post(server, messages=[{"role": "user", "content": "fail"}])
        assert (broken.status, "KeyError" in broken.text) == (500, True)
        assert post(server).status == 200
