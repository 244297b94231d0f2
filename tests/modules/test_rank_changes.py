"""A run goes on with another number of ranks as if it had never stopped, from a checkpoint in one
file or in slices.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import forked, run_program, two, wait

# how two ranks share the work -> options of the trainer and of the optimizer
WAYS = ("ddp", "sharded", "fsdp2", "slices")


def train(kind: str, how: str, out: Path, name: str, start: Path | None = None) -> None:
    """Three steps, with a checkpoint after the first one, or those after it; saves the weights."""
    import lightning as L
    from tiny import SCRATCH, chats, grpo, problems, sft, trainer, weights

    from slm_math.modules.fsdp import FSDP2
    from slm_math.modules.optim import Optim
    from slm_math.policy.config import Lora, Policy

    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *step: Any) -> None:
            if step[-1] == 0:
                trainer.save_checkpoint(out / name / "one.ckpt")

    L.seed_everything(0, verbose=False)
    lora = {"lora": Lora(r=2, dropout=0.0)} if kind.endswith("lora") else {}
    policy = Policy(scratch=SCRATCH, **lora)
    optim = Optim(lr=2e-4, warmup=0, sharded=how == "sharded")
    make, data = (sft, chats()) if kind.startswith("sft") else (grpo, problems())
    options: Any = {"optim": optim}
    if kind == "grpo":
        options |= {"reference_update": 0.5, "passes": 2}
        from slm_math.losses.objective import Objective

        options["objective"] = Objective(beta=0.05)
    strategy: Any = {"alone": "auto", "sharded": "ddp"}.get(how, how)
    if how == "slices":
        strategy = FSDP2(save_distributed_checkpoint=True)
    run = trainer(
        out / name,
        devices=1 if how == "alone" else 2,
        strategy=strategy,
        precision="bf16-true" if kind == "sft-bf16" else "32-true",
        limit_train_batches=3,
        limit_val_batches=0,
        callbacks=[Save()],
    )
    module = make(policy, **options)
    run.fit(module, data, ckpt_path=start)
    state = weights(module)  # gathered by all ranks
    (out / name).mkdir(exist_ok=True)
    if run.is_global_zero:
        torch.save(run.global_step, out / name / "steps.pt")
        torch.save(state, out / name / "weights.pt")


def all_ways(kind: str, out: Path, ways: list[str]) -> None:
    """One process, two, two after one, and one after two."""
    import tiny  # noqa: F401

    wait(forked(lambda: train(kind, "alone", out, "alone")))
    for way in ways:
        of_one, of_two = (out / name / "one.ckpt" for name in ("alone", way))
        wait(*two(partial(train, kind, way, out, name=way)))
        wait(*two(partial(train, kind, way, out, name=f"{way}-after-one", start=of_one)))
        wait(forked(partial(train, kind, "alone", out, name=f"one-after-{way}", start=of_two)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "sft-lora", "sft-bf16", "grpo"])
def test_a_run_goes_on_with_other_ranks(kind: str, tmp_path: Path) -> None:
    run_program(__file__, kind, str(tmp_path), *WAYS)
    alone = torch.load(tmp_path / "alone" / "weights.pt")
    for how in WAYS:
        for name in (how, f"{how}-after-one", f"one-after-{how}"):
            found = torch.load(tmp_path / name / "weights.pt")
            gaps = [(found[n].float() - alone[n].float()).abs().max().item() for n in alone]
            # of bf16, two roundings of an update
            assert max(gaps) < (2e-3 if kind == "sft-bf16" else 1e-6), (name, max(gaps))
            steps = torch.load(tmp_path / name / "steps.pt")
            assert steps == torch.load(tmp_path / "alone" / "steps.pt")


@pytest.mark.slow
def test_checkpoints_of_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    """Whole or put together, they hold all weights and moments."""
    from slm_math.modules.saved_policy import read_checkpoint

    run_program(__file__, "sft", str(tmp_path), *WAYS)
    alone = read_checkpoint(tmp_path / "alone" / "one.ckpt")
    for how in WAYS:
        found = read_checkpoint(tmp_path / how / "one.ckpt")
        assert found["state_dict"].keys() == alone["state_dict"].keys()
        for name, weight in alone["state_dict"].items():
            assert torch.allclose(found["state_dict"][name], weight, atol=1e-6)
        [ours], [theirs] = found["optimizer_states"], alone["optimizer_states"]
        assert ours["param_groups"] == theirs["param_groups"]
        for number, state in theirs["state"].items():
            for name, value in state.items():
                assert torch.allclose(ours["state"][number][name], value, atol=1e-6), name


if __name__ == "__main__":
    all_ways(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
