"""Agents of several turns and roles, with programs: two runs have equal weights bit for bit, and so
has one that was interrupted, whatever the programs take.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import LORA, SCRATCH, Even, difference, grpo, problems, trainer, weights

from slm_math.agents import Agent
from slm_math.policy.config import Policy
from slm_math.sandbox.jobs import Jobs, ProgramJob
from slm_math.types import (
    Generate,
    Problem,
    RunPython,
    RunResult,
    Sampling,
    Workflow,
    assistant,
    user,
)


class Late(Jobs):
    """A sandbox whose programs end in another order and at other times in every run."""

    def _perform(self, job: ProgramJob) -> RunResult:
        time.sleep(random.SystemRandom().random() * 0.02)
        return RunResult(True, stdout=str(len(job.request.code)))

    def identity(self) -> dict[str, Any]:
        return {}


class Team(Agent):
    """A solver that runs programs, and a judge that ends the conversation."""

    roles = ("solver", "judge")
    uses_python = True

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(problem.text)
        for _ in range(3):
            [reply] = yield [Generate(chat)]
            [result] = yield [RunPython(reply.text)]
            [verdict] = yield [Generate(user(problem.text + result.text), role="judge")]
            if sum(verdict.token_ids) % 3 == 0:
                break
            chat += assistant(reply) + user(result.text)
        return None


def module(policy: Policy, roles: tuple[str, ...]) -> Any:
    return grpo(
        policy,
        agent=Team(),
        rewards=[Even(role=role) for role in roles],
        train_roles=roles,
        sandbox=Late(workers=4),
        sampling=Sampling(max_new_tokens=8),
        deterministic=True,
        slots=8,
        passes=2,
        resample=1,
    )


POLICIES = {"shared": Policy(scratch=SCRATCH), "separate": Policy(scratch=SCRATCH, lora=LORA)}


class Interrupt(L.Callback):
    """Ends the run before its second batch."""

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 1:
            raise InterruptedError


def fit(kind: str, root: Path, ckpt: Path | None = None, **options: Any) -> dict[str, torch.Tensor]:
    L.seed_everything(5 if ckpt is None else 77, verbose=False)
    run = module(POLICIES[kind], ("solver", "judge"))
    data = problems(batch_size=4, limit=8)
    trainer(root, **options).fit(run, data, ckpt_path=ckpt)
    return weights(run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POLICIES)
def test_two_runs_have_equal_weights(kind: str, tmp_path: Path) -> None:
    first, second = fit(kind, tmp_path / "1"), fit(kind, tmp_path / "2")
    assert difference(first, second) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", POLICIES)
def test_interrupted_run_has_the_weights_of_one_that_ran_through(kind: str, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1, save_top_k=-1)
    options = {"callbacks": [saver, Interrupt()], "enable_checkpointing": True}
    with pytest.raises(InterruptedError):
        fit(kind, tmp_path / "1", **options)
    [ckpt] = (tmp_path / "ckpt").glob("*step=2.ckpt")
    resumed = fit(kind, tmp_path / "1", ckpt=ckpt)
    assert difference(resumed, fit(kind, tmp_path / "2")) == 0
