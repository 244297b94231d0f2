"""The example of docs/data.md: one's own data set, evaluated and trained by one command each."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_math.cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
[EXAMPLE] = [part.split("```")[0] for part in PAGE.split("```python\n")[1:]]
COMMANDS = [
    shlex.split(line)[1:]
    for line in PAGE.splitlines()
    if line.startswith("    slm-math ") and "my_data.Mine" in line
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with the data set of the page and rows for it."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_data.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "my_data").mkdir()
    for split, start in (("train", 10), ("validation", 40), ("test", 70)):
        rows = [
            {
                "text": f"What is {n} + {n}?",
                "answer": str(2 * n),
                "solution": f"{n}+{n}={2 * n}\n#### {2 * n}",
                "topic": ("even", "odd")[n % 2],
            }
            for n in range(start, start + 20)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "my_data" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_data", None)


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.splitlines()) < 30


def fit(command: list[str], root: str, *more: str) -> None:
    """Runs a command of the page with a tiny model: fast.yaml comes before the page's own options,
    which therefore win.
    """
    fit, config, file, *options = command
    assert (fit, config) == ("fit", "--config")
    small = ["--config=configs/fast.yaml", "--torch_threads=1", "--trainer.default_root_dir", root]
    run(["fit", "--config", file, *small, *options, *more])


def test_the_data_set_is_trained_on_and_evaluated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate, tune, reinforce = COMMANDS
    fit(tune, "runs/sft")
    few = ["--model.inference.sampling.max_new_tokens=12", "--model.group_size=4"]
    fit(reinforce, "runs/grpo", *few)
    first = (here / "runs/grpo/rollouts.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first)["id"].startswith("mine/train/")
    options = ["--limit=4", "--inference.sampling.max_new_tokens=4", "--torch_threads=1"]
    run([*evaluate, *options, "--model=runs/sft/export", "--out=runs/test"])
    records = (here / "runs/test/single_shot/records.jsonl").read_text(encoding="utf-8")
    ids = {json.loads(line)["id"] for line in records.splitlines()}
    assert len(ids) == 4
    assert all(id.startswith("mine/test/") for id in ids)
    assert "single_shot by topic" in capsys.readouterr().out
