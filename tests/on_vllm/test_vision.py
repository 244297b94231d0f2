"""GRPO on problems with images, whose rollouts come from vLLM: in this process, and served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import NEEDS_VLLM
from seeing import SEEING, Drawn, ask, drawing, engine_of
from tiny import grpo, trainer

from slm_math.data.problem_data import ProblemData
from slm_math.engines.settings import Vllm
from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy
from slm_math.types import user

pytestmark = [*NEEDS_VLLM, pytest.mark.timeout(900)]
SCRATCH = replace(SEEING, hidden=128, heads=4, ffn=128, context=512, vision="idefics3")


def trained(policy: Policy, root: Path, servers: Sequence[str], updates: int) -> None:
    """Updates after each of which vLLM is the policy, for images, too; then greedy replies."""
    module = grpo(
        policy,
        engine="vllm",
        vllm=Vllm(tuple(servers)),
        optim=Optim(lr=1e-3, warmup=0),
        group_size=3,
    )
    gaps: list[float] = []
    log = module.log_scalars

    def watched(values: Any, rows: int, shown: Sequence[str] = ()) -> None:
        gaps.append(max(module.serving.gap or 0.0, values["logp_diff_max"]))
        log(values, rows, shown)

    module.log_scalars = watched
    data = ProblemData(Drawn(str(root / "drawn")), batch_size=4, seed=0)
    teardown, replies = module.teardown, []

    def last(stage: str) -> None:
        images = [drawing(root, f"last{n}", (84, 60 + n), n) for n in range(3)]
        chats = [user("Go", images[:1]), user("Go"), user("Both", images[1:])]
        for engine in (module.engines()["solver"], engine_of(module.loaded.model, module.chat)):
            replies.append(ask(engine, chats, temperature=0.0))
        teardown(stage)

    module.teardown = last
    run = trainer(root, max_epochs=-1, max_steps=updates)
    run.fit(module, data)
    assert run.global_step == updates
    assert len(gaps) == updates
    assert max(gaps) <= 1e-4
    served, own = replies
    assert [reply.token_ids for reply in served] == [reply.token_ids for reply in own]


def test_in_process(tmp_path: Path) -> None:
    trained(Policy(scratch=SCRATCH, vision="trained"), tmp_path, (), 10)


def test_served(script: Any, tmp_path: Path) -> None:
    policy = Policy(scratch=SCRATCH, vision="trained")
    export_policy(policy.load(), policy.chat(), tmp_path / "model")
    server = script.servers.ServerProcess(tmp_path / "model", "file", tmp_path / "log")
    try:
        server.start()
        server.wait(500)
        policy = Policy(path=str(tmp_path / "model"), vision="trained")
        trained(policy, tmp_path, [server.url], 3)
    finally:
        server.kill()
