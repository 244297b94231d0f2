"""What a trainer must not be asked for, since it would do nothing here, or harm: refused in one
line before a model is loaded.
"""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
)

from slm_math.modules.fsdp import FSDP2
from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy
from slm_math.policy.masters import PRECISION

PRECISIONS = ("32-true", "bf16-mixed", PRECISION)
# what Lightning takes for two of these
_SAME_PRECISION = {"32": "32-true", "bf16": "bf16-mixed"}
_SHARDING = ("fsdp", "deepspeed", "model_parallel", "modelparallel")
_IN_PROCESS = ("spawn", "fork", "notebook")  # ways in which Lightning makes processes by itself
# callback -> why it cannot work here, and what does
_AVERAGED = (
    "evaluations, rollouts and exports take the weights under training, never their average, and "
    "its checkpoints hold frozen weights that nothing here loads: remove it (a learning rate that "
    "ends near 0 has a similar effect: optim.schedule)"
)
_REFUSED: dict[type[L.Callback], str] = {
    callbacks.WeightAveraging: _AVERAGED,
    callbacks.StochasticWeightAveraging: _AVERAGED,
    callbacks.GradientAccumulationScheduler: (
        "one optimizer step takes data.batch_size rows or problems: remove it, and set "
        "model.tokens_per_batch for the size of a forward pass"
    ),
    callbacks.LearningRateFinder: "it cannot run manual updates: remove it, and set optim.lr",
    callbacks.BatchSizeFinder: (
        "memory depends on model.tokens_per_batch, not on the batch that it changes: remove it"
    ),
    callbacks.BaseFinetuning: (
        "which weights are trained is decided when the policy is loaded: remove it (policy.lora "
        "trains a part)"
    ),
    callbacks.ModelPruning: "engines, exports and checkpoints know no masks of weights: remove it",
    callbacks.SpikeDetection: (
        "a training step returns no loss: remove it (updates without a finite gradient are skipped)"
    ),
}


