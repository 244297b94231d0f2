"""Two processes make the same update, and the same evaluation, as one.

A fresh process imports everything once and forks those that train, which takes seconds less than
three imports.
"""

import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__)


def work(kind: str, devices: int, out: Path, strategy: str = "ddp") -> None:
    """Evaluates, makes two updates and saves the gradients of the first, the weights after it and
    what was logged.
    """
    import lightning as L
    from seeing import SEEING, Drawn
    from tiny import SCRATCH, chats, grpo, problems, sft, trainer, weights

    from slm_math.agents import SingleShot
    from slm_math.callbacks import AgentEval
    from slm_math.data.problem_data import ProblemData
    from slm_math.engines.settings import Inference
    from slm_math.losses.advantages import Advantage
    from slm_math.losses.objective import Objective
    from slm_math.modules.optim import Optim
    from slm_math.policy.config import Lora, Policy
    from slm_math.policy.sharding import whole as full
    from slm_math.types import Sampling

    gradients: dict[str, torch.Tensor] = {}

    class Keep(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
            if not gradients:
                gradients.update(
                    {
                        n: full(p.grad).clone()
                        for n, p in module.model.named_parameters()
                        if p.grad is not None
                    }
                )

    sharded = strategy == "sharded"
    optim = Optim(lr=1e-3, warmup=0, clip=0.0, sharded=sharded)
    strategy = "ddp" if sharded else strategy
    lora = Policy(scratch=SCRATCH, lora=Lora(r=2, dropout=0.0))
    seeing = Policy(scratch=SEEING, vision="trained")
    by_row = Objective("grpo")
    whole = Advantage(baseline="batch", scale="batch")
    makers: dict[str, Any] = {
        "sft": lambda: (
            sft(optim=optim, tokens_per_batch=200),
            chats(batch_size=9, prompt_weight=0.2),
        ),
        # the second rank never has a row
        "sft-one-row": lambda: (sft(optim=optim), chats(batch_size=1)),
        # and here not in the last batch of the validation
        "sft-rest": lambda: (sft(optim=optim), chats(batch_size=13)),
        "bf16": lambda: (grpo(optim=optim, objective=Objective(beta=0.05)), problems()),
        "grpo": lambda: (grpo(optim=optim, objective=Objective(beta=0.05)), problems()),
        "grpo-lora": lambda: (grpo(lora, optim=optim, objective=by_row), problems(batch_size=3)),
        "one-problem": lambda: (grpo(optim=optim, group_size=16), problems(batch_size=1)),
        "draws": lambda: (
            grpo(
                optim=optim,
                passes=2,
                resample=2,
                group_size=2,
                objective=Objective("adjusted", beta=0.05),
            ),
            problems(batch_size=3),
        ),
        "batch": lambda: (
            grpo(
                lora,
                optim=optim,
                advantage=whole,
                objective=Objective("dr_grpo", beta=0.1, kl_in="reward"),
            ),
            problems(batch_size=5),
        ),
        # most rows have images, the tower learns, and the ranks see different ones
        "vision": lambda: (
            grpo(seeing, optim=optim, objective=Objective(beta=0.05)),
            ProblemData(Drawn(str(out / "drawn")), batch_size=4, seed=0),
        ),
    }
    L.seed_everything(0, verbose=False)  # adapters are drawn from the global state
    module, data = makers[kind]()
    judge = AgentEval(
        {"one": SingleShot("solve_plain")},
        limit=5,
        inference=Inference(sampling=Sampling(0.0, max_new_tokens=4)),
    )
    strategy = "auto" if devices == 1 else strategy
    options: Any = {"devices": devices, "strategy": strategy, "limit_train_batches": 2}
    if kind == "bf16":
        options["precision"] = "bf16-true"
    run = trainer(out / str(devices), callbacks=[Keep(), judge], **options)
    run.validate(module, data, verbose=False)
    judged = {
        name: value for name, value in run.callback_metrics.items() if name.startswith("eval/")
    }
    run.fit(module, data)
    logged = dict(run.callback_metrics)
    torch.save(
        (gradients, weights(module), judged, logged), out / f"{kind}-{devices}-{run.global_rank}.pt"
    )


def save_often(out: Path) -> None:
    """Two ranks, one slower than the other, with a checkpoint after every 50 ms or so, by each
    rank's own clock.
    """
    import time

    import lightning as L
    from tiny import chats, sft, trainer

    from slm_math.callbacks import Checkpoints

    class Slow(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
        ) -> None:
            time.sleep(0.013 * trainer.global_rank * (batch_idx % 3))

    options: Any = {"devices": 2, "strategy": "ddp", "enable_checkpointing": True, "max_epochs": 4}
    run = trainer(
        out, callbacks=[Slow(), Checkpoints(out / "checkpoints", minutes=0.05 / 60)], **options
    )
    run.fit(sft(), chats(batch_size=8))


def run_program(*arguments: str) -> None:
    """Runs this file as a program."""
    path = f"{HERE.parents[1]}:{HERE.parents[2]}"
    done = subprocess.run(
        [sys.executable, str(HERE), *arguments],
        env=os.environ | {"PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        cwd=HERE.parents[2],
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_ranks_agree_when_to_save(tmp_path: Path) -> None:
    run_program("save", str(tmp_path))
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def forked(work: Callable[[], None], **environment: str) -> int:
    """The number of a new process that does this work."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    if os.environ.get("DUMP"):
        import faulthandler

        faulthandler.dump_traceback_later(float(os.environ["DUMP"]))
    try:
        os.environ |= environment
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def alone_and_together(kind: str, out: Path, strategy: str = "ddp") -> None:
    """The same work in a process alone, and in two that find each other as those of torchrun do."""
    import tiny  # noqa: F401

    import slm_math.callbacks  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    alone = forked(lambda: work(kind, 1, out))
    both = [
        forked(lambda: work(kind, 2, out, strategy), **meet, NODE_RANK="0", LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    ends = [os.waitpid(pid, 0)[1] for pid in (alone, *both)]
    assert ends == [0, 0, 0], ends


def slow(*kinds: str) -> list[Any]:
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


@pytest.mark.parametrize(
    "kind",
    [
        *slow("sft", "sft-one-row", "sft-rest", "grpo", "grpo-lora", "batch", "draws", "vision"),
        "one-problem",
    ],
)
def test_two_processes_equal_one(kind: str, tmp_path: Path) -> None:
    run_program(kind, str(tmp_path))
    alone, first, second = (
        torch.load(tmp_path / f"{kind}-{name}.pt") for name in ("1-0", "2-0", "2-1")
    )
    assert alone[0]
    assert max(value.abs().max() for value in alone[0].values()) > 1e-4
    for name, gradient in alone[0].items():
        assert torch.allclose(first[0][name], gradient, atol=1e-6, rtol=1e-5)
    for name, weight in first[1].items():
        assert torch.equal(weight, second[1][name])
        # some gradients are about 1e-8, and many of a tower's, which Adam divides by themselves
        most = 1e-5 if kind == "vision" else 2e-6
        assert torch.allclose(weight, alone[1][name], atol=most, rtol=0)
    assert {name for name in alone[2] if not name.endswith("seconds")} <= set(first[2])
    for name, value in alone[2].items():
        if not name.endswith("seconds"):
            assert first[2][name] == pytest.approx(value)
    assert records(tmp_path / "1" / "eval") == records(tmp_path / "2" / "eval")
    if not kind.startswith("sft"):
        same = (
            "reward",
            "loss",
            "policy_loss",
            "entropy",
            "frac_reward_zero_std",
            "accuracy",
            "length",
            "advantage_max",
        )
        for name in (f"train/{name}" for name in same):
            assert first[3][name].item() == pytest.approx(
                alone[3][name].item(), rel=1e-3, abs=1e-5
            ), name
            assert second[3][name].item() == first[3][name].item()
    if kind.startswith("sft"):
        assert first[3]["train/loss"].item() == pytest.approx(
            alone[3]["train/loss"].item(), rel=1e-3
        )
        assert first[3]["val/loss"].item() == pytest.approx(alone[3]["val/loss"].item(), rel=1e-3)


@pytest.mark.slow
def test_two_processes_agree_on_masters(tmp_path: Path) -> None:
    """Where bfloat16 rounds other sums in two processes than in one, an update of 1e-3 differs."""
    run_program("bf16", str(tmp_path))
    alone, first, second = (
        torch.load(tmp_path / f"bf16-{name}.pt")[1] for name in ("1-0", "2-0", "2-1")
    )
    for name, weight in first.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, second[name])
        gap = (weight.float() - alone[name].float()).abs()
        assert gap.max() <= 2 * 2e-3 + 2**-8 * weight.abs().max()
        assert gap.mean() < 2e-4


def records(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What an evaluation wrote down, apart from times."""
    [path] = folder.glob("validate/one/records.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for part in (row, *row["events"]):
            part.pop("seconds", None)
    return {(row["id"], row["sample"]): row for row in rows}


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save_often(Path(sys.argv[2]))
    else:
        alone_and_together(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
