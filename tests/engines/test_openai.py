"""The chat engine against a real server on this machine."""

import base64
import json
import logging
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slm_math.engines.base import EngineError, Request
from slm_math.engines.openai import OpenAIEngine
from slm_math.types import Image, Reply, Sampling, Text, assistant, system, user

KEY = "sk-very-secret-0123456789"


def completion(text: str, finish: str = "stop", **message: object) -> dict:
    return {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}]}


class Server(ThreadingHTTPServer):
    """Answers by `script(number of the request, body)` -> (status, body, headers); keeps what it was asked."""

    daemon_threads = True

    def __init__(self, script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.times: list[float] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.headers.append({**self.headers, "path": self.path})
            server.times.append(time.monotonic())
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            status, answer, headers = server.script(number, body)
        finally:
            with server.lock:
                server.now -= 1
        if status is None:  # hang up without a word
            self.close_connection = True
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch):
    """serve(script, **options) -> (server, engine); both end with the test."""
    monkeypatch.setenv("TEST_KEY", KEY)
    opened = []

    def start(script, **options):
        server = Server(script)
        options = {"api_key_env": "TEST_KEY", "backoff": 0.01, "timeout": 20, **options}
        engine = OpenAIEngine(server.url, "some-model", **options)
        opened.extend([engine.close, server.shutdown, server.server_close])
        return server, engine

    yield start
    for end in opened:
        end()


def in_turn(*answers):
    """A script that gives one answer after the other, then the last one for ever."""
    return lambda number, _: (*answers[min(number, len(answers) - 1)], {})[:3]


OK = (200, completion("four"))


def ask(engine: OpenAIEngine, chat=None, sampling: Sampling | None = None, **options):
    """The result of one request."""
    ticket = engine.submit(Request(chat or user("2 + 2?"), sampling or Sampling(), **options))
    [(done, result)] = engine.poll(20)
    assert done == ticket
    assert engine.busy == 0
    return result


def test_sends_the_chat_and_the_sampling_and_returns_the_reply(serve):
    server, engine = serve(in_turn((200, completion("four", "length"))))
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=32, stop=("\n\n",))
    reply = ask(engine, system("Be brief.") + user("2 + 2?"), sampling, key=(1, 2))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish, reply.token_ids, reply.logprobs) == ("four", "length", (), ())
    assert reply.temperature == 0.7
    assert 0 < reply.seconds < 20
    assert server.headers[0]["path"] == "/v1/chat/completions"
    assert server.bodies == [
        {
            "model": "some-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}],
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 20,
            "max_tokens": 32,
            "stop": ["\n\n"],
        }
    ]


def test_fields_that_are_off_are_not_sent(serve):
    server, engine = serve(in_turn(OK), extra={"max_tokens": None, "max_completion_tokens": 7})
    ask(engine, key=(1,))
    assert server.bodies[0].keys() == {"model", "messages", "temperature", "top_p", "max_completion_tokens"}


def test_seeds_follow_the_key(serve):
    server, engine = serve(in_turn(OK), send_seed=True)
    for key in ((1, "a"), (1, "a"), (2, "a"), ()):
        ask(engine, key=key)
    first, again, other, none = (body.get("seed") for body in server.bodies)
    assert first == again != other
    assert 0 <= first < 2**31
    assert none is None


def test_resume_leaves_the_last_message_open(serve):
    server, engine = serve(in_turn(OK))
    ask(engine, user("2 + 2?") + assistant(Reply("It is "), Text("[4] ", learn=False)), resume=True)
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "It is [4] "}
    assert server.bodies[0]["continue_final_message"] is True
    assert server.bodies[0]["add_generation_prompt"] is False
    with pytest.raises(ValueError, match="ends in an assistant message"):
        engine.submit(Request(user("2 + 2?"), Sampling(), resume=True))


