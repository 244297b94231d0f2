"""What `vllm serve` is asked and what is made of its answers: tokens in, tokens out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from engines.vllm_client import answers, ask, engine_of, gap, request
from engines.vllm_endpoint import GENERATE, KEY, serving

from slm_math.engines.base import ContextFull, EngineError, ModelError
from slm_math.engines.transformers import TransformersEngine
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.types import Reply, assistant, user

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def one(tmp_path: Path):
    with serving() as servers, engine_of(servers, tmp_path, retries=2) as engine:
        yield servers[0], engine


def test_prompt_is_the_chat_formats(one) -> None:
    server, engine = one
    reply = ask(engine, request("What is 3 + 4?"))
    ids, digest = server.chat.prompt(user("What is 3 + 4?"))
    assert server.bodies()[0]["token_ids"] == ids == list(reply.prompt_ids)
    assert reply.prompt == digest


def test_a_sampled_reply_is_spliced_in_as_it_was_sampled(one) -> None:
    server, engine = one
    first = ask(engine, request("a"))
    chat = user("a") + assistant(first) + user("b")
    second = ask(engine, request("b", chat))
    sent = server.bodies()[1]["token_ids"]
    assert sent[: len(first.prompt_ids) + len(first.token_ids)] == [
        *first.prompt_ids,
        *first.token_ids,
    ]
    assert list(second.prompt_ids) == sent


def test_open_turn_continues(one) -> None:
    server, engine = one
    chat = user("a") + assistant("The sum is ")
    reply = ask(engine, request("a", chat, resume=True))
    expected = server.chat.encode(chat, resume=True)
    assert server.bodies()[0]["token_ids"] == expected == list(reply.prompt_ids)
    assert server.chat.end_id not in expected[-3:]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_logprobs_are_the_models(one, temperature: float) -> None:
    server, engine = one
    reply = ask(engine, request(temperature=temperature, max_new_tokens=8))
    assert gap(server.model, reply) < 1e-5
    assert reply.temperature == (temperature or 1.0)


@pytest.mark.parametrize("logprob", [None, float("nan"), float("inf")])
def test_a_model_that_computes_no_numbers_ends_the_run(one, logprob: float | None) -> None:
    server, engine = one
    item = {"token_id": 5, "logprob": logprob}
    choice = {"token_ids": [5], "finish_reason": "length", "logprobs": {"content": [item]}}
    server.faults[GENERATE] = [(200, {"choices": [choice]}, {})]
    engine.submit(request())
    with pytest.raises(ModelError, match="computes logits that are no numbers"):
        engine.poll(60)
    assert isinstance(ask(engine, request()), Reply)  # the next request is answered


def test_text_and_length(one) -> None:
    server, engine = one
    tokens = server.chat.tokens("12 apples")
    server.script = lambda body: (tokens, "")
    reply = ask(engine, request(max_new_tokens=len(tokens)))
    assert (reply.text, reply.token_ids, reply.finish) == ("12 apples", tuple(tokens), "length")


def test_an_end_token_is_part_of_the_tokens_but_not_of_the_text(one) -> None:
    server, engine = one
    tokens = [*server.chat.tokens("12"), server.chat.end_id]
    server.script = lambda body: (tokens, "")
    reply = ask(engine, request(max_new_tokens=50))
    assert (reply.text, reply.token_ids, reply.finish) == ("12", tuple(tokens), "stop")


def test_every_end_is_asked_for(one) -> None:
    server, engine = one
    engine.ends = frozenset({server.chat.end_id, 7})
    server.script = lambda body: ([40, 41, 7, 42], "")
    reply = ask(engine, request(max_new_tokens=50))
    assert (reply.token_ids, reply.finish) == ((40, 41, 7), "stop")


def test_a_stop_string_ends_a_reply_and_belongs_to_it(one) -> None:
    server, engine = one
    server.script = lambda body: (server.chat.tokens("so 4. And 5"), "")
    reply = ask(engine, request(max_new_tokens=50, stop=(".",)))
    assert (reply.text, reply.finish) == ("so 4.", "stop")


def test_not_first_takes_two_requests(one) -> None:
    server, engine = one
    plain = ask(engine, request(temperature=0.0))
    banned = server.tokenizer.decode([plain.token_ids[0]])
    reply = ask(engine, request(temperature=0.0, not_first=(banned,)))
    _, first, second = server.bodies()
    assert (first["sampling_params"]["max_tokens"], second["sampling_params"]["max_tokens"]) == (
        1,
        3,
    )
    assert second["token_ids"] == [*first["token_ids"], reply.token_ids[0]]
    assert second["sampling_params"]["logit_bias"] is None
    assert reply.token_ids[0] != plain.token_ids[0]
    assert len(reply.token_ids) == len(reply.logprobs) <= 4
    assert list(reply.prompt_ids) == first["token_ids"]


def test_not_first_with_room_for_one(one) -> None:
    server, engine = one
    reply = ask(engine, request(max_new_tokens=1, not_first=("a",)))
    assert len(server.bodies()) == 1
    assert (len(reply.token_ids), reply.finish) == (1, "length")


def test_a_stop_string_may_begin_in_the_first_token_under_a_ban(one) -> None:
    server, engine = one
    text = [server.chat.tokens(c)[0] for c in "abcde"]
    server.script = lambda body: (
        (text[:1], "") if body["sampling_params"]["max_tokens"] == 1 else (text[1:], "length")
    )
    reply = ask(engine, request(max_new_tokens=5, stop=("ab",), not_first=("z",)))
    assert (reply.text, reply.finish) == ("ab", "stop")


def test_no_room_for_a_reply(one) -> None:
    server, engine = one
    result = ask(engine, request("x y z " * 500))
    assert isinstance(result, ContextFull)
    assert "512" in str(result)
    assert not server.bodies()


def test_the_context_bounds_a_reply(one) -> None:
    server, engine = one
    room = 512 - len(server.chat.encode(user("7 " * 200)))
    ask(engine, request("7 " * 200, max_new_tokens=500, stop=("7", "1")))
    assert server.bodies()[0]["sampling_params"]["max_tokens"] == room


def test_sampling_depends_on_the_key_alone(one) -> None:
    _, engine = one
    tickets = [engine.submit(request(key=(k,), max_new_tokens=8)) for k in (1, 2, 1)]
    a, b, c = (reply.token_ids for reply in answers(engine, tickets))  # type: ignore[union-attr]
    assert a == c != b


def test_greedy_replies_are_those_of_the_transformers_engine(one) -> None:
    server, engine = one
    other = TransformersEngine(server.first, server.chat)
    asked = request("1 + 1", temperature=0.0, max_new_tokens=10)
    other.submit(asked)
    [(_, mine)] = other.poll(60)
    theirs = ask(engine, asked)
    assert isinstance(mine, Reply)
    assert (theirs.token_ids, theirs.text, theirs.finish) == (
        mine.token_ids,
        mine.text,
        mine.finish,
    )
    assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-5)
    assert (theirs.prompt, theirs.prompt_ids, theirs.temperature) == (
        mine.prompt,
        mine.prompt_ids,
        mine.temperature,
    )


def test_training_on_truncated_samples_is_refused(one) -> None:
    _, engine = one
    with pytest.raises(ValueError, match="engine transformers"):
        engine.submit(request(top_k=5, support=True))


def test_cancel_closes_the_connection(one) -> None:
    server, engine = one
    server.faults["/inference/v1/generate"] = ["hang"]
    ticket = engine.submit(request())
    end = time.monotonic() + 60
    while not server.bodies() and time.monotonic() < end:
        time.sleep(0.01)
    engine.cancel(ticket)
    while not server.hung_up and time.monotonic() < end:
        time.sleep(0.01)
    assert (server.hung_up, engine.busy, engine.poll(0)) == (1, 0, [])


def test_no_more_requests_at_once_than_concurrency(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path, concurrency=3) as engine:
        for server in servers:
            server.delay = 0.05
        results = answers(
            engine, [engine.submit(request(str(i), max_new_tokens=1)) for i in range(15)]
        )
        assert all(isinstance(result, Reply) for result in results)
        assert sum(server.most for server in servers) <= 4
        assert max(server.most for server in servers) <= 3


def test_load_is_spread(tmp_path: Path) -> None:
    with serving(3) as servers, engine_of(servers, tmp_path) as engine:
        for server in servers:
            server.delay = 0.1
        answers(engine, [engine.submit(request(str(i), max_new_tokens=1)) for i in range(12)])
        assert [len(server.bodies()) for server in servers] == [4, 4, 4]


def test_least_loaded_server_gets_the_request(tmp_path: Path) -> None:
    """One server answers nothing until the other has been asked for all that is left."""
    with serving(2) as (slow, fast), engine_of([slow, fast], tmp_path, concurrency=4) as engine:

        def script(_: Any) -> tuple[list[int], str]:
            end = time.monotonic() + 30
            while len(fast.bodies()) < 18 and time.monotonic() < end:
                time.sleep(0.01)
            return [5], "stop"

        slow.script = script
        answers(engine, [engine.submit(request(str(i), max_new_tokens=1)) for i in range(20)])
        assert [len(server.bodies()) for server in (slow, fast)] == [2, 18]


def test_the_key_goes_with_every_request_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with serving() as servers, engine_of(servers, tmp_path) as engine:
        ask(engine)
        assert {headers["Authorization"] for headers in servers[0].headers} == {f"Bearer {KEY}"}
        assert KEY not in str(engine.identity())
        servers[0].always["/inference/v1/generate"] = (
            400,
            {"error": {"message": f"bad key {KEY}"}},
        )
        result = ask(engine)
        assert isinstance(result, EngineError)
        assert "bad key" in str(result)
        assert KEY not in str(result)


def test_addresses_hold_no_secrets() -> None:
    with pytest.raises(ValueError, match="VLLM_API_KEY"):
        VLLMServers([f"http://me:{KEY}@localhost:1"])
    with pytest.raises(ValueError, match="at least one address"):
        VLLMServers([])


def test_tokenizer_and_template_are_those_that_are_served(tmp_path: Path) -> None:
    with serving(root=str(tmp_path)) as [server]:
        server.tokenizer.save_pretrained(tmp_path)
        server.model.save_pretrained(tmp_path)
        engine = VLLMServers([server.url + "/v1"], patience=2)
        try:
            reply = ask(engine)
            assert list(reply.prompt_ids) == server.chat.encode(user("2 + 2?"))
            assert gap(server.model, reply) < 1e-5
            assert engine.identity()["path"] == str(tmp_path)
            assert server.bodies()[0]["model"] == "tiny"
        finally:
            engine.close()
