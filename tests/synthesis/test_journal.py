"""Answered requests are answered from the file."""

import json
from dataclasses import replace

import pytest
from synthesis.echo import REQUEST, Echo, ask

from slm_math.engines.base import EngineError, Request
from slm_math.synthesis.journal import Journal
from slm_math.types import Image, Reply, Sampling, Text, assistant, user


def test_an_answered_request_is_answered_from_the_file(open_journal):
    first, second = Echo(), Echo()
    reply = ask(open_journal().before(first, "solver"))
    assert ask(open_journal().before(second, "solver")) == reply
    assert reply == Reply("re: 2 + 2?", asked=10, counted=5, model="m")
    assert (first.asked, second.asked) == (["2 + 2?"], [])


def test_within_a_run_too(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    assert ask(engine) == ask(engine)
    assert len(echo.asked) == 1


def test_what_is_known_comes_with_a_later_poll(open_journal):
    engine = open_journal().before(Echo(), "solver")
    ask(engine)
    ticket = engine.submit(REQUEST)
    assert engine.busy == 1
    assert [done for done, _ in engine.poll()] == [ticket]


def picture(folder, name: str, data: bytes) -> Request:
    path = folder / name
    path.write_bytes(data)
    return replace(REQUEST, chat=user("2 + 2?", [Image(str(path))]))


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, chat=user("2 + 3?")),
        replace(REQUEST, chat=user("2 + 2?") + assistant("4")),
        replace(REQUEST, key=("cot", 0, "p/1", 2)),
        replace(REQUEST, key=("cot", 0, "p/1", "1")),
        replace(REQUEST, role="verifier"),
        replace(REQUEST, sampling=Sampling(temperature=0.5)),
        replace(REQUEST, sampling=Sampling(stop=("a", "b"))),
        replace(REQUEST, resume=True),
    ],
)
def test_another_request_is_asked(open_journal, other):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine)
    ask(engine, other)
    assert len(echo.asked) == 2


def test_another_engine_is_asked(open_journal):
    journal, other = open_journal(), Echo("other")
    ask(journal.before(Echo(), "solver"))
    ask(journal.before(other, "solver"))
    assert len(other.asked) == 1


def test_images_are_told_apart_by_what_they_show(open_journal, tmp_path):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine, picture(tmp_path, "a.png", b"one"))
    ask(engine, picture(tmp_path, "b.png", b"one"))
    assert len(echo.asked) == 1
    ask(engine, picture(tmp_path, "a.png", b"two"))
    assert len(echo.asked) == 2


def test_it_does_not_matter_who_wrote_a_text(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    for parts in ((Reply("ab"),), (Text("a"), Text("b", learn=False)), (Reply("a"), Text("b"))):
        ask(engine, replace(REQUEST, chat=user("?") + assistant(*parts)))
    assert len(echo.asked) == 1


def test_errors_are_asked_again(open_journal):
    bad = replace(REQUEST, chat=user("bad"))
    assert isinstance(ask(open_journal().before(Echo(), "solver"), bad), EngineError)
    echo = Echo()
    ask(open_journal().before(echo, "solver"), bad)
    assert echo.asked == ["bad"]


def test_token_ids_are_left_out_of_every_session(open_journal):
    ids = {"token_ids": (1, 2, 3), "logprobs": (0.0, -1.0, -2.0), "prompt_ids": (4, 5)}
    echo = Echo(**ids, asked=0, counted=0)
    engine = open_journal().before(echo, "solver")
    reply = ask(engine)
    assert ask(engine) == reply == Reply("re: 2 + 2?", asked=2, counted=3, model="m")
    assert engine.refuse_training("solver")


def test_one_engine_for_several_roles(open_journal):
    journal, echo = open_journal(), Echo()
    one, other = journal.before(echo, "solver"), journal.before(echo, "verifier")
    tickets = {one.submit(REQUEST), other.submit(replace(REQUEST, role="verifier"))}
    assert {ticket for ticket, _ in one.poll() + other.poll()} == tickets


def test_a_canceled_request_is_never_returned_but_kept_if_it_was_answered(open_journal):
    journal, echo = open_journal(), Echo()
    engine = journal.before(echo, "solver")
    engine.cancel(engine.submit(REQUEST))
    assert engine.poll() == []
    assert journal.spending.total.requests == 1


def test_a_canceled_request_under_way_is_canceled(open_journal):
    echo = Echo(slots=0)
    engine = open_journal().before(echo, "solver")
    engine.cancel(engine.submit(REQUEST))
    assert echo.canceled == [1]
    assert engine.busy == 0


def test_the_rest_is_the_engines(open_journal):
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    assert (engine.identity(), engine.usage()) == (echo.identity(), echo.usage())
    engine.close()
    assert echo.closed


def test_an_incomplete_last_line_is_removed(open_journal, tmp_path):
    engine = open_journal().before(Echo(), "solver")
    ask(engine)
    ask(engine, replace(REQUEST, key=(2,)))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    echo = Echo()
    engine = open_journal().before(echo, "solver")
    ask(engine)
    ask(engine, replace(REQUEST, key=(2,)))
    assert len(echo.asked) == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("rest", [b"", b'{"jour'])
def test_a_file_killed_at_its_beginning_is_a_new_one(open_journal, tmp_path, rest):
    (tmp_path / "journal.jsonl").write_bytes(rest)
    ask(open_journal().before(Echo(), "solver"))
    assert open_journal().spending.total.requests == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"question": "?"}\n', "line 1"),
        (b'{"journal": 1}\n{"text": "?"}\n', "line 2"),
        (b'{"journal": 1}\n{"digest": "ab", "text": "?"}\n', "line 2"),
        (b'{"journal": 1}\n[1]\n', "line 2"),
        (b'{"journal": 1}\nnothing\n', "line 2"),
        (b'{"journal": 2}\n', "line 1"),
    ],
)
def test_another_file_is_refused_and_stays(open_journal, tmp_path, data, says):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"journal\.jsonl, {says}"):
        open_journal()
    assert path.read_bytes() == data


def test_a_file_has_one_writer(open_journal, tmp_path):
    journal = open_journal()
    with pytest.raises(ValueError, match="another process"):
        Journal(tmp_path / "journal.jsonl", {})
    journal.close()
    Journal(tmp_path / "journal.jsonl", {}).close()


def test_odd_texts_come_back(open_journal):
    text = 'a "quote"\n\u2028 \x00 \ud800 é 数'
    request = replace(REQUEST, chat=user(text))
    ask(open_journal().before(Echo(), "solver"), request)
    assert ask(open_journal().before(Echo(), "solver"), request).text == f"re: {text}"


def test_long_replies_come_back(open_journal):
    request = replace(REQUEST, chat=user("x" * 300_000))
    ask(open_journal().before(Echo(), "solver"), request)
    assert ask(open_journal().before(Echo(), "solver"), request).text == f"re: {'x' * 300_000}"


def test_the_file_holds_no_secrets_and_no_prompts(open_journal, tmp_path):
    ask(open_journal().before(Echo(), "solver"))
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert set(json.loads(lines[1])) == {
        *("digest", "role", "text", "finish", "asked", "tokens", "estimated", "usd"),
        *("seconds", "temperature", "model", "version", "prompt"),
    }
