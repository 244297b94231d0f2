"""An agent as the model of an OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from cli.evaluating import ask
from PIL import Image as Pillow
from solving.replay import Replay, post, serving, until
from tiny import model_folder

from slm_math.agents import MajorityVote, SingleShot
from slm_math.answers import extract
from slm_math.engines.base import Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.http import request
from slm_math.engines.openai import OpenAIEngine
from slm_math.solving.serve import listen
from slm_math.types import Reply, Sampling, user

FOUR = "It is \\boxed{4}."
VOTE = MajorityVote(k=3)
ONE = SingleShot("solve_plain")


def events(text: str) -> list[Any]:
    """The events of a stream; its end as text."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_the_answer_of_the_agent_is_the_reply_and_tokens_are_summed() -> None:
    with serving(VOTE, Replay([FOUR, "\\boxed{5}", FOUR])) as server:
        body = post(server).json()
    [choice] = body["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "The final answer is $\\boxed{4}$.",
    }
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
    assert (body["object"], body["model"], "slm_math" in body) == ("chat.completion", "Test", False)


def test_the_transcript_comes_if_it_is_asked_for() -> None:
    with serving(ONE, Replay([FOUR])) as server:
        body = post(server, slm_math=True).json()
    transcript = body["slm_math"]
    assert transcript["answer"] == "4"
    assert [e["reply"] for e in transcript["events"] if e["kind"] == "turn"][:1] == [FOUR]
    assert "gold" not in transcript


def test_n_answers_are_choices_of_their_own() -> None:
    with serving(ONE, Replay([FOUR, "\\boxed{5}"])) as server:
        body = post(server, n=2, slm_math=True).json()
        assert post(server, n=17).status == 400
    assert [each["index"] for each in body["choices"]] == [0, 1]
    answers = [extract(each["message"]["content"]).value for each in body["choices"]]
    assert answers == ["4", "5"]
    assert [each["answer"] for each in body["slm_math"]] == answers


def test_a_stream_sends_the_answer_and_the_counts() -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with serving(VOTE, Replay([FOUR])) as server:
        response = post(server, **options)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *chunks, counts, done = events(response.text)
    assert done == "[DONE]"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "The final answer is $\\boxed{4}$."
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (counts["choices"], counts["usage"]["total_tokens"]) == ([], 39)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize("streams", [False, True])
def test_our_own_client_gets_the_answer(streams: bool) -> None:
    with serving(VOTE, Replay([FOUR])) as server:
        engine = OpenAIEngine(server.url, "Test", api_key_env="NONE")
        progress = (lambda text: None) if streams else None
        engine.submit(Request(user("2 + 2?"), Sampling(), progress=progress))
        [(_, reply)] = engine.poll(60)
        engine.close()
    assert isinstance(reply, Reply)
    assert extract(reply.text).value == "4"
    assert (reply.asked, reply.counted, reply.model) == (30, 9, "Test")


def test_without_an_answer_the_reply_says_so() -> None:
    with serving(ONE, Replay(["Hm."])) as server:
        [choice] = post(server).json()["choices"]
    assert choice["message"]["content"] == "I found no answer."


