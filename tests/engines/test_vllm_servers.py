"""`vllm serve` processes that die, hang, lie and come back: retries, patience, refusals, never a
hang.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from engines.vllm_client import answers, ask, engine_of, gap, request, weights_of
from engines.vllm_endpoint import GENERATE, KEY, PUSH, serving

from slm_math.engines import vllm_control
from slm_math.engines.base import EngineError
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.types import Reply

pytestmark = pytest.mark.timeout(240)
HOW = "scripts/serve_vllm.sh"


def failure(engine: VLLMServers, seconds: float = 60) -> tuple[str, float]:
    """What `poll` raises, and after how long. Fails when it raises nothing within `seconds`."""
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        try:
            assert not engine.poll(0.05), "somebody answered"
        except EngineError as error:
            return str(error), time.monotonic() - start
    pytest.fail(f"nothing was raised within {seconds} s")


def wait(condition: Any) -> None:
    """Until it holds; pytest's own limit ends a test in which it never does."""
    while not condition():
        time.sleep(0.01)


# servers that die


def test_others_take_over_what_a_dead_server_was_working_on(tmp_path: Path) -> None:
    with serving(3) as servers, engine_of(servers, tmp_path) as engine:
        servers[1].always[GENERATE] = "hang"
        tickets = [engine.submit(request(str(i), max_new_tokens=2)) for i in range(9)]
        wait(lambda: servers[1].bodies())
        servers[1].kill()
        results = answers(engine, tickets)
        assert all(isinstance(result, Reply) for result in results)
        lost = [tuple(body["token_ids"]) for body in servers[1].bodies()]
        others = [tuple(body["token_ids"]) for i in (0, 2) for body in servers[i].bodies()]
        assert lost
        assert set(lost) <= set(others)
        assert [server.down_since is not None for server in engine.servers] == [False, True, False]


def test_a_retry_samples_the_same_reply(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path) as engine:
        whole = ask(engine, request(max_new_tokens=8))
        servers[0].always[GENERATE] = "hang"
        ticket = engine.submit(request(max_new_tokens=8))
        wait(lambda: len(servers[0].bodies()) + len(servers[1].bodies()) == 2)
        servers[0].kill()
        [again] = answers(engine, [ticket])
        assert again.token_ids == whole.token_ids  # type: ignore[union-attr]


def test_when_all_are_dead_the_run_ends_after_patience_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with serving(2) as servers, engine_of(servers, tmp_path, patience=1.0) as engine:
        ask(engine)
        for server in servers:
            server.kill()
        engine.submit(request())
        message, seconds = failure(engine)
        assert seconds >= 1.0
        assert all(server.url in message for server in servers)
        assert "start them again" in message
        assert KEY not in message


@pytest.mark.slow
def test_a_server_that_hangs_altogether_is_given_up(tmp_path: Path) -> None:
    """Neither requests nor /health are answered; /health is given 5 s."""
    with serving() as [server], engine_of([server], tmp_path, patience=0.3, timeout=0.3) as engine:
        ask(engine)
        server.always = {GENERATE: "hang", "/health": "hang"}
        engine.submit(request())
        assert server.url in failure(engine)[0]


def test_a_server_that_is_back_within_patience_answers(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, patience=10) as engine:
        ask(engine)
        server.kill()
        ticket = engine.submit(request("again"))
        start = time.monotonic()
        while time.monotonic() < start + 0.5:
            assert not engine.poll(0.05)
        server.start()
        assert isinstance(answers(engine, [ticket])[0], Reply)


def test_weights_are_pushed_to_a_server_that_is_back_before_any_request(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, patience=10) as engine:
        model, weights = weights_of(5)
        engine.update(3, weights)
        server.faults[GENERATE] = ["hang"]
        ticket = engine.submit(request())
        wait(lambda: server.bodies())
        server.kill()
        before = len(server.asked)
        server.start()
        [reply] = answers(engine, [ticket])
        assert isinstance(reply, Reply)
        assert gap(model, reply) < 1e-5
        assert reply.version == 3
        assert server.routes(before) == [*PUSH, GENERATE]


@pytest.mark.parametrize("version", ["0.31.0", "0.32.0"])
def test_a_stale_reply_is_not_returned_and_weights_go_out_anew(
    version: str, tmp_path: Path
) -> None:
    """The server restarted while nobody looked: it answers at once, with its first weights."""
    with serving(version=version) as [server], engine_of([server], tmp_path) as engine:
        model, weights = weights_of(5)
        engine.update(1, weights)
        server.kill()
        server.start()
        before = len(server.asked)
        reply = ask(engine)
        assert server.routes(before) == [GENERATE, *PUSH, GENERATE]
        assert gap(model, reply) < 1e-5 < 1e-3 < gap(server.first, reply)


def test_one_of_two_restarted(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path) as engine:
        model, weights = weights_of(5)
        engine.update(1, weights)
        servers[0].kill()
        servers[0].start()
        replies = answers(engine, [engine.submit(request(str(i))) for i in range(6)])
        assert all(gap(model, reply) < 1e-5 for reply in replies)  # type: ignore[arg-type]


def test_a_push_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, patience=2.5) as engine:
        engine.update(1, weights_of(5)[1])
        server.kill()
        server.start()
        server.faults["/update_weights"] = [(503, {"error": "busy"})]
        assert isinstance(ask(engine), Reply)


