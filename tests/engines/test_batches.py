"""Requests that go to a server as files."""

import json
import time

import pytest
from engines.batch_endpoint import BatchServer, echo
from engines.endpoint import KEY, completion

from slm_math.engines.base import ContextFull, EngineError, Request, Unusable
from slm_math.engines.batches import OpenAIBatches
from slm_math.engines.openai import OpenAIEngine
from slm_math.types import Reply, Sampling, user


@pytest.fixture
def batches(monkeypatch, tmp_path):
    """batches(server options) -> (server, start); start() makes an engine with the state of the
    one before it.
    """
    monkeypatch.setenv("TEST_KEY", KEY)
    opened = []

    def serve(**options):
        server = BatchServer(**options)
        opened.extend([server.shutdown, server.server_close])

        def start(**options):
            options = {"state": str(tmp_path / "batches.json"), "collect": 0.05} | options
            engine = OpenAIBatches(
                server.url,
                "some-model",
                api_key_env="TEST_KEY",
                every=0.02,
                backoff=0.01,
                **options,
            )
            opened.insert(0, engine.close)
            return engine

        return server, start

    yield serve
    for end in opened:
        end()


def submit(engine, *texts: str) -> dict[int, str]:
    return {
        engine.submit(Request(user(text), Sampling(max_new_tokens=16), key=(n, text))): text
        for n, text in enumerate(texts)
    }


def replies(engine, asked: dict[int, str]) -> dict[str, Reply | EngineError]:
    """What became of each question."""
    found = {}
    while len(found) < len(asked):
        found |= {asked[ticket]: result for ticket, result in engine.poll(60)}
    return found


def test_replies_come_back_to_their_requests(batches):
    server, start = batches()
    engine = start()
    found = replies(engine, submit(engine, "a", "b", "c"))
    assert {text: reply.text for text, reply in found.items()} == {
        text: f"re: {text}" for text in "abc"
    }
    reply = found["a"]
    assert (reply.asked, reply.counted, reply.model) == (7, 3, "some-model-1")
    assert len(server.batches) == 1
    assert engine.busy == 0


def test_a_file_holds_no_more_than_it_may(batches):
    server, start = batches()
    engine = start(rows=2)
    assert len(replies(engine, submit(engine, *"abcde"))) == 5
    files = [one["input_file_id"] for one in server.batches.values()]
    assert sorted(len(server.rows(file)) for file in files) == [1, 2, 2]


def test_rows_are_whole_requests(batches):
    server, start = batches()
    engine = start(extra={"reasoning_effort": "low"})
    replies(engine, submit(engine, "a"))
    [row] = server.rows("file-0")
    assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")
    assert row["body"]["messages"] == [{"role": "user", "content": "a"}]
    assert row["body"]["max_tokens"] == 16
    assert row["body"]["reasoning_effort"] == "low"


def test_equal_requests_are_different_rows(batches):
    server, start = batches()
    engine = start()
    tickets = [engine.submit(Request(user("a"), Sampling())) for _ in range(3)]
    found = []
    while len(found) < 3:
        found += [ticket for ticket, _ in engine.poll(60)]
    assert sorted(found) == tickets
    assert server.asked == ["a"] * 3


def test_rows_without_a_reply_go_into_the_next_batch(batches):
    seen = []

    def answer(body):
        text = body["messages"][-1]["content"]
        seen.append(text)
        if seen.count(text) > 1:
            return echo(body)
        return {"expired": None, "busy": (500, {}), "limited": (429, {}), "broken": (200, {})}.get(
            text, echo(body)
        )

    server, start = batches(answer=answer)
    engine = start()
    found = replies(engine, submit(engine, "expired", "busy", "limited", "broken", "fine"))
    assert all(reply.text == f"re: {text}" for text, reply in found.items())
    assert server.asked.count("fine") == 1
    assert len(server.asked) == 9


def test_rows_are_given_up_after_the_retries(batches):
    server, start = batches(answer=lambda _: (500, {"error": {"message": "oops"}}))
    engine = start(retries=1)
    [error] = replies(engine, submit(engine, "a")).values()
    assert str(error) == f"{server.url}/chat/completions: status 500: oops (tried 2 times)"


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_it_has(batches, end):
    def answer(body):
        is_second = len(server.batches) > 1
        return echo(body) if body["messages"][-1]["content"] == "a" or is_second else None

    server, start = batches(answer=answer, ends=lambda number: "completed" if number else end)
    engine = start()
    found = replies(engine, submit(engine, "a", "b"))
    assert {reply.text for reply in found.values()} == {"re: a", "re: b"}
    assert server.asked == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ((400, {"error": {"message": "too odd"}}), EngineError, "status 400: too odd"),
        (
            (400, {"error": {"message": "maximum context length is 4096 tokens"}}),
            ContextFull,
            "context",
        ),
        ((200, completion("", "content_filter")), EngineError, "filtered"),
    ],
)
def test_a_refused_row_is_final(batches, answer, kind, says):
    server, start = batches(answer=lambda _: answer)
    engine = start()
    [error] = replies(engine, submit(engine, "a")).values()
    assert isinstance(error, kind)
    assert says in str(error)
    assert server.asked == ["a"]


