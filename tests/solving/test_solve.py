"""`slm-math solve`: what it prints, what it returns, how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cli.evaluating import ask
from rich.console import Console
from rollout.scripted import Scene, printing, served_by
from solving.replay import Replay
from tiny import model_folder

from slm_math.agents import MajorityVote, SingleShot
from slm_math.cli import run
from slm_math.records.encoding import from_json
from slm_math.rollout.collect import Draws, job_of
from slm_math.rollout.scheduler import Scheduler
from slm_math.solving.command import solve
from slm_math.solving.screen import Screen
from slm_math.types import Generate, Note, Problem, RunPython, user

FOUR = "It is \\boxed{4}."
CLEAR = "\x1b[2J"
ONE = SingleShot("solve_plain")
Text = Callable[..., str]


def solved(capsys: pytest.CaptureFixture[str], *problem: str, **options: Any) -> tuple[int, str]:
    """Exit status and output of a problem that a replay engine solves."""
    engine = options.pop("engine", None) or Replay([FOUR])
    capsys.readouterr()
    status = 0
    try:
        solve(*problem, **({"agent": ONE, "engines": {"default": engine}} | options))
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().out


def test_it_prints_reply_answer_and_verdict_without_escape_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out = solved(capsys, "What is 2 + 2?", gold="4.0")
    assert status == 0
    lines = out.splitlines()
    assert lines[1].startswith("--- solver (3 tokens, ")
    assert lines[2] == FOUR
    assert "answer: 4" in lines
    assert "verdict: right; the gold is 4.0" in lines
    assert "\x1b" not in out
    wrong = solved(capsys, "What is 2 + 2?", gold="5")
    assert (wrong[0], "verdict: wrong (different); the gold is 5" in wrong[1]) == (0, True)


def test_without_an_answer_the_status_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, out = solved(capsys, "What is 2 + 2?", engine=Replay(["Hm."]))
    assert (status, "answer: none" in out, "verdict" in out) == (1, True, False)


def test_json_is_the_record_of_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"json": True, "samples": 2, "agent": MajorityVote(k=2)}
    status, out = solved(capsys, "What is 2 + 2?", gold="4", **options)
    rows = [json.loads(line) for line in out.splitlines()]
    records = [from_json(row) for row in rows]
    assert status == 0
    assert [(one.sample, one.answer, one.correct) for one in records] == [
        (0, "4", True),
        (1, "4", True),
    ]
    assert [len(one.turns) for one in records] == [2, 2]
    assert records[0].problem == "What is 2 + 2?"
    _, out = solved(capsys, "What is 2 + 2?", json=True, agent=MajorityVote(k=2))
    row = json.loads(out)
    assert "correct" not in row
    assert all("correct" not in event for event in row["events"])


def test_the_problem_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is\n3 + 3?\n"))
    engine = Replay([FOUR])
    assert solved(capsys, "-", engine=engine)[0] == 0
    assert "What is\n3 + 3?" in engine.asked[0].chat[0].text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"problem": " "}, "there is no problem"),
        ({"problem": "2?", "image": ["no.png"]}, "cannot read the image no.png"),
        ({"problem": "2?", "engines": None}, "nothing serves solver"),
        ({"problem": "2?", "samples": 0}, "samples"),
        ({"interactive": True, "json": True}, "--interactive is a chat"),
        ({"interactive": True, "agent": MajorityVote()}, "--interactive is a chat"),
    ],
)
def test_mistakes_are_refused_before_anything_is_asked(options: dict[str, Any], says: str) -> None:
    engine = Replay([FOUR])
    with pytest.raises(ValueError, match=says):
        solve(**({"agent": ONE, "engines": {"default": engine}} | options))
    assert engine.asked == []


def test_a_chat_keeps_its_history_until_it_is_reset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "What is 2 + 2?\n\nAnd 3 + 3?\n/help\n/reset\nAnd 4 + 4?\n/exit\nNo more\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    engine = Replay(["first", "second", "third"])
    status, out = solved(capsys, interactive=True, engine=engine)
    chats = [[message.text for message in asked.chat] for asked in engine.asked]
    assert status == 0
    assert [len(chat) for chat in chats] == [1, 3, 1]
    assert chats[1][1:] == ["first", "And 3 + 3?"]
    assert "there is no /help" in out
    assert [line for line in out.splitlines() if line in ("first", "second", "third")] == [
        "first",
        "second",
        "third",
    ]


@pytest.fixture
def shown() -> Text:
    """What a workflow looks like on a terminal of 80 columns, or in a file."""

    def show(
        make: Callable[[], Any], replies: list[str], terminal: bool, printed: str = "4"
    ) -> str:
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=80, height=24)
        screen = Screen(console)
        executors = served_by(Replay(replies), printing(printed))
        job = job_of(
            Scene(make, uses_python=True), Problem("p", "?"), sample=0, draws=Draws(key=("test",))
        )
        with screen:
            list(Scheduler(executors, audience=screen).run([job]))
        return file.getvalue()

    return show


def programs() -> Any:
    [reply] = yield [Generate(user("?"))]
    yield [Note("verdict", "CORRECT" + CLEAR, role="verifier"), Note("draft")]
    yield [RunPython("print(4)")]
    return reply.text


def test_programs_are_colored_on_a_terminal_and_shown_once(shown: Text) -> None:
    reply = "So:\n```python\nprint(4)\n```\nThat is all."
    text = shown(programs, [reply], terminal=True)
    assert "\x1b[" in text
    assert "```" not in text.split("--- solver")[1]
    plain = shown(programs, [reply], terminal=False)
    assert "\x1b" not in plain
    assert reply in plain
    assert plain.count("print(4)") == 1
    other = shown(programs, ["Hm."], terminal=False)
    assert other.count("print(4)") == 1
    assert "draft: no answer" in plain


def test_unusable_replies_are_told_in_plain_words(shown: Text) -> None:
    def notes() -> Any:
        [reply] = yield [Generate(user("?"))]
        yield [Note("lost", reason, role="solver") for reason in ("empty", "truncated", "gone")]
        return reply.text

    lines = shown(notes, ["Hm."], terminal=False).splitlines()
    assert [line.partition("unusable reply: ")[2] for line in lines if "unusable" in line] == [
        "it is empty (by the solver)",
        "it hit the limit of tokens before what the agent needs (by the solver)",
        "gone (by the solver)",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_have_no_effect(shown: Text, terminal: bool) -> None:
    hostile = f"a{CLEAR}b\x9b2J\u202e[bold]c[/bold]\r\n```python\nprint(4) # {CLEAR}\n```\n\ud800"
    text = shown(programs, [hostile], terminal, printed=f"4{CLEAR}")
    assert CLEAR not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "[bold]c[/bold]" in text
    assert "\\x1b[2J" in text


def test_a_growing_reply_is_shown_by_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=40, height=10)
    screen = Screen(console)
    job = job_of(ONE, Problem("p", "?"), sample=0, draws=Draws())
    for number in range(1, 6):
        screen.asked(number, job, Generate(user("?")))
        screen.grew(number, "\n".join(f"line {line} of {number}" for line in range(50)))
    with console.capture() as capture:
        console.print(screen._panel())
    lines = capture.get().splitlines()
    assert len(lines) <= console.height
    assert any("line 49 of 1" in line for line in lines)
    assert not any("line 3 of 1" in line for line in lines)
    assert any("more" in line for line in lines)
    screen.ended(job)
    with console.capture() as capture:
        console.print(screen._panel())
    assert capture.get().strip() == ""


def test_images_are_named_at_once_or_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["--image", "a.png", "b.png"], ["--image", "a.png", "--image=b.png"]):
        with pytest.raises(SystemExit):
            run(["solve", "What?", *command, "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        assert (config["problem"], config["image"]) == ("What?", ["a.png", "b.png"])


def test_the_command_runs_a_model_and_says_when_it_found_nothing(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(model_folder(tmp_path_factory.mktemp("model")))
    options = ["--agent=SingleShot", "--agent.prompt=solve_plain", "--torch_threads=1"]
    options += ["--inference.sampling.max_new_tokens=4", "--model", model]
    status, out, err = ask(capsys, "solve", "What is 2 + 2?", *options)
    assert status == 1
    assert out.splitlines()[1].startswith("--- solver (4 tokens, ")
    assert err.startswith("engine: transformers")
    status, out, _ = ask(capsys, "solve", "--json", "--gold", "4", *options, "What is 2 + 2?")
    assert (status, json.loads(out)["gold"]) == (1, "4")
    status, _, err = ask(capsys, "solve", "--model", model)
    assert (status, "there is no problem" in err) == (2, True)
