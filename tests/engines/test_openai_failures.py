"""What the OpenAI-compatible engine does when a server fails, refuses, or is silent; and where the
key goes.
"""

import asyncio
import gzip
import json
import logging
import threading
import time
from email.utils import formatdate

import pytest
from engines.endpoint import KEY, OK, ask, completion, in_turn

from slm_math.engines.base import EngineError, Request, Unusable
from slm_math.engines.openai import OpenAIEngine
from slm_math.types import Sampling, user


@pytest.mark.parametrize(
    "failure",
    [
        (429, {"error": {"message": "slow down"}}),
        (500, b"oops"),
        (503, b""),
        (None, None),
        (200, b"{not json"),
        (200, {"choices": []}),
        (200, {"choices": [{"message": "?"}]}),
        (200, completion("half", "abort")),
        (200, completion(["a part"])),
    ],
    ids=[
        "429",
        "500",
        "503",
        "hang-up",
        "no-json",
        "no-choices",
        "no-message",
        "aborted",
        "no-text",
    ],
)
def test_what_may_pass_is_tried_again(serve, failure):
    server, engine = serve(in_turn(failure, failure, OK))
    assert ask(engine).text == "four"
    assert len(server.bodies) == 3


def test_gives_up_after_the_retries(serve):
    server, engine = serve(in_turn((502, {"error": "bad gateway"})), retries=2)
    error = ask(engine)
    assert isinstance(error, EngineError)
    assert str(error) == f"{server.url}/chat/completions: status 502: bad gateway (tried 3 times)"
    assert len(server.bodies) == 3


def test_pauses_double(serve):
    server, engine = serve(in_turn((500, b"")), retries=3, backoff=0.1)
    ask(engine)
    pauses = [later - earlier for earlier, later in zip(server.times, server.times[1:])]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True):
        assert pause >= least


@pytest.mark.parametrize(
    ("wanted", "least"), [(lambda: "0.4", 0.4), (lambda: formatdate(time.time() + 2), 0.9)]
)
def test_waits_as_long_as_the_server_asks(serve, wanted, least):
    def script(number, _):
        return (429, {}, {"Retry-After": wanted()}) if number == 0 else (*OK, {})

    server, engine = serve(script)
    assert ask(engine).text == "four"
    assert server.times[1] - server.times[0] >= least


def test_a_silent_server_is_given_up(serve, monkeypatch):
    release, limits, timeout = threading.Event(), [], asyncio.timeout

    def recorded(seconds):
        limits.append(seconds)
        return timeout(seconds)

    def script(number, _):
        release.wait(120)
        return (*OK, {})

    monkeypatch.setattr(asyncio, "timeout", recorded)
    _, engine = serve(script, timeout=0.2, retries=1)
    error = ask(engine)
    release.set()
    assert "no reply within 0.2 s (tried 2 times)" in str(error)
    assert [seconds for seconds in limits if seconds == 0.2] == [0.2, 0.2]  # others wait, too


def endless(chunk=b"x" * 2**16):
    yield b'{"choices": [{"message": {"content": "'
    while True:
        yield chunk


def test_an_endless_reply_is_not_read_to_its_end(serve):
    server, engine = serve(lambda *_: (200, endless(), {}), retries=3)
    error = ask(engine, sampling=Sampling(max_new_tokens=2048))
    assert str(error) == f"{server.url}/chat/completions: the reply is larger than 18 MiB"
    assert len(server.bodies) == 1  # another attempt would read it again
    assert server.sent < 64 * 2**20


def test_an_endless_error_is_cut_off(serve):
    server, engine = serve(lambda *_: (400, endless(), {}))
    assert "status 400" in str(ask(engine))
    assert server.sent < 16 * 2**20


def test_a_packed_reply_is_read(serve):
    packed = gzip.compress(json.dumps(completion("four")).encode())
    _, engine = serve(lambda *_: (200, packed, {"Content-Encoding": "gzip"}))
    assert ask(engine).text == "four"


def test_a_reply_that_arrives_byte_by_byte_is_given_up(serve):
    def slowly():
        while True:
            time.sleep(0.05)
            yield b" "

    _, engine = serve(lambda *_: (200, slowly(), {}), timeout=0.3, retries=0)
    assert "no reply within 0.3 s" in str(ask(engine))


@pytest.mark.parametrize("header", ["86400", "inf", "in two hours"])
def test_no_server_can_postpone_a_retry_for_long_and_a_wait_is_shown(
    serve, monkeypatch, capsys, header
):
    waits = []
    if header == "in two hours":
        header = formatdate(time.time() + 7200, usegmt=True)
    busy = (429, {"error": {"message": f"over quota of {KEY}"}}, {"Retry-After": header})
    _, engine = serve(lambda number, _: (*OK, {}) if number > 1 else busy)
    monkeypatch.setattr(engine._pace, "pause", waits.append)
    assert ask(engine).text == "four"
    assert waits == [60, 60]
    # the second wait would end while the first one lasts
    [said] = capsys.readouterr().out.splitlines()
    assert said.startswith("a chat endpoint asks to wait ")
    assert said.endswith(" s (status 429: over quota of [key]); trying again in 60 s")