def check_devices(devices: Any, accelerator: str | None) -> None:
    """Raises ValueError for more processes on a CPU than it has cores: each would train, wait for
    the others, and say the same.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator {accelerator}: PyTorch finds no GPU here (slm-math doctor shows "
            "what it finds); leave the option out to train on the CPU"
        )
    gpu = torch.cuda.is_available() and accelerator in (None, "auto", "gpu", "cuda")
    other = accelerator not in (None, "auto", "cpu")
    count = int(devices) if str(devices).isdecimal() else 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if gpu or other or count <= (cores or 1):
        return
    raise ValueError(
        f"trainer.devices: there is no GPU, and {count} processes on {cores} cores of a CPU would "
        f"wait for each other: at most {cores}, or leave it out"
    )


class PlainPrecision(Precision):
    """In place of Lightning's plugin for bf16 weights, which makes every new tensor bf16, those of
    losses and statistics, too. Nothing is cast: the weights are what they are.
    """

    precision = PRECISION


def check_trainer(trainer: L.Trainer) -> None:
    """Raises ValueError for a strategy or a precision that cannot work here."""
    check_strategy(trainer.strategy)
    check_precision(trainer.precision)


def check_strategy(strategy: Strategy | str) -> None:
    """Raises ValueError for a strategy of the trainer, or its name, that could not do here what the
    name says.

    Gradients are summed by hand, and weights are shared out by hand (`FSDP2`): another strategy
    that shards weights or optimizer states would shard nothing. Processes are started by running
    the command again, since a policy and its agents cannot be copied into a process.
    """
    if isinstance(strategy, str):
        name, lower = strategy, strategy.lower()
        ours = lower == "fsdp2" or f"{FSDP2.__module__}.fsdp2" in lower
        whole = ours or not any(word in lower for word in _SHARDING)
        copies = any(word in lower for word in _IN_PROCESS)
    else:
        name, copies = type(strategy).__name__, False
        whole = isinstance(strategy, SingleDeviceStrategy | DDPStrategy | FSDP2)
        whole = whole and not isinstance(strategy, DeepSpeedStrategy)
        if isinstance(strategy, DDPStrategy) and strategy._start_method != "popen":
            name, copies = f"DDPStrategy(start_method={strategy._start_method!r})", True
    if not whole:
        raise ValueError(
            f"trainer.strategy {name} would shard nothing here: use fsdp2, which leaves each "
            "device a slice of weights, gradients and moments, or ddp with optim.sharded, of "
            "moments; to save memory otherwise, policy.lora, policy.quantize nf4, "
            "policy.gradient_checkpointing or a smaller tokens_per_batch"
        )
    if copies:
        raise ValueError(
            f"trainer.strategy {name} copies this process, which cannot be done with a policy and "
            "its agents: use ddp, which runs the command once per device"
        )


def check_precision(precision: Any) -> None:
    """Raises ValueError for a precision, by its name, other than fp32, bf16 autocast and bf16
    weights with fp32 masters.
    """
    name = _SAME_PRECISION.get(str(precision), str(precision))
    if name in PRECISIONS:
        return
    reasons = {
        "16-true": "fp16 needs a loss scaler, which manual updates do not use",
        "16-mixed": "fp16 needs a loss scaler, which manual updates do not use",
        "16": "fp16 needs a loss scaler, which manual updates do not use",
    }
    reason = reasons.get(name, "policies are loaded in fp32")
    raise ValueError(
        f"trainer.precision {name} is not supported ({reason}): set bf16-mixed or bf16-true, or "
        "32-true without a GPU; policy.lora and policy.quantize nf4 save memory"
    )


def check_masters(quantize: str, moves_reference: bool) -> None:
    """Raises ValueError for what cannot be done with weights in bf16, although the trained ones
    have fp32 masters.
    """
    if quantize != "none":
        raise ValueError(
            f"policy.quantize {quantize} computes in bf16 already, and its few trained weights are "
            f"in fp32: set trainer.precision bf16-mixed"
        )
    if moves_reference:
        raise ValueError(
            f"reference_update moves the reference by less than bf16 can tell apart: set "
            f"trainer.precision bf16-mixed instead of {PRECISION}"
        )


def check_shared(trainer: L.Trainer, module: Any) -> None:
    """Raises ValueError for a module (`PolicyModule`) that cannot train with slices of its weights,
    if the trainer leaves it those only.
    """
    if isinstance(trainer.strategy, FSDP2):
        check_fsdp2(module.policy, module.optim, trainer.precision, module.own_teacher)


def check_fsdp2(policy: Policy, optim: Optim, precision: Any, teacher: str | None = None) -> None:
    """Raises ValueError for what the strategy `fsdp2` cannot do. `teacher`: the option that names a
    teacher in the trainer's process, if there is one.
    """
    reason = None
    if str(precision) == "bf16-mixed":
        reason = (
            "trainer.precision bf16-mixed would keep a whole bf16 copy of the weights until the "
            "backward pass: set bf16-true, whose slices are fp32, or 32-true"
        )
    elif policy.quantize != "none":
        reason = f"policy.quantize {policy.quantize} has no slices: use ddp, or leave it out"
    elif policy.compile:
        reason = "policy.compile knows no slices of weights: leave it out"
    elif policy.vision == "trained" and not policy.has_adapters:
        reason = (
            "policy.vision trained would train the tower on some ranks only, where others have no "
            "image: set it to frozen, train adapters (policy.lora), or use ddp"
        )
    elif optim.kind != "adamw":
        needs = "whole matrices" if optim.kind == "muon" else "whole weights"
        reason = (
            f"optim.kind {optim.kind} needs {needs}, and a device has slices of them: set "
            "optim.kind adamw (and its optim.lr), or trainer.strategy ddp"
        )
    elif optim.sharded:
        reason = "it leaves slices of the moments to all ranks already: leave optim.sharded out"
    elif teacher is not None:
        reason = f"{teacher} teaches in this process: name teacher.servers, or use ddp"
    if reason is not None:
        raise ValueError(f"trainer.strategy fsdp2: {reason}")


def check_callbacks(trainer: L.Trainer) -> None:
    """Raises ValueError for callbacks, and subclasses of them, that change how weights are updated:
    updates are manual here, and such callbacks would do nothing, or half of what they say.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, reason in _REFUSED.items():
            if isinstance(callback, kind):
                raise ValueError(f"callback {type(callback).__name__} cannot work here: {reason}")


def check_end(trainer: L.Trainer, optim: Optim) -> None:
    """Raises ValueError for a schedule of the learning rate that needs the number of steps, in a
    run that has no such number.
    """
    endless = trainer.max_epochs == -1 and trainer.max_steps == -1
    if endless and (optim.schedule != "constant" or 0 < optim.warmup < 1):
        part = (
            f"optim.schedule {optim.schedule}"
            if optim.schedule != "constant"
            else f"optim.warmup {optim.warmup:g} as a share of all steps"
        )
        raise ValueError(
            f"{part} needs an end that is known in steps, and the run has neither "
            "trainer.max_epochs nor trainer.max_steps: set one of them, or optim.schedule constant "
            "with a warm-up of whole steps or 0"
        )