def test_an_update_leaves_out_a_server_that_died_between_rollouts(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path) as engine:
        engine.update(1, weights_of(5)[1])
        servers[0].kill()
        model, weights = weights_of(6)
        engine.update(2, weights)
        assert gap(model, ask(engine)) < 1e-5


def test_a_server_that_never_takes_the_version_ends_in_an_error(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, patience=0.5, retries=1) as engine:
        server.ignores_version = True
        with suppress(EngineError):
            engine.update(1, weights_of(5)[1])
            engine.submit(request())
            end = time.monotonic() + 60
            while time.monotonic() < end:
                found = engine.poll(0.05)
                assert all(isinstance(result, EngineError) for _, result in found), (
                    "stale replies were returned"
                )
                if found:
                    return
            pytest.fail("it goes on for ever")


def test_a_request_that_ends_every_server_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the server is down for a moment, and well again: its patience never ends."""

    async def lost(*_: object) -> bool:
        return True

    with serving() as [server], engine_of([server], tmp_path, retries=2) as engine:
        monkeypatch.setattr(engine, "_is_lost", lost)
        server.faults[GENERATE] = ["hang up"] * 40
        result = ask(engine)
        assert isinstance(result, EngineError)
        assert "(tried 21 times)" in str(result)
        assert len(server.bodies()) == 21


# servers that are well, and do not answer

TRASH = {
    "no JSON": b"<html>hello</html>",
    "another shape": b'{"choices": []}',
    "a list": b"[1, 2]",
    "null": b"null",
    "no logprobs": b'{"choices": [{"index": 0, "finish_reason": "stop", "token_ids": [5], "logprobs": null}]}',  # noqa: E501
    "aborted": b'{"choices": [{"index": 0, "finish_reason": "abort", "token_ids": [], "logprobs": {"content": []}}]}',  # noqa: E501
    "half a body": "half",
    "hang up": "hang up",
    "500": (500, {"error": {"message": "EngineDeadError"}}),
    "503": (503, b"overloaded"),
    "429": (429, {"error": "slow down"}),
}


@pytest.mark.parametrize("kind", TRASH)
def test_one_bad_answer_is_tried_again(kind: str, tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.faults[GENERATE] = [TRASH[kind]]
        assert isinstance(ask(engine), Reply)
        assert len(server.bodies()) == 2


@pytest.mark.parametrize("kind", TRASH)
def test_bad_answers_end_their_request_only(kind: str, tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, retries=2) as engine:
        server.faults[GENERATE] = [TRASH[kind]] * 3
        result = ask(engine)
        assert isinstance(result, EngineError)
        assert server.url in str(result)
        assert len(server.bodies()) == 3
        assert isinstance(ask(engine), Reply)


def test_a_request_that_takes_too_long_is_tried_again(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, timeout=0.4) as engine:
        server.faults[GENERATE] = ["hang"]
        assert isinstance(ask(engine), Reply)


def test_a_server_says_how_long_to_wait(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.faults[GENERATE] = [(429, {"error": "slow down"}, {"Retry-After": "0.7"})]
        ask(engine)
        first, second = (
            t for t, (route, _) in zip(server.times, server.asked) if route == GENERATE
        )
        assert second - first >= 0.7


def test_a_refused_request_is_final(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.faults[GENERATE] = [
            (400, {"error": {"message": "token_ids must not contain negative values"}})
        ]
        result = ask(engine)
        assert isinstance(result, EngineError)
        assert "negative" in str(result)
        assert len(server.bodies()) == 1


def test_receiver_continues_once_the_sender_has_sent_weights(tmp_path: Path) -> None:
    with (
        serving() as [server],
        engine_of([server], tmp_path / "0", patience=10) as first,
        engine_of([server], tmp_path / "1", patience=10) as second,
    ):
        second.is_sender, second.run = False, first.run
        _, weights = weights_of(5)
        for engine in (first, second):
            engine.update(1, weights)
        server.kill()
        server.start()  # between two requests, with the weights that it had at first
        waiting = second.submit(request("b"))
        for _ in range(10):
            assert second.poll(0.05) == []
        assert isinstance(ask(first, request("a")), Reply)  # which sends the weights again
        assert isinstance(answers(second, [waiting])[0], Reply)


def test_weights_are_sent_over_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Transfer:
        def send_weights(self) -> None:
            pass

        def shutdown(self) -> None:
            made.append("shut down")

    def make(*_: object) -> Transfer:
        made.append("made")
        return Transfer()

    monkeypatch.setattr(vllm_control, "trainer_side", make)
    with serving() as [server], engine_of([server], tmp_path) as engine:
        monkeypatch.setattr(
            vllm_control.VLLMServer,
            "config",
            lambda self: {"weight_transfer_config": {"backend": "nccl"}},
        )
        _, weights = weights_of(5)
        for version in range(3):
            engine.update(version, weights)
        assert made == ["made"]
        engine.servers[0].restarted = True
        engine.update(3, weights)
        assert made == ["made", "shut down", "made"]


def test_ipc_is_for_one_training_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        monkeypatch.setattr(
            vllm_control.VLLMServer,
            "config",
            lambda self: {"weight_transfer_config": {"backend": "ipc"}},
        )
        engine.single_trainer = False
        with pytest.raises(EngineError, match="nccl"):
            engine.update(1, weights_of(5)[1])


def test_healthy_server_that_rejects_weights_is_an_error(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path, patience=1, retries=1) as engine:
        server.always["/pause"] = (503, {"error": "busy"})
        with pytest.raises(EngineError, match="busy"):
            engine.update(1, weights_of(5)[1])