def test_a_batch_of_an_unknown_model_ends_the_run(batches):
    failure = {"code": "model_not_found", "message": "The provided model is not supported"}
    _, start = batches(ends=lambda _: "failed", failure=failure)
    engine = start()
    submit(engine, "a", "b")
    with pytest.raises(Unusable, match="set model"):
        engine.poll(60)


def test_a_batch_that_failed_is_tried_again(batches):
    failure = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
    _, start = batches(ends=lambda number: "completed" if number else "failed", failure=failure)
    engine = start()
    assert replies(engine, submit(engine, "a"))["a"].text == "re: a"


def test_a_server_without_batches_ends_the_run(batches):
    _, start = batches(fault=lambda method, path, _: 404 if path == "/v1/files" else None)
    engine = start()
    submit(engine, "a")
    with pytest.raises(Unusable, match="use OpenAIEngine"):
        engine.poll(60)


def test_a_wrong_key_ends_the_run(batches):
    _, start = batches(fault=lambda *_: 401)
    engine = start()
    submit(engine, "a")
    with pytest.raises(Unusable, match="TEST_KEY"):
        engine.poll(60)


def test_every_route_is_tried_again(batches):
    _, start = batches(fault=lambda method, path, number: 500 if not number else None)
    engine = start()
    assert replies(engine, submit(engine, "a"))["a"].text == "re: a"


def test_an_answer_that_got_lost_makes_no_second_batch(batches):
    def fault(method, path, number):
        return 502 if (method, path) == ("POST", "/v1/batches") and not number else None

    server, start = batches(fault=fault)
    engine = start()
    assert replies(engine, submit(engine, "a"))["a"].text == "re: a"
    assert server.asked == ["a"]


def test_a_restarted_run_continues_with_its_batch(batches, tmp_path):
    server, start = batches(looks=10**6)
    engine = start()
    submit(engine, "a", "b")
    wait_for(lambda: server.seen.get("batch_0"))
    engine.close()
    server.looks = 1
    engine = start()
    found = replies(engine, submit(engine, "a", "b", "c"))
    assert {reply.text for reply in found.values()} == {"re: a", "re: b", "re: c"}
    assert server.asked == ["a", "b", "c"]
    engine.close()
    assert json.loads((tmp_path / "batches.json").read_text()) == {"batches": []}


def test_replies_that_were_not_handed_out_are_there_after_a_restart(batches):
    server, start = batches()
    engine = start()
    submit(engine, "a", "b")
    wait_for(lambda: len(engine._done) == 2)
    engine.close()
    engine = start()
    assert len(replies(engine, submit(engine, "a", "b"))) == 2
    assert server.asked == ["a", "b"]


def test_a_batch_that_the_server_was_asked_for_is_found_after_a_restart(batches, tmp_path):
    """Killed between the request for the batch and its answer."""
    server, start = batches()
    engine = start()
    submit(engine, "a")
    wait_for(lambda: server.seen.get("batch_0"))
    engine.close()
    path = tmp_path / "batches.json"
    state = json.loads(path.read_text())
    state["batches"][0]["id"] = ""
    path.write_text(json.dumps(state))
    engine = start()
    assert replies(engine, submit(engine, "a"))["a"].text == "re: a"
    assert server.asked == ["a"]


def test_a_batch_that_the_server_forgot_is_asked_again(batches):
    server, start = batches(looks=10**6)
    engine = start()
    submit(engine, "a")
    wait_for(lambda: server.seen.get("batch_0"))
    engine.close()
    server.batches.clear()
    server.looks = 1
    engine = start()
    assert replies(engine, submit(engine, "a"))["a"].text == "re: a"


def test_without_a_state_the_batches_are_cancelled(batches):
    server, start = batches(looks=10**6)
    engine = start(state=None)
    submit(engine, "a")
    wait_for(lambda: server.seen.get("batch_0"))
    engine.close()
    assert server.batches["batch_0"]["status"] == "cancelled"


def test_a_canceled_request_that_waits_is_not_sent(batches):
    server, start = batches()
    engine = start(collect=0.3)
    first, second = submit(engine, "a", "b")
    engine.cancel(first)
    assert [ticket for ticket, _ in engine.poll(60)] == [second]
    assert server.asked == ["b"]


def test_a_state_of_something_else_is_refused(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"state\.json does not hold the state of batches"):
        OpenAIBatches("http://localhost/v1", "m", state=str(path))


def test_a_journal_may_be_filled_by_both_transports():
    one, other = (kind("http://localhost/v1", "m") for kind in (OpenAIEngine, OpenAIBatches))
    assert one.identity() == other.identity()


def wait_for(happened) -> None:
    """Until it did; pytest's own limit ends a test in which it never does."""
    while not happened():
        time.sleep(0.01)
