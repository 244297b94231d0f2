"""The examples of docs/rewards.md do what the page says: scored, and trained by its command."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from rewards.traces import MATH, RIGHT, WRONG, YES, trace

from slm_math.answers.graded import grade_trace
from slm_math.cli import run
from slm_math.rewards import score
from slm_math.rollout.executors import Executors
from slm_math.rollout.scoring import score_traces
from slm_math.types import Sampling

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
JUDGE = r'''
from slm_math.engines.base import Engine
from slm_math.types import Reply


class Scripted(Engine):
    """Calls a step sound when its question has an even number of characters, or a right answer."""

    def __init__(self):
        self.questions, self.open = [], []

    def submit(self, request):
        self.questions.append(request.chat[0].text)
        self.open.append(len(self.questions) - 1)
        return self.open[-1]

    def poll(self, timeout=0.0):
        done, self.open = self.open, []
        return [(ticket, Reply(self.opinion(self.questions[ticket]))) for ticket in done]

    def opinion(self, question):
        sound = "boxed{7}" in question or ("boxed" not in question and len(question) % 2 == 0)
        return "VERDICT: CORRECT" if sound else "VERDICT: INCORRECT"

    def cancel(self, ticket):
        self.open.remove(ticket)
'''


def example(name: str) -> str:
    """The code block that defines a class."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    [block] = [block for block in blocks if f"class {name}(" in block]
    return block


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the examples and a judge, in which Python finds modules."""
    (tmp_path / "my_rewards.py").write_text(example("SoundSteps"))
    (tmp_path / "my_brief.py").write_text(example("Brief"))
    (tmp_path / "my_judge.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_rewards", "my_brief", "my_judge"):
        sys.modules.pop(name, None)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_example_that_asks_a_judge_is_short() -> None:
    assert len(example("SoundSteps").splitlines()) < 30


def test_example_that_asks_a_judge_scores_and_credits(written: Path) -> None:
    reward, judge = module("my_rewards").SoundSteps(), module("my_judge").Scripted()
    graded = [grade_trace(MATH, trace(*turns)) for turns in ((WRONG, YES, RIGHT), (RIGHT,))]
    executors = Executors({"judge": judge}, {"default": Sampling()})
    two, one = score_traces([reward], graded, ("solver",), executors)
    assert (two.totals, two.credits) == ({"solver": 0.5}, {"solver": {0: 0.0, 2: 1.0}})
    assert (one.totals, one.credits) == ({"solver": 1.0}, {"solver": {0: 1.0}})


def test_example_of_a_plain_reward(written: Path) -> None:
    brief = module("my_brief").Brief()
    found = [score([brief], grade_trace(MATH, trace(t)), ("solver",)) for t in (RIGHT, WRONG)]
    assert [scores.totals["solver"] for scores in found] == [1.0, 0.0]


def words_of_the_command() -> list[str]:
    [command] = re.findall(r"^    (slm-math fit (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    return shlex.split(command.replace("\\\n", " "))[1:]


def test_command_of_the_page_is_understood_as_written(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        run([*words_of_the_command(), "--print_config"])
    options = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert options["engines"]["judge"]["class_path"].endswith(".OpenAIEngine")
    assert options["engines"]["judge"]["init_args"]["model"] == "my-judge"
    assert options["rewards"][-1]["class_path"] == "my_rewards.SoundSteps"


def test_command_of_the_page_trains_with_the_judge(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge of the page is a server; here a class answers in its place."""
    monkeypatch.chdir(ROOT)
    words = words_of_the_command()
    at = words.index("--model.engines.judge")
    words = [*words[:at], "--model.engines.judge", "my_judge.Scripted"]
    out = written / "run"
    small = ["--config", "configs/fast.yaml", "--trainer.default_root_dir", str(out)]
    small += ["--model.inference.sampling.max_new_tokens", "12", "--model.group_size", "4"]
    run([*words, *small, "--torch_threads", "1"])
    rows = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    scored = [row["parts"]["solver"]["sound_steps"] for row in rows]
    assert set(scored) == {0.0, 1.0}
