"""A training that is killed at any moment, again and again, ends with the weights of one that ran
through.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

COMMON = [
    "fit",
    *(f"--config={ROOT / 'configs' / name}" for name in ("grpo/solver.yaml", "fast.yaml")),
    "--trainer.callbacks=slm_math.callbacks.Checkpoints",
    "--trainer.callbacks.dirpath=checkpoints",
    "--trainer.callbacks.minutes=0",
    "--trainer.limit_train_batches=12",
    "--trainer.max_epochs=2",
    "--model.init_args.sampling.max_new_tokens=40",
    "--model.init_args.group_size=8",
    "--model.init_args.objective.beta=0.05",
    "--model.init_args.optim.lr=1e-2",
    "--model.init_args.resample=2",
    "--model.init_args.rewards=[{class_path: slm_math.rewards.Length, init_args: {right: 1.0, "
    "wrong: 1.0, high: 40}}]",
    "--torch_threads=1",
]
KINDS = {
    "full": [],
    "full-passes": ["--model.init_args.passes=2"],
    "lora": ["--model.init_args.policy.lora={r: 4}"],
    "lora-passes": [
        "--model.init_args.policy.lora={r: 4, dropout: 0.1}",
        "--model.init_args.passes=2",
        "--model.init_args.reference_update=0.3",
    ],
}


def start(folder: Path, kind: str, *more: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    arguments = [*COMMON, *KINDS[kind], f"--trainer.default_root_dir={folder}", *more]
    command = [sys.executable, "-m", "slm_math", *arguments]
    options: Any = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, stderr=(folder / "err").open("wb"), **options)


def final(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_training_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight, kind).wait(240) == 0, (straight / "err").read_text()[-2000:]
    draw, kills = random.Random(kind), 0
    for attempt in range(40):
        saved = (killed / "checkpoints" / "last.ckpt").exists()
        process = start(killed, kind, *(["--ckpt_path=last"] if saved else []))
        before = stamp(killed)
        while process.poll() is None and stamp(killed) == before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.6))  # somewhere in the steps that follow
        if attempt < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait(240) in (0, -signal.SIGKILL), (killed / "err").read_text()[-2000:]
        if process.returncode == 0:
            break
    assert kills >= 3
    one, other = final(straight), final(killed)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [(folder / "rollouts.jsonl").read_text().splitlines() for folder in (straight, killed)]
    assert len(lines[0]) == len(lines[1])


def stamp(folder: Path) -> float:
    path = folder / "checkpoints" / "last.ckpt"
    return os.stat(path).st_mtime if path.exists() else 0.0
