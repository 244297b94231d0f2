"""`slm-math generate-cot` on problems with images: what a vision model is sent, the published rule
of acceptance, resuming after SIGKILL, and training on the rows.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.evaluating import ask
from engines.endpoint import ChatServer, completion
from PIL import Image as Pillow
from seeing import SEEING
from synthesis.teacher import rows
from tiny import sft, trainer

from slm_math.agents import SingleShot
from slm_math.data import CoT
from slm_math.data.base import Source, Split
from slm_math.data.chat_data import ChatData
from slm_math.engines.openai import OpenAIEngine
from slm_math.policy.config import Policy
from slm_math.synthesis.accept import Right
from slm_math.synthesis.command import generate_cot
from slm_math.synthesis.tries import Try
from slm_math.types import Image, Problem, Task

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "cot" / "vision.yaml"
PROBLEMS = 8
# of problem n: the reply of each try, and whether the published rule keeps it; D is right
RIGHT, BARE, WRONG = (
    "<think>{}</think>\n<answer>D</answer>",
    "D",
    "<think>{}</think><answer>A</answer>",
)
REPLIES = [
    [RIGHT],
    [WRONG, RIGHT],
    [BARE, RIGHT],
    [WRONG],
    [BARE],
    [RIGHT],
    [WRONG, RIGHT],
    [RIGHT],
]
KEPT = [0, 1, 2, 5, 6, 7]
REQUESTS = sum(len(texts) if texts[-1] == RIGHT else 4 for texts in REPLIES)


def shade(number: int) -> tuple[int, int, int]:
    return (20 * number + 10, 200 - 20 * number, 100)


def geometry(folder: Path) -> Path:
    """Geometry3K's folders; nothing but the color of the diagram tells the problems apart."""
    for number in range(PROBLEMS):
        own = folder / "train" / str(number)
        own.mkdir(parents=True)
        Pillow.new("RGB", (84, 84), shade(number)).save(own / "img_diagram.png")
        row = {"problem_text": "Find x.", "choices": ["1", "2", "3", "4"], "answer": "D"}
        (own / "data.json").write_text(json.dumps(row | {"id": number, "data_type": "train"}))
    return folder


