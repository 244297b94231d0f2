"""An endpoint that refuses every request ends the run; one that refuses one request does not."""

import threading

import pytest
from engines.endpoint import KEY, OK, ask, in_turn

from slm_math.engines.base import EngineError, Request, Unusable
from slm_math.types import Reply, Sampling, user


def error(message: str, **more: object) -> dict:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, error("who are you?"), "set the environment variable TEST_KEY"),
        (403, error("not yours"), "set the environment variable TEST_KEY"),
        (403, b"<html>Forbidden</html>", "set the environment variable TEST_KEY"),
        (400, error("API key not valid. Please pass a valid API key."), "TEST_KEY"),
        (400, error("no", code="invalid_api_key"), "TEST_KEY"),
        (404, error("The model `some-model` does not exist.", type="NotFoundError"), "set model"),
        (404, b"nothing here", "base_url"),
        (400, error("no such model", code="model_not_found"), "set model"),
        (402, error("Insufficient Balance"), "no quota left"),
        (429, error("You exceeded your quota", code="insufficient_quota"), "no quota left"),
        (429, error("You exceeded your quota", type="insufficient_quota"), "no quota left"),
    ],
)
def test_an_endpoint_that_refuses_all_requests_ends_the_run_at_once(serve, status, body, says):
    server, engine = serve(in_turn((status, body)))
    with pytest.raises(Unusable, match=says) as raised:
        ask(engine)
    assert len(server.bodies) == 1
    assert "\n" not in str(raised.value)
    assert server.url in str(raised.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error("Your input was flagged by moderation")),
        (403, error("Content violates usage guidelines")),
        (400, error("messages[0] is too odd")),
        (422, error("no")),
    ],
)
def test_a_request_that_is_refused_for_what_it_says_ends_alone(serve, status, body):
    _, engine = serve(in_turn((status, body), OK))
    assert isinstance(ask(engine), EngineError)
    assert ask(engine).text == "four"


def test_the_line_holds_no_key(serve):
    _, engine = serve(in_turn((401, error(f"Incorrect API key provided: {KEY}"))))
    with pytest.raises(Unusable) as raised:
        ask(engine)
    assert KEY[:12] not in str(raised.value)


def test_replies_that_came_with_the_refusal_are_returned_before_it_is_raised(serve):
    both = threading.Barrier(3)

    def script(number, _):
        both.wait(60)
        return (*OK, {}) if number else (401, {}, {})

    _, engine = serve(script)
    for _ in range(2):
        engine.submit(Request(user("2 + 2?"), Sampling()))
    both.wait(60)
    while len(engine._done) < 2:
        threading.Event().wait(0.01)
    [(_, reply)] = engine.poll(60)
    assert isinstance(reply, Reply)
    assert engine.busy == 1
    with pytest.raises(Unusable):
        engine.poll(60)
