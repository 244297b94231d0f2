"""Two nodes that torchrun starts, each as an agent of its own on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def fit_on_two_nodes(roots: list[Path], *options: str) -> list[tuple[int, str]]:
    """(Exit status, output) of `fit` on each of two nodes, with a root each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
        *("--nproc-per-node", "1", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"),
    ]
    training = [
        *("-m", "slm_math", "fit", "--config", "grpo/solver", "--config", "fast"),
        *("--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp"),
        *("--trainer.accelerator", "cpu", "--trainer.max_steps", "2", *options),
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    nodes = [
        subprocess.Popen(
            [*command, *training, "--trainer.default_root_dir", str(root)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for root in roots
    ]
    try:
        outputs = [node.communicate(timeout=600)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    return [(node.returncode, text) for node, text in zip(nodes, outputs, strict=True)]


def test_two_agents_train_one_run(tmp_path: Path) -> None:
    ended = fit_on_two_nodes([tmp_path / "run"] * 2)
    assert [status for status, _ in ended] == [0, 0], ended
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    assert (tmp_path / "run" / "export" / "config.json").exists()
    assert len(list((tmp_path / "run").glob("rollouts.rank-*.jsonl"))) == 1


def test_a_root_of_its_own_is_refused(tmp_path: Path) -> None:
    ended = fit_on_two_nodes([tmp_path / "one", tmp_path / "other"])
    for status, text in ended:
        assert status != 0
        assert "rank 1 does not see what the first rank wrote into" in text, text
