"""An evaluation that is killed again and again loses no record, and ends as one
that ran through.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import chats, sft, trainer

from slm_math.callbacks import ExportHF

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

CONFIG = """
source: {class_path: slm_math.data.arithmetic.Arithmetic, init_args: {train: 84, validation: 14, test: 28}}
agents:
  checker:
    class_path: slm_math.agents.SolverChecker
    init_args: {prompt: solve_plain, retry_prompt: solve_plain, runs: 1, rounds: 2}
sampling: {temperature: 0.0, max_new_tokens: 40}
slots: 1
dtype: float32
torch_threads: 1
samples: 2
"""  # noqa: E501


def start(folder: Path, out: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "slm_math",
        "eval",
        "--config=eval.yaml",
        "--policy=export",
        f"--out={out}",
    ]
    options: Any = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(
        command, cwd=folder, stderr=(folder / f"{out}.err").open("wb"), **options
    )


def lines(file: Path) -> list[bytes]:
    """The whole lines of a file that may be under way."""
    return file.read_bytes().split(b"\n")[:-1] if file.is_file() else []


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key != "seconds"}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def test_killed_ten_times(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)])
    run.fit(sft(), chats())
    (tmp_path / "eval.yaml").write_text(CONFIG)
    assert start(tmp_path, "straight").wait(300) == 0, (tmp_path / "straight.err").read_text()[
        -2000:
    ]
    file, draw, kills = tmp_path / "killed" / "checker" / "records.jsonl", random.Random(0), 0
    before: list[bytes] = []
    for _ in range(30):
        process = start(tmp_path, "killed")
        while process.poll() is None and len(lines(file)) <= len(before):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.3))
        if kills < 10 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait(300) in (0, -signal.SIGKILL), (tmp_path / "killed.err").read_text()[
            -2000:
        ]
        after = lines(file)
        assert after[: len(before)] == before
        before = after
        manifest = json.loads((file.parent / "manifest.json").read_text())
        assert manifest["partial"] == (process.returncode != 0)
        if process.returncode == 0:
            break
    assert kills == 10
    straight = lines(tmp_path / "straight" / "checker" / "records.jsonl")
    assert len(before) == len(straight) == 56
    rows = [
        {(r["id"], r["sample"]): untimed(r) for r in map(json.loads, some)}
        for some in (before, straight)
    ]
    assert rows[0] == rows[1]