class Seeing:
    """Looks at the image that it is sent. It stops to answer after `most` requests."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.left, self.answered = most, list[tuple[int, int]]()
        self.tries = dict[int, int]()
        self.go, self.lock = threading.Event(), threading.Lock()

    def __call__(self, number: int, body: dict[str, Any]) -> Any:
        with self.lock:
            waits, self.left = self.left <= 0, self.left - 1
        if waits:
            self.go.wait()
            return None, None, {}
        [message] = body["messages"]
        [url] = [p["image_url"]["url"] for p in message["content"] if p["type"] == "image_url"]
        image = Pillow.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        problem = [shade(n) for n in range(PROBLEMS)].index(image.getpixel((40, 40)))
        with self.lock:
            tries = self.tries[problem] = self.tries.get(problem, 0) + 1
            self.answered.append((problem, tries))
        texts = REPLIES[problem]
        text = texts[min(tries, len(texts)) - 1].format(f"It has the color {problem}. " * 9)
        return 200, completion(text) | {"model": "vlm"}, {}


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    server = ChatServer(Seeing())
    yield server
    server.script.go.set()
    server.shutdown()
    server.server_close()


def command(folder: Path, server: ChatServer, out: str = "out") -> list[str]:
    data = folder / "data"
    return [
        "generate-cot",
        f"--config={CONFIG}",
        f"--source.path={data if data.exists() else geometry(data)}",
        f"--engines.primary.base_url={server.url}",
        "--engines.primary.concurrency=1",
        "--estimate=0",
        f"--out={folder / out}",
    ]


def test_rows_are_what_the_published_rule_keeps(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = ask(capsys, *command(tmp_path, teacher))
    assert (status, len(teacher.bodies)) == (0, REQUESTS)
    made = rows(tmp_path / "out" / "rows.jsonl")
    assert [row["index"] for row in made] == KEPT
    for row in made:
        number = row["index"]
        assert row["images"] == [str(tmp_path / f"data/train/{number}/img_diagram.png")]
        assert (row["answer_type"], row["choices"]) == ("mc", ["1", "2", "3", "4"])
        assert row["thinking_process"].startswith(f"It has the color {number}.")
        assert row["solution"] == "<answer>D</answer>"
        length = len(row["thinking_process"])
        assert row["receipt"]["score"] == pytest.approx(0.5 + 0.5 * length / 512 + 1, abs=2e-3)
    rejected = rows(tmp_path / "out" / "tries" / "rejected.jsonl")
    scores = {row["index"]: row["attempts_history"][0]["reason"] for row in rejected}
    assert float(scores[3].removeprefix("score ")) < -0.5
    assert scores[4] == "score -2"
    written = b"".join(f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file())
    assert b"base64" not in written


def test_rule_is_the_published_reward() -> None:
    parts = yaml.safe_load((ROOT / "configs/rewards/small_math_r1.yaml").read_text())
    counting = [part for part in parts["model"]["rewards"] if part.get("weight", 1)]
    assert yaml.safe_load(CONFIG.read_text())["accept"] == {
        "class_path": "Above",
        "bound": 0.6,
        "reward": counting,
    }


@pytest.mark.slow
def test_killed_run_asks_nothing_twice(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, teacher)
    ask(capsys, *command(tmp_path, teacher, out="straight"))
    teacher.script = seeing = Seeing(most=5)
    process = subprocess.Popen(
        [sys.executable, "-m", "slm_math", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    journal = tmp_path / "out" / "journal" / "requests.jsonl"
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 6:  # a line is its head
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL
    seeing.go.set()
    seeing.left = 1 << 30
    assert ask(capsys, *arguments)[0] == 0
    assert len(seeing.answered) == len(set(seeing.answered)) == REQUESTS
    for name in ("rows.jsonl", "tries/rejected.jsonl"):
        made, straight = ((tmp_path / out / name).read_text() for out in ("out", "straight"))
        assert made == straight


def test_model_trains_on_the_rows_with_their_images(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher))
    source = CoT(str(tmp_path / "out"), thinking=True, validation=0.0)
    data = ChatData(source, batch_size=len(KEPT), prompt="solve_tags", seed=0)
    module = sft(Policy(scratch=SEEING))
    run = trainer(tmp_path)
    run.fit(module, data)
    assert 0 < run.callback_metrics["train/loss"] < 20
    for row, number in zip(data.rows["train"], KEPT, strict=True):
        [image] = row.images
        assert image.source == str(tmp_path / f"data/train/{number}/img_diagram.png")
        learned = module.chat.tokenizer.decode([row.ids[place] for place in row.loss_positions])
        assert re.search(r"It has the color (\d)", learned)[1] == str(number)
        assert "<answer>D</answer>" in learned


class DataUrls(Source):
    """A problem whose image is a data URL."""

    name = "urls"

    def tasks(self, split: Split) -> list[Task]:
        sink = io.BytesIO()
        Pillow.new("RGB", (84, 84), shade(0)).save(sink, "PNG")
        url = "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
        problem = Problem(f"urls/{split}/0", "Which?", "mc", ("a", "b", "c", "d"), (Image(url),))
        return [Task(problem, "D")]


def test_images_in_data_urls_become_files(tmp_path: Path, teacher: ChatServer, cache: Path) -> None:
    generate_cot(
        SingleShot("solve_tags"),
        DataUrls(),
        [Try("primary")],
        Right(),
        out=str(tmp_path / "out"),
        engines={"primary": OpenAIEngine(teacher.url, "vlm")},
    )
    [row] = rows(tmp_path / "out" / "rows.jsonl")
    [path] = row["images"]
    assert Path(path).is_relative_to(cache)
    assert Pillow.open(path).getpixel((0, 0)) == shade(0)
    written = b"".join(f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file())
    assert b"base64" not in written
