"""Collective operations over all ranks; with a single rank they return its own values."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn

T = TypeVar("T")


def rank_count() -> int:
    """The number of ranks."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return torch.distributed.get_rank() if rank_count() > 1 else 0


def sum_over_ranks(value: float, device: torch.device | str = "cpu") -> float:
    """The sum of a number over all ranks, in float64."""
    if rank_count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return total.item()


def most_over_ranks(count: int, device: torch.device | str = "cpu") -> int:
    """The largest of the counts of all ranks."""
    if rank_count() == 1:
        return count
    largest = torch.tensor(count, device=device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


def gather_over_ranks(value: T) -> list[T]:
    """The values of all ranks, in the order of ranks."""
    ranks = rank_count()
    if ranks == 1:
        return [value]
    values: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(values, value)
    return values


def exchange_over_ranks(parts: Mapping[int, T], device: torch.device | str = "cpu") -> list[T]:
    """What other ranks have for this one, in their order; `parts` is what this rank has for others:
    rank -> value. Nobody else gets a value. All ranks must call this.

    Values travel as bytes, in tensors on `device`: where the ranks' backend communicates.
    """
    ranks = rank_count()
    # as `all_gather_object` does; these are processes of one run, and nothing comes from outside
    sent = [pickle.dumps(parts[to]) if to in parts else b"" for to in range(ranks)]
    sizes = torch.tensor([len(each) for each in sent], device=device)
    incoming = torch.empty_like(sizes)
    torch.distributed.all_to_all_single(incoming, sizes)
    counts = incoming.tolist()
    content = torch.frombuffer(bytearray(b"".join(sent) or b" "), dtype=torch.uint8)
    received = torch.empty(sum(counts), dtype=torch.uint8, device=device)
    torch.distributed.all_to_all_single(
        received,
        content[: sum(map(len, sent))].to(device),
        output_split_sizes=counts,
        input_split_sizes=sizes.tolist(),
    )
    return [
        pickle.loads(part.numpy().tobytes()) for part in received.cpu().split(counts) if len(part)
    ]


def sum_gradients(parameters: Iterable[nn.Parameter], device: torch.device | str = "cpu") -> None:
    """Sums gradients over all ranks in one all-reduce; a rank without rows contributes zeros.

    A parameter that has no gradient on any rank keeps none, because with a gradient of zero the
    optimizer's momentum would still move it.
    """
    if rank_count() == 1:
        return
    params = list(parameters)
    has_gradient = torch.tensor([float(p.grad is not None) for p in params], device=device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), has_gradient])
    torch.distributed.all_reduce(flat)
    start = 0
    for p, ranks_with_gradient in zip(params, flat[-len(params) :].tolist()):
        p.grad = flat[start : start + p.numel()].view_as(p) if ranks_with_gradient else None
        start += p.numel()
