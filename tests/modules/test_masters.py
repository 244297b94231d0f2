"""Weights in bfloat16 (`precision: bf16-true`) with fp32 masters, which the optimizer moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from tiny import LORA, SCRATCH, chats, difference, grpo, problems, sft, trainer

from slm_math.callbacks import ExportHF
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.modules.saved_policy import load_policy, read_checkpoint
from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Policy
from slm_math.policy.weights import tensors

FINE = {"precision": "bf16-true"}


def masters(module: Any) -> dict[str, torch.Tensor]:
    """A copy of the masters."""
    return {name: value.clone() for name, value in module.masters.state().items()}


def weights(module: Any) -> dict[str, torch.Tensor]:
    """The weights that the network computes with."""
    named = dict(module.loaded.model.named_parameters())
    return {name: named[name].detach() for name in module.loaded.trainable}


def lora() -> Policy:
    return Policy(scratch=SCRATCH, lora=LORA)


RUNS: dict[str, Callable[[Optim], tuple[Any, Any]]] = {
    "sft-full": lambda optim: (sft(optim=optim), chats(batch_size=4)),
    "sft-lora": lambda optim: (sft(lora(), optim=optim), chats(batch_size=4)),
    "grpo-full": lambda o: (grpo(optim=o, objective=Objective(beta=0.05)), problems()),
    "grpo-lora": lambda o: (grpo(lora(), optim=o, objective=Objective(beta=0.05)), problems()),
}


SMALL = {f"{kind}-{optim}": (kind, optim) for kind in RUNS for optim in ("adamw", "muon")}


@pytest.mark.parametrize("name", some(SMALL, ["sft-full-adamw", "grpo-lora-muon"]))
def test_updates_too_small_for_bfloat16_add_up(name: str, tmp_path: Path) -> None:
    """An update is about 1e-6, and bfloat16 numbers above 1e-3 are 7.6e-6 or more apart."""
    kind, optim = SMALL[name]
    rates: dict[str, float] = {"lr": 1e-6, "matrix_lr": 1e-6, "warmup": 0}
    module, data = RUNS[kind](Optim(kind=optim, schedule="constant", **rates))  # type: ignore[arg-type]
    start: dict[str, torch.Tensor] = {}

    class Keep(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
            start.update(masters(module))

    steps = 50 if name == "sft-full-adamw" else 5
    options: dict[str, Any] = {"max_steps": steps, "max_epochs": 99, "limit_train_batches": 10}
    run = trainer(tmp_path, callbacks=[Keep()], **options, **FINE)
    run.fit(module, data)
    assert run.global_step == steps
    after = masters(module)
    moved = []
    for weight, rounded in weights(module).items():
        assert after[weight].dtype == torch.float32
        assert torch.equal(rounded, after[weight].to(torch.bfloat16))
        large = start[weight].abs() > 1e-3
        plain = start[weight].to(torch.bfloat16)[large]
        assert torch.equal(plain + 1e-6, plain)
        moved.append((after[weight] - start[weight]).abs()[large])
    assert 2e-6 * steps > torch.cat(moved).max() > 0.2e-6 * steps


@pytest.mark.slow
@pytest.mark.parametrize("kind", some(["sft-full", "sft-lora"], ["sft-full"]))
def test_the_loss_follows_that_of_fp32(kind: str, tmp_path: Path) -> None:
    losses: dict[str, list[float]] = {"32-true": [], "bf16-true": []}
    for precision, own in losses.items():

        class Losses(L.Callback):
            def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
                own.append(trainer.callback_metrics["train/loss"].item())  # noqa: B023

        L.seed_everything(0, verbose=False)
        module, data = RUNS[kind](Optim(lr=1e-2))
        run = trainer(
            tmp_path, callbacks=[Losses()], precision=precision, max_steps=30, max_epochs=9
        )
        run.fit(module, data)
    fine, rough = (torch.tensor(own) for own in losses.values())
    assert fine[0] - fine[-1] > 0.1
    # a single step may stand out, as the same data do on another processor
    assert (fine - rough).abs().mean() < 0.02 * (fine[0] - fine[-1]) + 0.01


class Interrupt(L.Callback):
    """Stops a run as a kill would: before a batch, without any farewell."""

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 1):
            raise InterruptedError


@pytest.mark.parametrize("kind", some(RUNS, ["grpo-full", "sft-lora"]))
def test_resuming_changes_nothing(kind: str, tmp_path: Path) -> None:
    def fit(*callbacks: L.Callback, seed: int = 5, path: Path | None = None) -> Any:
        L.seed_everything(seed, verbose=False)
        module, data = RUNS[kind](Optim(lr=1e-3))
        kept = {"enable_checkpointing": bool(callbacks), "max_epochs": 2}
        run = trainer(tmp_path, callbacks=list(callbacks), limit_train_batches=3, **kept, **FINE)
        run.fit(module, data, ckpt_path=path)
        return module

    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, filename="last")
    with pytest.raises(InterruptedError):
        fit(saver, Interrupt())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.dtype == torch.float32 for value in saved.values())
    rounded = [value.to(torch.bfloat16).float() for value in saved.values()]
    assert not all(map(torch.equal, saved.values(), rounded))
    straight, again = fit(), fit(seed=77, path=tmp_path / "last.ckpt")
    assert difference(masters(straight), masters(again)) == 0
    assert difference(weights(straight), weights(again)) == 0


def test_the_reference_is_the_rounded_policy(tmp_path: Path) -> None:
    """Or GRPO would refuse its first update."""
    module, data = RUNS["grpo-full"](Optim(lr=1e-3))
    trainer(tmp_path, limit_train_batches=2, **FINE).fit(module, data)
    assert module.loaded.reference_model.dtype == torch.bfloat16


def test_gradients_of_micro_batches_add_up_in_fp32(tmp_path: Path) -> None:
    module = sft(tokens_per_batch=32)
    kinds = set()

    class Look(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
            kinds.update(m.grad.dtype for m in module.masters.weights)
            assert all(weight.grad is None for weight in module.masters.rounded)

    trainer(tmp_path, limit_train_batches=1, callbacks=[Look()], **FINE).fit(module, chats())
    assert kinds == {torch.float32}


def test_evaluation_before_training(tmp_path: Path) -> None:
    module, data = RUNS["grpo-lora"](Optim(lr=1e-3))
    run = trainer(tmp_path, limit_train_batches=1, **FINE)
    run.validate(module, data, verbose=False)
    run.fit(module, data)
    assert module.loaded.reference_model == "base"
    with pytest.raises(ValueError, match="make a new module") as caught:
        trainer(tmp_path).fit(module, data)
    assert "\n" not in str(caught.value)


def test_an_export_has_the_rounded_weights(tmp_path: Path) -> None:
    module, data = RUNS["sft-full"](Optim(lr=1e-3))
    exports = [ExportHF(check=False)]
    trainer(tmp_path, limit_train_batches=2, callbacks=exports, **FINE).fit(module, data)
    written = load_file(tmp_path / "export" / "model.safetensors")
    for name, value in tensors(module.loaded):
        assert written[name].dtype == torch.bfloat16
        assert torch.equal(written[name], value)


def test_the_export_of_a_checkpoint_is_that_of_the_run(tmp_path: Path) -> None:
    module, data = RUNS["sft-full"](Optim(lr=1e-3))
    run = trainer(tmp_path, limit_train_batches=2, **FINE)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "one.ckpt")
    saved = read_checkpoint(tmp_path / "one.ckpt")
    _, loaded, *_ = load_policy(tmp_path / "one.ckpt", saved)
    for (name, value), (_, own) in zip(tensors(loaded), tensors(module.loaded), strict=True):
        assert torch.equal(value, own), name


def test_a_teacher_that_is_the_policy_itself(tmp_path: Path) -> None:
    """In bfloat16 it does not say exactly the same a second time."""
    module = grpo(rewards=[], teacher=Teacher(itself="reference"), optim=Optim(lr=1e-3))
    trainer(tmp_path, limit_train_batches=2, **FINE).fit(module, problems())
    assert module.loaded.reference_model.dtype == torch.bfloat16


def test_a_policy_that_sees(tmp_path: Path) -> None:
    from seeing import SEEING, Drawn

    from slm_math.data.problem_data import ProblemData

    module = grpo(Policy(scratch=SEEING, vision="trained"), objective=Objective(beta=0.05))
    data = ProblemData(Drawn(str(tmp_path / "drawn")), batch_size=4, seed=0)
    trainer(tmp_path, limit_train_batches=2, **FINE).fit(module, data)
    assert module.loaded.model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [({"objective": Objective(beta=0.05), "reference_update": 0.5}, "reference_update moves")],
)
def test_what_bfloat16_would_spoil_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    module = grpo(**options)
    with pytest.raises(ValueError, match=f"{message}.*set trainer.precision bf16-mixed") as caught:
        trainer(tmp_path, **FINE).fit(module, problems())
    assert "\n" not in str(caught.value)
    assert module.loaded is None
