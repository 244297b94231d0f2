"""Weights in bfloat16, of which those that are trained have fp32 masters (Micikevicius et al. 2018,
"Mixed precision training", section 3.1).

The network computes with the rounded weights. Their gradients are summed up in fp32 over the
micro-batches of an update, and the optimizer moves the masters, so that updates that are smaller
than the distance between two bfloat16 numbers add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy

PRECISION = "bf16-true"  # what a trainer calls it


class Masters(nn.Module):
    """The masters of a policy's trained weights; without `round_all` there are none. A module that
    has them moves them to its device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.rounded: list[nn.Parameter] = []
        self.weights = nn.ParameterList()

    def round_all(self, loaded: LoadedPolicy) -> None:
        """Rounds a policy and its reference; the trained weights get masters if they have none."""
        if not self.names:
            self.names, self.rounded = loaded.trainable, loaded.parameters()
            for weight in self.rounded:
                master = nn.Parameter(weight.detach(), requires_grad=False)
                if getattr(weight, "is_embedding", False):
                    master.is_embedding = True  # type: ignore[attr-defined]
                self.weights.append(master)
        to_bfloat16(loaded.model)
        round_reference(loaded)
        for weight in self.rounded:
            weight.grad_dtype = torch.float32

    def of(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """What the optimizer moves for trained parameters: their masters, or else themselves."""
        masters = {id(weight): own for weight, own in zip(self.rounded, self.weights)}
        return [masters.get(id(p), p) for p in parameters]

    def rounded_of(self, moved: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """The weights of which these are the masters; the inverse of `of`."""
        weights = {id(own): weight for weight, own in zip(self.rounded, self.weights)}
        return [weights.get(id(p), p) for p in moved]

    def release(self, is_mine: Callable[[nn.Parameter], bool]) -> None:
        """Frees the masters of weights that other ranks move."""
        for weight, master in zip(self.rounded, self.weights):
            if not is_mine(weight):
                master.data = master.data.new_empty(0)

    def _pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The weights, each with its master, if that is on this rank."""
        pairs = zip(self.rounded, self.weights)
        return [(weight, own) for weight, own in pairs if own.shape == weight.shape]

    def take_gradients(self) -> None:
        """Moves the gradients from the weights to their masters."""
        for weight, master in self._pairs():
            master.grad, weight.grad = weight.grad, None

    @torch.no_grad()
    def round(self) -> None:
        """Sets the weights to their masters, rounded."""
        if pairs := self._pairs():
            torch._foreach_copy_(*map(list, zip(*pairs)))  # type: ignore[arg-type]

    def state(self) -> dict[str, Tensor]:
        """The masters, by the names of their weights in the model."""
        own = {id(master) for _, master in self._pairs()}
        named = zip(self.names, self.weights)
        return {name: master.detach() for name, master in named if id(master) in own}

    @torch.no_grad()
    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, and rounds it."""
        for name, weight, master in zip(self.names, self.rounded, self.weights):
            (master if master.shape == weight.shape else weight).copy_(saved[name])
        self.round()


def round_reference(loaded: LoadedPolicy) -> None:
    """Rounds the reference of a policy, if it is a model of its own."""
    if isinstance(loaded.reference_model, nn.Module):
        to_bfloat16(loaded.reference_model)


@torch.no_grad()
def to_bfloat16(model: Any) -> None:
    """Rounds the weights of a model, but those that transformers keeps in fp32. Buffers, such as
    the frequencies of positions, stay what they are.
    """
    kept = getattr(inner(model), "_keep_in_fp32_modules_strict", None) or ()
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float32 and not any(f".{k}." in f".{name}." for k in kept):
            weight.data = weight.data.to(torch.bfloat16)
            torch.autograd.graph.increment_version(weight)  # for what remembers what it gave
    inner(model).config.dtype = torch.bfloat16
