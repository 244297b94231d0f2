"""Muon (Jordan et al. 2024) that does not need a processor with bfloat16, and Muon beside AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """torch's Muon, which orthogonalizes in bfloat16, but on CPUs in float32: those that lack
    instructions for bfloat16 multiply its matrices 15 times more slowly. It takes no closure.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group)

    def _update(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """One update of a matrix, by a Nesterov step with the moving average of its gradients."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = orthogonalized(
            gradient.lerp(momentum, group["momentum"]),
            group["ns_coefficients"],
            steps=group["ns_steps"],
            eps=group["eps"],
        )
        rows, columns = matrix.shape
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(direction, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalized(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Brings the singular values of a matrix near 1 (about 0.7 to 1.2) and keeps its singular
    vectors, by Newton-Schulz iterations: x <- a x + (b A + c A^2) x with A = x x^T (Jordan et al.
    2024).

    Args:
        matrix: (R, C).
        coefficients: a, b, c.
        steps: the number of iterations.
        eps: the least norm to divide by.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    dtype = torch.float32 if matrix.device.type == "cpu" else torch.bfloat16
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=eps)  # no singular value is above 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon on 2-D weights, AdamW on everything else, behind one optimizer (Lightning steps and
    saves just one).

    Embeddings and the language-model head count as "everything else", as Muon's authors advise.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        matrix_lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        split: list[dict[str, Any]] = []
        for group in groups:
            matrices = [
                p for p in group["params"] if p.ndim == 2 and not getattr(p, "is_embedding", False)
            ]
            chosen = {id(p) for p in matrices}
            rest = [p for p in group["params"] if id(p) not in chosen]
            split.append({"params": matrices, "lr": matrix_lr, "role": group["role"], "muon": True})
            split.append({"params": rest, "lr": group["lr"], "role": group["role"], "muon": False})
        super().__init__([group for group in split if group["params"]], {})
        self._parts: list[torch.optim.Optimizer] = []
        for group in self.param_groups:
            if group["muon"]:
                part: torch.optim.Optimizer = Muon(
                    group["params"], lr=group["lr"], weight_decay=weight_decay
                )
            else:
                part = torch.optim.AdamW(
                    group["params"], lr=group["lr"], betas=betas, weight_decay=0.0
                )
            # one state, so that a checkpoint of this optimizer holds all of it
            part.state = self.state
            self._parts.append(part)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, part in zip(self.param_groups, self._parts):
            part.state = self.state
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
        return loss