def test_pictures_go_as_parts(serve, tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG")
    server, engine = serve(in_turn(OK))
    ask(engine, user("What is this?", [Image(str(picture)), Image("data:image/gif;base64,R0lG")]))
    assert server.bodies[0]["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}},
        {"type": "text", "text": "What is this?"},
    ]
    error = ask(engine, user("And this?", [Image(str(tmp_path / "none.png"))]))
    assert "none.png: No such file" in str(error)


def test_reasoning_that_comes_apart_is_part_of_the_text(serve):
    _, engine = serve(in_turn((200, completion(None, reasoning_content="2 and 2\n")), (200, completion(None))))
    assert ask(engine).text == "<think>\n2 and 2\n</think>\n\n"
    assert ask(engine).text == ""


def test_many_requests_are_under_way_at_once_but_no_more_than_allowed(serve):
    def echo(number, body):
        time.sleep(0.05)
        return 200, completion(body["messages"][0]["content"]), {}

    server, engine = serve(echo, concurrency=6)
    tickets = {engine.submit(Request(user(str(n)), Sampling())): str(n) for n in range(30)}
    assert engine.busy == 30
    results = {}
    while engine.busy:
        results |= dict(engine.poll(20))
    assert {ticket: reply.text for ticket, reply in results.items()} == tickets
    assert 2 <= server.most <= 6


def test_requests_progress_while_nobody_polls(serve):
    _, engine = serve(in_turn(OK))
    engine.submit(Request(user("2 + 2?"), Sampling()))
    end = time.monotonic() + 10
    while not engine._done and time.monotonic() < end:
        time.sleep(0.01)
    assert len(engine.poll()) == 1
    assert engine.poll(5) == []  # nothing is under way: no reason to wait


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
    ids=["429", "500", "503", "hang-up", "no-json", "no-choices", "no-message", "aborted", "no-text"],
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


@pytest.mark.parametrize(("wanted", "least"), [(lambda: "0.4", 0.4), (lambda: formatdate(time.time() + 2), 0.9)])
def test_waits_as_long_as_the_server_asks(serve, wanted, least):
    def script(number, _):
        return (429, {}, {"Retry-After": wanted()}) if number == 0 else (*OK, {})

    server, engine = serve(script)
    assert ask(engine).text == "four"
    assert server.times[1] - server.times[0] >= least


def test_a_silent_server_is_given_up(serve):
    release = threading.Event()

    def script(number, _):
        release.wait(20)
        return (*OK, {})

    _, engine = serve(script, timeout=0.2, retries=1)
    started = time.monotonic()
    error = ask(engine)
    release.set()
    assert "no reply within 0.2 s (tried 2 times)" in str(error)
    assert 0.4 <= time.monotonic() - started < 10


def test_a_server_that_is_not_there_is_an_error(serve):
    server, engine = serve(in_turn(OK), retries=1)
    server.shutdown()
    server.server_close()
    assert "ConnectError" in str(ask(engine))


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
    answers = [(401, {"error": {"message": f"{'x' * 340} bad key {KEY} {KEY}"}}), (500, f"{KEY}".encode())]
    server, engine = serve(in_turn(*answers), retries=1)
    errors = [ask(engine), ask(engine)]
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 3
    assert "[key]" in str(errors[1])
    for text in (*map(str, errors), *map(repr, errors), repr(engine), str(engine), caplog.text):
        assert KEY not in text
        assert KEY[:12] not in text


def test_no_key_no_header(serve, monkeypatch):
    server, engine = serve(in_turn(OK), api_key_env="NO_SUCH_VARIABLE")
    ask(engine)
    assert "Authorization" not in server.headers[0]


def test_a_cancelled_request_hangs_up_and_is_never_returned(serve):
    release = threading.Event()

    def script(number, body):
        if body["messages"][0]["content"] == "slow":
            release.wait(20)
        return (*OK, {})

    server, engine = serve(script, concurrency=1)
    slow, waiting, quick = (engine.submit(Request(user(text), Sampling())) for text in ("slow", "never", "quick"))
    while not server.bodies:
        time.sleep(0.01)
    engine.cancel(waiting)
    engine.cancel(slow)
    engine.cancel(12345)
    assert [ticket for ticket, _ in engine.poll(20)] == [quick]  # the slot was free at once
    assert not release.is_set()
    release.set()
    assert engine.busy == 0
    assert [body["messages"][0]["content"] for body in server.bodies] == ["slow", "quick"]


def test_closing_does_not_wait_for_servers(serve):
    release = threading.Event()

    def script(number, _):
        release.wait(20)
        return (*OK, {})

    server, engine = serve(script)
    for _ in range(3):
        engine.submit(Request(user("2 + 2?"), Sampling()))
    while len(server.bodies) < 3:
        time.sleep(0.01)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 5
    release.set()
    assert engine.poll(5) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "chat endpoint"]
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Request(user("2 + 2?"), Sampling()))


def test_cannot_serve_a_trained_role(serve):
    _, engine = serve(in_turn(OK))
    assert not engine.trainable
    assert engine.refuse_training("solver") == (
        "a chat endpoint returns no token ids and log-probabilities: it cannot serve the trained role 'solver'"
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
