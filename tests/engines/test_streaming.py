"""Replies that are told while they grow, by chat endpoints and by the transformers engine."""

import json
from collections.abc import Iterator

import pytest
from engines.endpoint import ask, completion, in_turn
from tiny import model_folder

from slm_math.engines.base import EngineError, Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.types import Reply, Sampling, user

USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "model": "m-1"}


def piece(finish: str | None = None, **delta: str) -> dict:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def events(*pieces: dict, done: bool = True, size: int = 5) -> Iterator[bytes]:
    """Server-sent events in chunks that end anywhere."""
    lines = [f"data: {json.dumps(each)}\n\n" for each in pieces] + ["data: [DONE]\n\n"] * done
    data = (": a comment\n\n" + "".join(lines)).encode()
    return (data[at : at + size] for at in range(0, len(data), size))


def heard(serve, *answers, **options) -> tuple[Reply | EngineError, list[str], list[dict]]:
    """The result of a request, what was told while it grew, and what the server was asked."""
    server, engine = serve(in_turn(*((200, answer) for answer in answers)), **options)
    texts: list[str] = []
    return ask(engine, progress=texts.append), texts, server.bodies


def test_a_reply_is_told_while_it_grows_and_is_then_whole(serve):
    first = piece(role="assistant", content="")
    pieces = [first, piece(content="It is "), piece(content="4"), piece("stop"), USAGE]
    reply, texts, [body] = heard(serve, events(*pieces))
    assert texts == ["It is ", "It is 4"]
    assert (reply.text, reply.finish, reply.model) == ("It is 4", "stop", "m-1")
    assert (reply.asked, reply.counted) == (7, 3)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_reasoning_that_comes_separately_is_told_as_a_thought(serve):
    pieces = [piece(reasoning_content="two "), piece(reasoning_content="twos"), piece(content="4")]
    reply, texts, _ = heard(serve, events(*pieces, piece("length")))
    assert texts == ["<think>\ntwo ", "<think>\ntwo twos", "<think>\ntwo twos\n</think>\n\n4"]
    assert (reply.text, reply.finish) == (texts[-1], "length")


def test_a_stop_string_that_the_server_reports_comes_back(serve):
    last = {"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "END"}]}
    _, engine = serve(in_turn((200, events(piece(content="four "), last))))
    reply = ask(engine, sampling=Sampling(stop=("END",)), progress=lambda text: None)
    assert reply.text == "four END"


def test_a_server_that_does_not_stream_is_understood(serve):
    reply, texts, _ = heard(serve, completion("four"))
    assert (reply.text, texts) == ("four", [])


@pytest.mark.parametrize(
    "broken",
    [
        [piece(content="It is ")],
        [piece(content="It is "), {"error": {"message": "out of memory"}}],
        [piece(content="It is "), {"choices": "none"}],
    ],
)
def test_a_stream_that_breaks_off_is_asked_again(serve, broken):
    whole = events(piece(content="four"), piece("stop"))
    reply, texts, bodies = heard(serve, events(*broken, done=False), whole, backoff=0.0)
    assert (reply.text, texts, len(bodies)) == ("four", ["It is ", "four"], 2)


def test_an_error_in_a_stream_says_what_the_server_says(serve):
    broken = [piece(content="a"), {"error": {"message": "out of memory"}}]
    error, _, _ = heard(serve, events(*broken, done=False), retries=0)
    assert isinstance(error, EngineError)
    assert "out of memory" in str(error)


def test_without_progress_nothing_is_streamed(serve):
    server, engine = serve(in_turn((200, completion("four"))))
    ask(engine)
    assert "stream" not in server.bodies[0]


def test_the_transformers_engine_tells_each_token(tmp_path):
    engine = CheckpointEngine(str(model_folder(tmp_path)), slots=2)
    texts: list[str] = []
    sampling = Sampling(temperature=0.0, max_new_tokens=6)
    engine.submit(Request(user("2 + 2?"), sampling, progress=texts.append))
    engine.submit(Request(user("3 + 3?"), sampling))
    replies: dict[int, Reply] = {}
    while engine.busy:
        replies |= dict(engine.poll(60))
    first = replies[min(replies)]
    assert len(texts) == first.tokens
    assert texts[-1].rstrip("\ufffd") == first.text.rstrip("\ufffd")
    assert all(len(text) <= len(first.text) for text in texts)
