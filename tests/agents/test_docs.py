"""The examples of docs/agents.md: a new agent is written, evaluated, trained and tested as the page
says.
"""

import importlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from slm_math.cli import run
from slm_math.testing import drive
from slm_math.types import Problem

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
QUIZ = """
from slm_math.data.base import Source
from slm_math.types import Problem, Task


class Quiz(Source):
    name = "quiz"

    def tasks(self, split):
        choices = ("five", "seven", "nine")
        return [
            Task(Problem(f"quiz/{split}/{i}", f"What is {i} + 7 - {i}?", "mc", choices), "B")
            for i in range(4)
        ]
"""

CLOCKS = """
from slm_math.data.base import Source
from slm_math.engines.base import Engine
from slm_math.types import Image, Problem, Reply, Task


class Clocks(Source):
    name = "clocks"

    def tasks(self, split):
        choices = ("3:00", "6:00", "9:00")
        images = [(Image(f"clock-{i}.png"),) for i in range(3)]
        return [
            Task(Problem(f"clock/{i}", "What does the clock show?", "mc", choices, images[i]), "C")
            for i in range(3)
        ]


class Reader(Engine):
    \"\"\"Knows the time from the name of the image in the first message.\"\"\"

    def __init__(self):
        self.open = []

    def submit(self, request):
        [question, *_] = request.chat
        [image] = [part for part in question.content if isinstance(part, Image)]
        assert "(C) 9:00" in question.text
        self.open.append((len(self.open), "C" if image.source == "clock-2.png" else "A"))
        return self.open[-1][0]

    def poll(self, timeout=0.0):
        done, self.open = self.open, []
        return [(ticket, Reply(f"It is \\\\boxed{{{letter}}}.")) for ticket, letter in done]

    def identity(self):
        return {"engine": "Reader"}
"""


def block(text: str) -> str:
    """The Python block of the page that has this text."""
    [code] = [
        part.split("```")[0]
        for part in PAGE.split("```python\n")[1:]
        if text in part.split("```")[0]
    ]
    return code


def command(name: str) -> list[str]:
    """The arguments of the page's only command of this name with the agent of the page."""
    start, agent = f"    slm-math {name} ", "my_agent.SecondThought"
    [line] = [line for line in PAGE.splitlines() if line.startswith(start) and agent in line]
    return shlex.split(line)[1:]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with the page's agent in my_agent.py."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_agent.py").write_text(block("class SecondThought"), encoding="utf-8")
    (tmp_path / "quiz.py").write_text(QUIZ, encoding="utf-8")
    (tmp_path / "clocks.py").write_text(CLOCKS, encoding="utf-8")
    for number in range(3):
        Pillow.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"clock-{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_agent", "quiz", "clocks"):
        sys.modules.pop(name, None)


def test_the_example_is_short() -> None:
    assert len(block("class SecondThought").splitlines()) < 30


def test_the_agent_is_trained_and_evaluated_by_one_command_each(here: Path) -> None:
    fast = ["--config", "configs/fast.yaml", "--torch_threads", "1"]
    few = ["--model.inference.sampling.max_new_tokens", "12", "--model.group_size", "4"]
    run([*command("fit"), *fast, *few, "--trainer.default_root_dir", "runs/mine"])
    [line, *_] = (here / "runs/mine/rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert "Check each step." in line

    small = ["--limit", "2", "--inference.sampling.max_new_tokens", "8", "--torch_threads", "1"]
    source = ["--source", "quiz.Quiz", "--model", "runs/mine/export", "--out", "runs/test"]
    run([*command("eval"), *source, *small])
    records = records_of(here / "runs/test/second_thought/records.jsonl")
    assert [record["problem"] for record in records] == ["What is 0 + 7 - 0?", "What is 1 + 7 - 1?"]
    for record in records:
        first, second = (event for event in record["events"] if "prompt" in event)
        shown = "What is {0} + 7 - {0}?\n(A) five\n(B) seven\n(C) nine\n\n".format(record["id"][-1])
        assert first["prompt"][0]["content"].startswith(shown)
        assert second["prompt"][:1] == first["prompt"]


def test_the_agent_shows_choices_and_images_in_an_evaluation(here: Path) -> None:
    options = ["--source", "clocks.Clocks", "--engines.default", "clocks.Reader"]
    run([*command("eval"), *options, "--model", "null", "--out", "runs/clocks"])
    records = records_of(here / "runs/clocks/second_thought/records.jsonl")
    assert [record["answer"] for record in records] == ["A", "A", "C"]
    assert [record["correct"] for record in records] == [False, False, True]
    for record in records:
        first, second = (event for event in record["events"] if "prompt" in event)
        [image] = record["images"]
        assert Path(image["source"]).name == f"clock-{record['id'][-1]}.png"
        assert first["prompt"][0]["images"] == second["prompt"][0]["images"] == [image]


def records_of(file: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: row["id"])


def test_the_test_by_hand_passes_and_would_miss_choices_and_image(here: Path) -> None:
    (here / "by_hand.py").write_text(block("from my_agent"), encoding="utf-8")
    by_hand = importlib.import_module("by_hand")
    sys.modules.pop("by_hand")
    [test] = [value for name, value in vars(by_hand).items() if name.startswith("test_")]
    test()
    by_hand.CLOCK = Problem("quiz/1", "What does the clock show?", images=by_hand.CLOCK.images)
    with pytest.raises(AssertionError):
        test()


@pytest.mark.parametrize(
    ("replies", "answer"),
    [
        ([r"\boxed{7}"], "7"),
        (["hm", *[r"\boxed{1}"] * 3, *["VERDICT: CORRECT"] * 3], "1"),
    ],
)
def test_the_combined_agent_solves(replies: list[str], answer: str) -> None:
    names: dict[str, Any] = {}
    exec(block("class Careful"), names)
    assert drive(names["Careful"](), Problem("p/1", "What?"), replies).answer == answer


def test_the_error_of_the_page_is_the_one_that_is_raised() -> None:
    from slm_math.agents import SingleShot

    with pytest.raises(ValueError, match="template 'verify'") as error:
        SingleShot("verify")  # type: ignore[arg-type]
    assert f"    {error.value}\n" in PAGE