def test_a_server_that_never_was_there_ends_the_run(serve):
    server, engine = serve(in_turn(OK), retries=1)
    server.shutdown()
    server.server_close()
    with pytest.raises(Unusable, match=r"ClientConnectorError.* Please check base_url"):
        ask(engine)


def test_a_server_that_is_gone_is_an_error(serve):
    server, engine = serve(in_turn((*OK[:2], {"Connection": "close"})), retries=1)
    assert ask(engine).text
    server.shutdown()
    server.server_close()
    assert "ClientConnectorError" in str(ask(engine))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": {"message": "no such\nmodel"}}, "status 400: no such model"),
        ({"object": "error", "message": "too long"}, "status 400: too long"),
        ({"detail": "Not Found"}, "status 400: Not Found"),
        ({"error": "no"}, "status 400: no"),
        (b"<html>nginx</html>", "status 400: <html>nginx</html>"),
        ([1], "status 400: [1]"),
        (b"x" * 5000, "xxx..."),
    ],
)
def test_a_refusal_is_final_and_says_why(serve, body, says):
    server, engine = serve(in_turn((400, body)))
    error = ask(engine)
    assert isinstance(error, EngineError)
    assert says in str(error)
    assert server.url in str(error)
    assert len(str(error)) < 450
    assert len(server.bodies) == 1


def test_a_filtered_reply_is_final(serve):
    server, engine = serve(in_turn((200, completion("", "content_filter"))))
    assert "filtered" in str(ask(engine))
    assert len(server.bodies) == 1


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(serve, caplog):
    caplog.set_level(logging.DEBUG)
    answers = [
        (400, {"error": {"message": f"{'x' * 340} bad key {KEY} {KEY}"}}),
        (500, f"{KEY}".encode()),
        (500, f"{KEY}".encode()),
        (401, {"error": {"message": f"{'x' * 340} bad key {KEY} {KEY}"}}),
    ]
    server, engine = serve(in_turn(*answers), retries=1)
    errors: list[Exception] = [ask(engine), ask(engine)]
    with pytest.raises(Unusable) as refused:
        ask(engine)
    errors.append(refused.value)
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 4
    assert "[key]" in str(errors[1])
    for text in (*map(str, errors), *map(repr, errors), repr(engine), str(engine), caplog.text):
        assert KEY not in text
        assert KEY[:12] not in text


def test_no_key_no_header(serve, monkeypatch):
    server, engine = serve(in_turn(OK), api_key_env="NO_SUCH_VARIABLE")
    ask(engine)
    assert "Authorization" not in server.headers[0]


def test_a_canceled_request_hangs_up_and_is_never_returned(serve):
    release = threading.Event()

    def script(number, body):
        if body["messages"][0]["content"] == "slow":
            release.wait(120)
        return (*OK, {})

    server, engine = serve(script, concurrency=1)
    slow, waiting, quick = (
        engine.submit(Request(user(text), Sampling())) for text in ("slow", "never", "quick")
    )
    while not server.bodies:
        time.sleep(0.01)
    engine.cancel(waiting)
    engine.cancel(slow)
    engine.cancel(12345)
    assert [ticket for ticket, _ in engine.poll(60)] == [quick]  # the slot was free at once
    assert not release.is_set()
    release.set()
    assert engine.busy == 0
    assert [body["messages"][0]["content"] for body in server.bodies] == ["slow", "quick"]


def test_closing_does_not_wait_for_servers(serve):
    release, ended = threading.Event(), []

    def script(number, _):
        release.wait(120)
        ended.append(number)
        return (*OK, {})

    server, engine = serve(script)
    for _ in range(3):
        engine.submit(Request(user("2 + 2?"), Sampling()))
    while len(server.bodies) < 3:
        time.sleep(0.01)
    engine.close()
    assert not ended
    release.set()
    assert engine.poll(5) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "chat endpoint"]
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Request(user("2 + 2?"), Sampling()))


def test_cannot_serve_a_trained_role(serve):
    _, engine = serve(in_turn(OK))
    assert not engine.returns_logprobs
    assert engine.refuse_training("solver") == (
        "a chat endpoint returns no token ids and log-probabilities: it cannot serve the trained "
        "role 'solver'"
    )


def test_what_the_endpoint_cannot_do_is_refused(serve):
    _, engine = serve(in_turn(OK))
    with pytest.raises(ValueError, match="not_first"):
        engine.submit(Request(user("2 + 2?"), Sampling(not_first=("####",))))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8000/v1", "base_url must be like"),
        ("http://me:pass@host/v1", "no secrets"),
        ("https://host/v1?key=secret", "no secrets"),
    ],
)
def test_a_bad_url_is_refused_without_repeating_it(url, says):
    with pytest.raises(ValueError, match=says) as error:
        OpenAIEngine(url, "some-model")
    assert "pass@" not in str(error.value)
    assert "key=secret" not in str(error.value)


def test_a_key_with_odd_characters_is_refused_without_repeating_it(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-ünicode")
    with pytest.raises(ValueError, match="TEST_KEY") as error:
        OpenAIEngine("http://localhost/v1", "some-model", api_key_env="TEST_KEY")
    assert "nicode" not in str(error.value)
