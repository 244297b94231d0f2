"""Two ranks that train, each with vLLM in its process, make the updates of one."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from on_vllm.checks import NEEDS_VLLM
from ranks import forked, run_program, two, wait

pytestmark = [*NEEDS_VLLM, pytest.mark.slow, pytest.mark.timeout(1200)]


def train(how: str, lora: bool, out: Path) -> None:
    """Two updates; saves what learns, and what was logged."""
    import lightning as L
    from tiny import Duo, Even, grpo, problems, trainer, weights
    from vllm_checks.subject import SCRATCH

    from slm_math.modules.optim import Optim
    from slm_math.policy.config import Lora, Policy

    options: dict[str, Any] = {}
    if lora:
        options = {"agent": Duo(), "train_roles": ("solver", "judge")}
        options["rewards"] = [Even(), Even(role="judge")]
    L.seed_everything(0, verbose=False)  # adapters are drawn from the global state
    policy = Policy(scratch=SCRATCH, lora=Lora(r=4, alpha=8, dropout=0.0) if lora else None)

    class Plain(Optim):
        """Steps along the gradient: Adam would divide tiny gradients by themselves."""

        def build(self, groups: dict[str, list[Any]]) -> torch.optim.Optimizer:
            named = [{"params": params, "role": role} for role, params in groups.items()]
            return torch.optim.SGD(named, lr=self.lr)

    # a step that weights of the step before would betray
    optim = Plain(lr=0.05, warmup=0, clip=0.0)
    module = grpo(policy, engine="vllm", optim=optim, group_size=4, **options)
    devices: dict[str, Any] = {"devices": 2, "strategy": how} if how != "alone" else {}
    run = trainer(out / how, limit_train_batches=2, **devices)
    kept: dict[str, Any] = {}

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            found = {"weights": weights(module), "logged": dict(trainer.callback_metrics)}
            kept[str(run.global_step)] = found

    run.callbacks.append(Keep())  # type: ignore[attr-defined]
    run.fit(module, problems(batch_size=3))
    print(how, run.global_rank, module.global_step, flush=True)
    if run.is_global_zero:
        torch.save(kept, out / f"{how}.pt")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_ranks_equal_one(how: str, lora: bool, tmp_path: Path) -> None:
    run_program(__file__, how, str(int(lora)), str(tmp_path))
    one, pair = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", how))
    for step in ("1", "2"):
        for found in (one, pair):
            assert found[step]["logged"]["train/engine_gap"] < 1e-4
            assert found[step]["logged"]["train/logp_diff_max"] < 1e-4
        for name, value in one[step]["weights"].items():
            torch.testing.assert_close(pair[step]["weights"][name], value, atol=1e-6, rtol=0)
    moved = [
        (one["2"]["weights"][name] - value).abs().max()
        for name, value in one["1"]["weights"].items()
    ]
    assert max(moved) > 1e-3


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    import tiny  # noqa: F401

    how, lora, out = sys.argv[1], bool(int(sys.argv[2])), Path(sys.argv[3])
    wait(forked(partial(train, "alone", lora, out)))
    wait(*two(partial(train, how, lora, out)))