def test_models_are_listed() -> None:
    with serving(ONE, Replay([FOUR])) as server:
        listed = request("GET", f"{server.url}/models").json()
        assert request("GET", f"{server.url}/models/Test").json()["id"] == "Test"
        assert request("GET", f"{server.url}/models/Other").status == 404
        assert request("GET", f"{server.url}/nothing").json()["error"]["code"] is None
    assert [model["id"] for model in listed["data"]] == ["Test"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"model": "gpt"}, 404, "there is no model 'gpt', only Test"),
        ({"messages": []}, 400, "at least one message"),
        ({"messages": "2 + 2?"}, 400, "at least one message"),
        ({"messages": [{"role": "assistant", "content": "4"}]}, 400, "one message of the user"),
        ({"messages": [{"role": "user", "content": "2?"}] * 2}, 400, "without a conversation"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "no text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 4}]}]}, 400, "text"),
        ({"n": 0}, 400, "n is a whole number from 1 to 16, not 0"),
        ({"n": True}, 400, "n is a whole number"),
        ({"seed": "1"}, 400, "seed is a whole number"),
        ({"temperature": -1}, 400, "temperature is a number from 0 to 2, not -1"),
        ({"temperature": "hot"}, 400, "temperature is a number from 0 to 2, not 'hot'"),
        ({"temperature": float("nan")}, 400, "temperature is a number"),
        ({"top_p": True}, 400, "top_p is a number from 0 to 1"),
        ({"max_tokens": 0}, 400, "max_tokens is a whole number from 1"),
        ({"max_tokens": 1.5}, 400, "max_tokens is a whole number"),
        ({"max_completion_tokens": 10**30}, 400, "max_completion_tokens is a whole number"),
        ({"stream": "yes"}, 400, "stream is true or false"),
        ({"tools": [{"type": "function"}]}, 400, "tools: an agent has no such thing"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
    ],
)
def test_requests_that_no_agent_can_answer_are_refused(
    body: dict[str, Any], status: int, says: str
) -> None:
    engine = Replay([FOUR])
    with serving(ONE, engine) as server:
        response = post(server, **body)
    error = response.json()["error"]
    assert response.status == status
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert engine.asked == []


def test_no_client_makes_the_server_read_files_or_addresses() -> None:
    engine = Replay([FOUR])
    with serving(ONE, engine) as server:
        for url in ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.png"):
            part = {"type": "image_url", "image_url": {"url": url}}
            message = {"role": "user", "content": [{"type": "text", "text": "What?"}, part]}
            response = post(server, messages=[message])
            assert (response.status, "data URL" in response.text) == (400, True)
    assert engine.asked == []


def test_images_come_with_the_request() -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    engine = Replay([FOUR])
    with serving(ONE, engine) as server:
        assert post(server, messages=[{"role": "user", "content": parts}]).status == 200
        broken = [{"type": "image_url", "image_url": {"url": url[:60]}}, parts[1]]
        assert post(server, messages=[{"role": "user", "content": broken}]).status == 400
    [asked] = engine.asked
    assert asked.chat[0].content[0].source == url


def test_instructions_are_left_to_the_agent() -> None:
    engine = Replay([FOUR])
    with serving(ONE, engine) as server:
        messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "What is 3?"}]
        assert post(server, messages=messages, temperature=0.3).status == 200
    [asked] = engine.asked
    assert [message.role for message in asked.chat] == ["user"]
    assert "What is 3?" in asked.chat[0].text


def test_equal_seeds_draw_alike_and_no_seed_draws_anew() -> None:
    engine = Replay([FOUR])
    with serving(ONE, engine) as server:
        for seed in (5, 5, 6, None, None):
            post(server, seed=seed)
    keys = [asked.key for asked in engine.asked]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_key_is_asked_for() -> None:
    with serving(ONE, Replay([FOUR]), key="secret") as server:
        assert post(server).status == 401
        wrong = post(server, key="other").json()["error"]
        assert (wrong["code"], "secret" in wrong["message"]) == ("invalid_api_key", False)
        assert post(server, key="secret").status == 200


def test_without_a_key_other_machines_and_web_pages_are_kept_out() -> None:
    with pytest.raises(ValueError, match="SLM_MATH_AGENT_KEY"):
        listen("0.0.0.0", 0, "")
    listen("0.0.0.0", 0, "key").close()
    with serving(ONE, Replay([FOUR])) as server:
        headers = {"Origin": "http://evil.example"}
        assert raw(server.url, b"{}", headers)[0] == 403
        for host in ("evil.example", "127.0.0.1.evil.example:80"):
            assert raw(server.url, b"{}", {"Host": host})[0] == 403
        for host in ("localhost:9", "[::1]"):
            assert raw(server.url, b"{}", {"Host": host})[0] == 404  # it names no model
    with serving(ONE, Replay([FOUR]), key="secret") as server:
        headers = {"Host": "evil.example", "Authorization": "Bearer secret"}
        assert raw(server.url, b"{}", headers)[0] == 404


