"""Two processes make the same update, and the same evaluation, as one: under ddp, with moments that
are shared out, and with weights that are.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import forked, run_program, two, wait

STRATEGIES = ("ddp", "sharded", "fsdp2")  # sharded: ddp with optim.sharded


def work(kind: str, how: str, out: Path) -> None:
    """Evaluates, makes two updates and saves the gradients of the first, the weights after it and
    what was logged.
    """
    from dataclasses import replace

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

    # Adam divides gradients by themselves, some of which are about 1e-8: a larger rate shows more
    # of how they are rounded
    optim = Optim(lr=2e-4, warmup=0, clip=0.0, sharded=how == "sharded")
    lora = Policy(scratch=SCRATCH, lora=Lora(r=2, dropout=0.0))
    seeing = Policy(scratch=SEEING, vision="trained")
    by_row = Objective("grpo")
    whole = Advantage(baseline="batch", scale="batch")
    makers: dict[str, Any] = {
        "sft": lambda: (
            sft(optim=optim, tokens_per_batch=200),
            chats(batch_size=9, prompt_weight=0.2),
        ),
        "sft-muon": lambda: (
            sft(optim=replace(optim, kind="muon"), tokens_per_batch=200),
            chats(batch_size=9),
        ),
        "sft-lora": lambda: (
            sft(lora, optim=optim, tokens_per_batch=200),
            chats(batch_size=9, prompt_weight=0.2),
        ),
        # the second rank never has a row
        "sft-one-row": lambda: (sft(optim=optim), chats(batch_size=1)),
        # and here not in the last batch of the validation
        "sft-rest": lambda: (sft(optim=optim), chats(batch_size=13)),
        "bf16": lambda: (grpo(optim=optim, objective=Objective(beta=0.05)), problems()),
        "grpo": lambda: (grpo(optim=optim, objective=Objective(beta=0.05)), problems()),
        "grpo-lora": lambda: (grpo(lora, optim=optim, objective=by_row), problems(batch_size=3)),
        "one-problem-lora": lambda: (
            grpo(lora, optim=optim, group_size=16),
            problems(batch_size=1),
        ),
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
        # adapters are few, and stay whole; the tower is frozen
        "seeing-lora": lambda: (
            grpo(replace(seeing, vision="frozen", lora=Lora(r=2, dropout=0.0)), optim=optim),
            ProblemData(Drawn(str(out / "drawn")), batch_size=4, seed=0),
        ),
        # all weights but those of the tower, which every rank has whole
        "seeing": lambda: (
            grpo(replace(seeing, vision="frozen"), optim=optim),
            ProblemData(Drawn(str(out / "drawn")), batch_size=4, seed=0),
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
    strategy = {"alone": "auto", "sharded": "ddp"}.get(how, how)
    devices = 1 if how == "alone" else 2
    options: Any = {"devices": devices, "strategy": strategy, "limit_train_batches": 2}
    if kind == "bf16":
        options["precision"] = "bf16-true"
    run = trainer(out / how, callbacks=[Keep(), judge], **options)
    run.validate(module, data, verbose=False)
    judged = {
        name: value for name, value in run.callback_metrics.items() if name.startswith("eval/")
    }
    run.fit(module, data)
    logged = dict(run.callback_metrics)
    torch.save((gradients, weights(module), judged, logged), out / f"{how}-{run.global_rank}.pt")


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


@pytest.mark.slow
def test_ranks_agree_when_to_save(tmp_path: Path) -> None:
    run_program(__file__, "save", str(tmp_path))
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def alone_and_together(kind: str, out: Path, strategies: list[str]) -> None:
    """The same work in a process alone, and in two."""
    import tiny  # noqa: F401

    import slm_math.callbacks  # noqa: F401

    wait(forked(lambda: work(kind, "alone", out)))
    for strategy in strategies:
        wait(*two(lambda strategy=strategy: work(kind, strategy, out)))


def slow(*kinds: str) -> list[Any]:
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


def loaded(out: Path, how: str) -> list[Any]:
    return [torch.load(path) for path in sorted(out.glob(f"{how}-?.pt"))]


@pytest.mark.parametrize(
    "kind",
    [
        *slow("sft", "sft-lora", "sft-one-row", "sft-rest", "grpo", "grpo-lora", "batch", "draws"),
        *slow("one-problem-lora", "seeing", "seeing-lora", "vision"),
        "one-problem",
    ],
)
def test_two_processes_equal_one(kind: str, tmp_path: Path) -> None:
    strategies = [how for how in STRATEGIES if (kind, how) != ("vision", "fsdp2")]
    run_program(__file__, kind, str(tmp_path), *strategies)
    [alone] = loaded(tmp_path, "alone")
    assert alone[0]
    assert max(value.abs().max() for value in alone[0].values()) > 1e-4
    for how in strategies:
        first, second = loaded(tmp_path, how)
        gradients = first[0] | second[0]  # an owner has the gradient of its weight alone
        for name, gradient in alone[0].items():
            assert torch.allclose(gradients[name], gradient, atol=1e-6, rtol=1e-5), how
        for name, weight in first[1].items():
            assert torch.equal(weight, second[1][name]), how
            # many gradients of a tower are tiny
            most = 2e-6 if kind == "vision" else 1e-6
            assert torch.allclose(weight, alone[1][name], atol=most, rtol=0), how
        check_metrics(kind, alone, first, second)
        assert records(tmp_path / "alone" / "eval") == records(tmp_path / how / "eval"), how


def check_metrics(kind: str, alone: Any, first: Any, second: Any) -> None:
    """What two processes logged of evaluation and training is what one did."""
    assert {name for name in alone[2] if not name.endswith("seconds")} <= set(first[2])
    for name, value in alone[2].items():
        if not name.endswith("seconds"):
            assert first[2][name] == pytest.approx(value)
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
    else:
        for name in ("train/loss", "val/loss", "train/grad_norm"):
            assert first[3][name].item() == pytest.approx(alone[3][name].item(), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "sft-muon", "grpo", "grpo-lora"])
def test_shared_out_moments_change_no_bit(kind: str, tmp_path: Path) -> None:
    run_program(__file__, kind, str(tmp_path), "ddp", "sharded")
    [ddp, _], [sharded, _] = (loaded(tmp_path, how) for how in ("ddp", "sharded"))
    for name, weight in ddp[1].items():
        assert torch.equal(weight, sharded[1][name])
    assert ddp[3]["train/grad_norm"] == sharded[3]["train/grad_norm"]


@pytest.mark.slow
def test_two_processes_agree_on_masters(tmp_path: Path) -> None:
    """Where bfloat16 rounds other sums in two processes than in one, an update of 2e-4 differs."""
    run_program(__file__, "bf16", str(tmp_path), *STRATEGIES)
    [alone] = (one[1] for one in loaded(tmp_path, "alone"))
    for how in STRATEGIES:
        first, second = (one[1] for one in loaded(tmp_path, how))
        for name, weight in first.items():
            assert weight.dtype == (torch.float32 if how == "fsdp2" else torch.bfloat16)
            assert torch.equal(weight, second[name])
            gap = (weight.bfloat16().float() - alone[name].float()).abs()
            assert gap.max() <= 2 * 4e-4 + 2**-8 * weight.abs().max()
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
        alone_and_together(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
