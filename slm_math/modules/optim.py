"""Optimizer and learning-rate schedule from a few numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from slm_math.modules.muon import MuonAdamW
from slm_math.ranges import check_choices, check_number, check_pair


@dataclass(frozen=True)
class Optim:
    """How weights move.

    Args:
        lr: peak learning rate, above 0.
        kind: "adamw"; "muon" (Jordan et al. 2024: orthogonalised momentum for the matrices inside
            the layers, AdamW for the rest); "paged_adamw" (bitsandbytes, pages moments to host
            memory; NVIDIA GPUs).
        matrix_lr: peak learning rate of Muon's matrices.
        role_lr: role -> learning rate, where a role's adapter learns at its own; not with "muon".
        betas: AdamW's decay rates.
        weight_decay: AdamW's; with "muon", that of the matrices only.
        warmup: linear warm-up, as a share of all steps below 1, as a number of steps from 1 on.
        schedule: what follows the warm-up.
        floor: where the schedule ends, as a share of the peak.
        clip: the gradient norm of each role is clipped to this; 0 is off.
        sharded: with several ranks under ddp, each rank has the moments of a part of the weights,
            and moves these for all; the update is the same, bit for bit.
    """

    lr: float = 1e-4
    kind: Literal["adamw", "muon", "paged_adamw"] = "adamw"
    matrix_lr: float = 0.02
    role_lr: dict[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: float = 0.03
    schedule: Literal["cosine", "linear", "quadratic", "constant"] = "cosine"
    floor: float = 0.0
    clip: float = 1.0
    sharded: bool = False

    def __post_init__(self) -> None:
        check_choices("optim", self)
        rates = {f"role_lr.{role}": rate for role, rate in self.role_lr.items()}
        for name, rate in {"lr": self.lr, "matrix_lr": self.matrix_lr, **rates}.items():
            check_number(f"optim.{name}", rate, above=0)
        check_pair("optim.betas", self.betas, low=0, below=1)
        check_number("optim.weight_decay", self.weight_decay, low=0)
        check_number("optim.warmup", self.warmup, low=0)
        if self.warmup > 1 and self.warmup != int(self.warmup):
            raise ValueError(
                "optim.warmup is a share of all steps below 1, or a whole number of steps, got "
                f"{self.warmup}"
            )
        check_number("optim.floor", self.floor, low=0, high=1)
        check_number("optim.clip", self.clip, low=0)
        if self.kind == "muon" and self.role_lr:
            raise ValueError(
                f"optim.role_lr names {', '.join(self.role_lr)}, and has no effect on the matrices "
                "of an adapter, which muon moves at optim.matrix_lr: remove it, or set kind adamw"
            )
        if self.kind == "paged_adamw" and self.sharded:
            raise ValueError(
                "optim.sharded leaves no moments that would have to be paged: set kind adamw"
            )
        if self.kind == "paged_adamw" and not torch.cuda.is_available():
            raise ValueError("optim.kind paged_adamw needs an NVIDIA GPU: use adamw")

    def build(self, groups: dict[str, list[nn.Parameter]]) -> torch.optim.Optimizer:
        """One optimizer; each role is a parameter group named after it."""
        named: list[dict[str, Any]] = [
            {"params": params, "lr": self.role_lr.get(role, self.lr), "role": role}
            for role, params in groups.items()
        ]
        adamw: dict[str, Any] = {"betas": self.betas, "weight_decay": self.weight_decay}
        if self.kind == "paged_adamw":
            import bitsandbytes

            return bitsandbytes.optim.PagedAdamW32bit(named, **adamw)
        if self.kind == "muon":
            return MuonAdamW(named, self.matrix_lr, self.betas, self.weight_decay)
        # one kernel for all parameters, in place of several for each
        return torch.optim.AdamW(named, fused=True, **adamw)

    def factor(self, steps: int) -> Callable[[int], float]:
        """step -> multiple of the peak learning rate, for `steps` optimizer steps in all."""
        warm = int(self.warmup if self.warmup >= 1 else self.warmup * steps)

        def at(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            if self.schedule == "constant":
                return 1.0
            done = min((step - warm) / max(steps - warm, 1), 1.0)
            shape = {
                "cosine": 0.5 * (1 + math.cos(math.pi * done)),
                "linear": 1 - done,
                "quadratic": (1 - done) ** 2,
            }
            return self.floor + (1 - self.floor) * shape[self.schedule]

        return at


class RoleSchedule(torch.optim.lr_scheduler.LambdaLR):
    """The learning rates of roles: each follows the updates of its own role, so that a role goes
    through its whole warm-up and decay, however often it waits for others.

    Args:
        optimizer: one of `Optim.build`.
        factors: role -> its `Optim.factor`.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, factors: Mapping[str, Callable[[int], float]]
    ) -> None:
        self.done = [0] * len(optimizer.param_groups)  # updates of each group
        super().__init__(optimizer, [factors[each["role"]] for each in optimizer.param_groups])

    def get_lr(self) -> list[float | torch.Tensor]:
        parts = zip(self.base_lrs, self.lr_lambdas, self.done, strict=True)
        return [rate * factor(done) for rate, factor, done in parts]

    def advance(self, roles: Collection[str]) -> None:
        """Steps the rates of roles; those of others stay as they are, bit for bit."""
        for number, group in enumerate(self.optimizer.param_groups):
            self.done[number] += group["role"] in roles
        self.step()

    def set_rates(self) -> None:
        """Sets the rates anew: a resumed run may have another number of steps."""
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