def test_a_body_that_is_too_long_is_refused_before_it_comes() -> None:
    with serving(ONE, Replay([FOUR]), body_mb=1) as server:
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port), timeout=50) as client:
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
            client.sendall(f"{head}{10**12}\r\n\r\n".encode())
            response = http.client.HTTPResponse(client)  # sooner than its time for a body ends
            response.begin()
            assert response.status == 413


def raw(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("POST", f"{parts.path}/chat/completions", body, headers)
    response = connection.getresponse()
    result = response.status, json.loads(response.read())
    connection.close()
    return result


def test_bodies_are_limited_and_must_be_json() -> None:
    with serving(ONE, Replay([FOUR]), body_mb=1) as server:
        assert raw(server.url, b"x" * (2 << 20), {})[0] == 413
        for body in (b"", b"[1]", b"{", b"[" * 100_000, b"\xff"):
            status, answer = raw(server.url, body, {})
            assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_requests_at_once_are_decoded_together() -> None:
    engine = Replay([FOUR])
    engine.held.clear()
    with serving(ONE, engine) as server:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(server).status)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        until(lambda: engine.busy == 3)
        engine.held.set()
        for thread in threads:
            thread.join()
    assert answers == [200, 200, 200]
    assert engine.together == 3


def test_a_client_that_hangs_up_cancels_its_workflow() -> None:
    engine = Replay([FOUR])
    engine.held.clear()
    with serving(VOTE, engine) as server:
        parts = urlsplit(server.url)
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        body = {"model": "Test", "messages": [{"role": "user", "content": "2 + 2?"}]}
        connection.request("POST", f"{parts.path}/chat/completions", json.dumps(body))
        until(lambda: engine.busy == 3)
        connection.close()
        until(lambda: engine.busy == 0)
        assert engine.canceled == [1, 2, 3]
        engine.held.set()
        assert post(server).status == 200


def test_too_many_workflows_and_too_long_ones_are_refused() -> None:
    engine = Replay([FOUR])
    engine.held.clear()
    with serving(VOTE, engine, most=2, timeout=0.2) as server:
        busy = post(server, n=3)
        assert (busy.status, busy.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        late = post(server)
        assert (late.status, "0.2 s" in late.json()["error"]["message"]) == (504, True)
        *_, error, done = events(post(server, stream=True).text)
        assert (error["error"]["code"], done) == ("timeout", "[DONE]")
        until(lambda: engine.busy == 0)


def test_closing_the_server_tells_its_clients() -> None:
    engine = Replay([FOUR])
    engine.held.clear()
    answers: list[int] = []
    with serving(ONE, engine) as server:
        thread = threading.Thread(target=lambda: answers.append(post(server).status))
        thread.start()
        until(lambda: engine.busy == 1)
    thread.join()
    assert answers == [503]


def test_a_model_answers_and_its_address_is_checked_before_it_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(model_folder(tmp_path_factory.mktemp("model")))
    engine = CheckpointEngine(folder, slots=4)
    with serving(ONE, engine) as server:
        body = post(server, n=3, slm_math=True).json()
    turns = [event for each in body["slm_math"] for event in each["events"] if "tokens" in event]
    assert body["usage"]["completion_tokens"] == sum(turn["tokens"] for turn in turns) > 0
    assert body["usage"]["prompt_tokens"] == sum(turn["prompt_tokens"] for turn in turns) > 0
    command = ("serve-agent", "--agent=SingleShot", "--model", folder)
    status, _, err = ask(capsys, *command, "--host=0.0.0.0")
    assert (status, "environment variable SLM_MATH_AGENT_KEY" in err) == (2, True)
    with listen("127.0.0.1", 0, "") as taken:
        taken.listen()
        status, _, err = ask(capsys, *command, "--port", str(taken.getsockname()[1]))
    assert (status, "cannot listen on 127.0.0.1:" in err) == (2, True)
