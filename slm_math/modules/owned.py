"""Moments that are shared out over the ranks of DDP (ZeRO, stage 1 and in part 2; Rajbhandari et
al. 2020): each weight is moved by one rank, which sends it to the others.

A rank has gradients, moments and masters of its own weights only. In the backward pass of the last
micro-batch of an update, a gradient is summed up on its owner as soon as it is complete, and freed
elsewhere. Weights have one owner each, so that optimizers see whole matrices, and norms have the
bits that they have without owners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slm_math.policy.masters import Masters
from slm_math.policy.ranks import gather_over_ranks, rank, rank_count


def owners(sizes: Sequence[int], ranks: int) -> list[int]:
    """The rank that owns each weight, of these sizes: large ones first, each to the rank that has
    least.
    """
    loads, found = [0] * ranks, [0] * len(sizes)
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        found[number] = min(range(ranks), key=loads.__getitem__)
        loads[found[number]] += sizes[number]
    return found


def _of(states: Mapping[int, Any], number: int) -> Mapping[str, Any]:
    return states.get(number, {})


class Owned:
    """The weights of a policy and their owners.

    Args:
        weights: what is trained, in an order that is the same on all ranks.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = list(weights)
        found = owners([weight.numel() for weight in self.weights], rank_count())
        self.owner = {id(weight): own for weight, own in zip(self.weights, found)}
        # about the order in which a backward pass completes them
        self._order = self.weights[::-1]
        self._had: list[bool] = []  # whether this rank had a gradient of those that were summed up
        self._complete: set[int] = set()
        self._sums = False  # whether the backward pass under way is the last one of an update
        for weight in self.weights:
            weight.register_post_accumulate_grad_hook(self._completed)

    def is_mine(self, weight: nn.Parameter) -> bool:
        return self.owner[id(weight)] == rank()

    # gradients

    def sum_in_backward(self) -> None:
        """To be called before the last backward pass of an update."""
        self._sums = True

    def _completed(self, weight: Tensor) -> None:
        if self._sums:
            self._complete.add(id(weight))
            while len(self._had) < len(self._order) and (
                id(self._order[len(self._had)]) in self._complete
            ):
                self._sum()

    def _sum(self) -> None:
        """Sums up the next gradient on its owner; the order is the same on all ranks."""
        weight = self._order[len(self._had)]
        self._had.append(weight.grad is not None)
        gradient = weight.grad
        if gradient is None:
            gradient = torch.zeros_like(weight, dtype=weight.grad_dtype or weight.dtype)
        dist.reduce(gradient, self.owner[id(weight)])
        weight.grad = gradient if self.is_mine(weight) else None

    def sum_gradients(self) -> None:
        """Sums up what no backward pass has. A weight without a gradient on any rank has none."""
        while len(self._had) < len(self._order):
            self._sum()
        counts = torch.tensor(self._had, dtype=torch.float32, device=self.weights[0].device)
        dist.all_reduce(counts)
        self._moved = {id(w) for w, count in zip(self._order, counts.tolist()) if count}
        for weight in self.weights:
            if id(weight) not in self._moved:
                weight.grad = None
        self._had, self._sums = [], False
        self._complete.clear()

    def norm(self, weights: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> Tensor:
        """The norm of the gradients of some weights over all ranks, as torch's `get_total_norm` has
        it; None stands for those of other ranks.
        """
        norms = torch.zeros(len(weights), device=self.weights[0].device)
        own = [n for n, gradient in enumerate(gradients) if gradient is not None]
        for n, norm in zip(own, torch._foreach_norm([gradients[n] for n in own]) if own else ()):
            norms[n] = norm
        dist.all_reduce(norms)
        present = [n for n, weight in enumerate(weights) if id(weight) in self._moved]
        return torch.linalg.vector_norm(norms[present])

    # weights

    @torch.no_grad()
    def send_weights(self) -> None:
        """Sends the weights that were moved to all ranks."""
        for weight in self.weights:
            if id(weight) in self._moved:
                dist.broadcast(weight.data, self.owner[id(weight)])
        torch.autograd.graph.increment_version(self.weights)

    # checkpoints

    def save(
        self, checkpoint: dict[str, Any], moved: Sequence[nn.Parameter], masters: Masters
    ) -> None:
        """Puts the moments and the masters of all ranks into the checkpoint of the first one.

        Args:
            checkpoint: with what this rank has.
            moved: the weights, as the optimizer numbers them.
            masters: with those of this rank's weights.
        """
        for optimizer in checkpoint.get("optimizer_states", ()):  # none in one of weights only
            own = optimizer["state"]
            optimizer["state"] = self._gathered(moved, partial(_of, own))
        if masters.names:
            state = masters.state()
            names = masters.names
            found = self._gathered(masters.rounded, lambda n: {"master": state[names[n]]})
            checkpoint["state_dict"] |= {
                f"model.{names[n]}": of["master"] for n, of in found.items()
            }

    def keep_own(self, checkpoint: dict[str, Any], moved: Sequence[nn.Parameter]) -> None:
        """Leaves in a checkpoint the moments of this rank's weights."""
        for optimizer in checkpoint["optimizer_states"]:
            optimizer["state"] = {
                n: of for n, of in optimizer["state"].items() if self.is_mine(moved[n])
            }

    def _gathered(
        self, weights: Sequence[nn.Parameter], values: Callable[[int], Mapping[str, Any]]
    ) -> dict[int, dict[str, Any]]:
        """What owners have of each weight, by its number, on the first rank, in the memory of the
        processor; {} on others, which must call this, too.

        Args:
            weights: in an order that is the same on all ranks.
            values: number -> what its owner has of a weight: tensors, and plain data.
        """
        mine = {n: dict(values(n)) for n, weight in enumerate(weights) if self.is_mine(weight)}
        shapes = {
            n: {k: (v.shape, v.dtype) if isinstance(v, Tensor) else v for k, v in of.items()}
            for n, of in mine.items()
        }
        kinds = {n: of for ranks in gather_over_ranks(shapes) for n, of in ranks.items()}
        found: dict[int, dict[str, Any]] = {}
        for n, weight in enumerate(weights):
            for name, kind in kinds[n].items():
                value = mine[n][name] if n in mine else kind
                if isinstance(kind, tuple) and isinstance(kind[0], torch.Size):
                    if n not in mine:
                        value = torch.empty(kind[0], dtype=kind[1], device=weight.device)
                    value = value.to(weight.device)
                    dist.broadcast(value, self.owner[id(weight)])
                    value = value.to("cpu", copy=True) if rank() == 0 else None
                found.setdefault(n, {})[name] = value
        return found if rank() == 0 else {}
