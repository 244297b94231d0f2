"""`vllm serve` as it is started by scripts/serve_vllm.sh: the same checks over HTTP, and servers
that are killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import GENERATION, NEEDS_VLLM, Hold

from slm_math.policy.config import Lora, Policy

pytestmark = NEEDS_VLLM


@pytest.fixture(scope="module")
def servers(
    script: Any, models: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Any]]:
    running = script.servers.started(models["tied"][0], "file", 1, tmp_path_factory.mktemp("logs"))
    yield running
    for server in running:
        server.kill()


@pytest.fixture(scope="module")
def subject(
    script: Any, models: Any, servers: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    _, model, tokenizer = models["tied"]
    engine = script.servers.served(servers, tmp_path_factory.mktemp("weights"))
    yield script.Subject(engine, model, tokenizer)
    engine.close()


@pytest.mark.parametrize("check", GENERATION)
def test_generation(script: Any, subject: Any, hold: Hold, check: str) -> None:
    hold(getattr(script.generation, check)(subject))


@pytest.mark.parametrize("check", ["updates", "cached"])
def test_weights(script: Any, subject: Any, hold: Hold, check: str) -> None:
    hold(getattr(script.weights, check)(subject))


def test_training(
    script: Any, models: Any, servers: Any, subject: Any, hold: Hold, tmp_path: Path
) -> None:
    policy = Policy(path=str(models["tied"][0]))
    hold(script.inside.training(tmp_path, False, policy, [server.url for server in servers]))
    subject.send()  # the run left its own weights there


def test_killed_and_started_again(script: Any, servers: Any, subject: Any, hold: Hold) -> None:
    hold(script.servers.killed(subject, servers))


def test_weights_of_a_wrong_shape(script: Any, subject: Any, hold: Hold) -> None:
    hold(script.weights.failed(subject))  # ends the server


def test_adapters_and_killed_for_good(script: Any, models: Any, hold: Hold, tmp_path: Path) -> None:
    folder, model, tokenizer = models["tied"]
    running = script.servers.started(folder, "adapters", 1, tmp_path)
    try:
        engine = script.servers.served(running, tmp_path / "weights")
        subject = script.Subject(engine, script.weights.with_adapters(model), tokenizer)
        hold(script.weights.adapters(subject, tmp_path))
        policy = Policy(path=str(folder), lora=Lora(r=4, alpha=8, dropout=0.0))
        hold(
            script.inside.training(
                tmp_path / "fit", True, policy, [server.url for server in running]
            )
        )
        script.weights.send_adapters(subject, tmp_path)
        hold(script.servers.lost(subject, running))
    finally:
        for server in running:
            server.kill()
