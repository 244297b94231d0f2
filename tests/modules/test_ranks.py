"""Two processes make the same update, and the same evaluation, as one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__)
pytestmark = pytest.mark.slow


def work(kind: str, devices: int, out: Path) -> None:
    """Evaluates, makes two updates and saves the gradients of the first, the weights and what was logged."""
    import lightning as L
    from tiny import SCRATCH, chats, grpo, problems, sft, trainer, weights

    from callbacks import AgentEval
    from slm_math.agents import SingleShot
    from slm_math.losses.policy import Objective
    from slm_math.modules.optim import Optim
    from slm_math.modules.policy import Lora, Policy
    from slm_math.types import Sampling

    gradients: dict[str, torch.Tensor] = {}

    class Keep(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
            if not gradients:
                gradients.update({n: p.grad.clone() for n, p in module.model.named_parameters() if p.grad is not None})

    optim = Optim(lr=1e-3, warmup=0, clip=0.0)
    lora = Policy(scratch=SCRATCH, lora=Lora(r=2, dropout=0.0))
    by_row = Objective(reduction="sequence")
    makers: dict[str, Any] = {
        "sft": lambda: (sft(optim=optim, tokens_per_batch=200), chats(batch_size=9, prompt_weight=0.2)),
        "grpo": lambda: (grpo(optim=optim, objective=Objective(beta=0.05)), problems()),
        "grpo-lora": lambda: (grpo(lora, optim=optim, objective=by_row), problems(batch_size=3)),
    }
    L.seed_everything(0, verbose=False)  # adapters are drawn from the global state
    module, data = makers[kind]()
    judge = AgentEval({"one": SingleShot("solve_plain")}, limit=5, sampling=Sampling(0.0, max_new_tokens=4))
    strategy = "auto" if devices == 1 else "ddp"
    options: Any = {"devices": devices, "strategy": strategy, "limit_train_batches": 2}
    run = trainer(out, callbacks=[Keep(), judge], **options)
    run.validate(module, data, verbose=False)
    judged = {name: value for name, value in run.callback_metrics.items() if name.startswith("eval/")}
    run.fit(module, data)
    logged = dict(run.callback_metrics)
    torch.save((gradients, weights(module), judged, logged), out / f"{kind}-{devices}-{run.global_rank}.pt")


@pytest.mark.parametrize("kind", ["sft", "grpo", "grpo-lora"])
def test_two_processes_equal_one(kind: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "GLOO_SOCKET_IFNAME": "lo"}
    for devices in (1, 2):
        command = [sys.executable, str(HERE), kind, str(devices), str(tmp_path)]
        options: Any = {"env": environment, "capture_output": True, "text": True, "cwd": HERE.parents[2]}
        done = subprocess.run(command, timeout=280, **options)
        assert done.returncode == 0, done.stderr[-3000:]
    alone, first, second = (torch.load(tmp_path / f"{kind}-{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert alone[0]
    assert max(value.abs().max() for value in alone[0].values()) > 1e-4
    for name, gradient in alone[0].items():
        assert torch.allclose(first[0][name], gradient, atol=1e-6, rtol=1e-5)
    for name, weight in first[1].items():
        assert torch.equal(weight, second[1][name])
    assert {name for name in alone[2] if not name.endswith("seconds")} <= set(first[2])
    for name, value in alone[2].items():
        if not name.endswith("seconds"):
            assert first[2][name] == pytest.approx(value)
    if kind == "sft":
        assert first[3]["train/loss"].item() == pytest.approx(alone[3]["train/loss"].item(), rel=1e-3)
        assert first[3]["val/loss"].item() == pytest.approx(alone[3]["val/loss"].item(), rel=1e-3)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
