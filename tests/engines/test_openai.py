"""The chat engine against a real server on this machine."""

import base64
import time

import pytest
from engines.endpoint import OK, ask, completion, in_turn
from PIL import Image as Pillow

from slm_math.engines.base import Request
from slm_math.types import Image, Reply, Sampling, Text, assistant, system, user


def test_sends_the_chat_and_the_sampling_and_returns_the_reply(serve):
    server, engine = serve(in_turn((200, completion("four", "length"))))
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=32, stop=("\n\n",))
    reply = ask(engine, system("Be brief.") + user("2 + 2?"), sampling, key=(1, 2))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish, reply.token_ids, reply.logprobs) == ("four", "length", (), ())
    assert reply.temperature == 0.7
    assert reply.seconds > 0
    assert server.headers[0]["path"] == "/v1/chat/completions"
    assert server.bodies == [
        {
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2 + 2?"},
            ],
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
    assert server.bodies[0].keys() == {
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_completion_tokens",
    }


def test_effort_is_sent(serve):
    server, engine = serve(in_turn(OK))
    ask(engine, sampling=Sampling(effort="low"), key=(1,))
    assert server.bodies[0]["reasoning_effort"] == "low"


def test_variables_of_the_chat_template_are_sent(serve):
    server, engine = serve(in_turn(OK), chat_template_kwargs={"enable_thinking": False})
    ask(engine, key=(1,))
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert engine.identity()["extra"] == {"chat_template_kwargs": {"enable_thinking": False}}


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


def test_images_are_sent_as_parts(serve, tmp_path):
    image_file = tmp_path / "p.png"
    Pillow.new("RGB", (1, 1)).save(image_file)
    url = "data:image/png;base64," + base64.b64encode(image_file.read_bytes()).decode()
    server, engine = serve(in_turn(OK))
    ask(engine, user("What is this?", [Image(str(image_file)), Image(url)]))
    assert server.bodies[0]["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is this?"},
    ]
    error = ask(engine, user("And this?", [Image(str(tmp_path / "none.png"))]))
    assert "none.png: No such file" in str(error)


def test_reasoning_that_comes_apart_is_part_of_the_text(serve):
    _, engine = serve(
        in_turn((200, completion(None, reasoning_content="2 and 2\n")), (200, completion(None)))
    )
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
        results |= dict(engine.poll(120))
    assert {ticket: reply.text for ticket, reply in results.items()} == tickets
    assert 2 <= server.most <= 6


def test_requests_progress_while_nobody_polls(serve):
    _, engine = serve(in_turn(OK))
    engine.submit(Request(user("2 + 2?"), Sampling()))
    end = time.monotonic() + 120
    while not engine._done and time.monotonic() < end:
        time.sleep(0.01)
    assert len(engine.poll()) == 1
    assert engine.poll(5) == []  # nothing is under way: no reason to wait


@pytest.mark.parametrize(
    ("usage", "asked", "counted"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 34}, 12, 34),
        ({"prompt_tokens": -1, "completion_tokens": True}, 0, 0),
        ({"prompt_tokens": "12", "completion_tokens": 3.5}, 0, 0),
        ({"prompt_tokens": None}, 0, 0),
        ([12], 0, 0),
        (None, 0, 0),
    ],
)
def test_what_the_server_counts_is_part_of_the_reply(serve, usage, asked, counted):
    _, engine = serve(in_turn((200, completion("four") | {"usage": usage, "model": "some-1"})))
    reply = ask(engine)
    assert (reply.asked, reply.counted, reply.model) == (asked, counted, "some-1")
    assert (reply.prompt_tokens, reply.tokens) == (asked, counted)


def test_a_model_without_a_name_is_unknown(serve):
    _, engine = serve(in_turn((200, completion("four") | {"model": 7})))
    assert ask(engine).model == ""


def test_canceled_requests_leave_their_places(serve):
    """Also one that is canceled before it was sent: all others are answered."""
    _, engine = serve(in_turn(OK), concurrency=1)
    for _ in range(20):
        canceled = [engine.submit(Request(user("no"), Sampling())) for _ in range(3)]
        last = engine.submit(Request(user("yes"), Sampling()))
        for ticket in canceled:
            engine.cancel(ticket)
        [(ticket, reply)] = engine.poll(120)
        assert (ticket, reply.text, engine.busy) == (last, "four", 0)
