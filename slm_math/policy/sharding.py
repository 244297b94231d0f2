"""Weights that are shared out over the ranks (FSDP2, torch's `fully_shard`): how they become so, a
forward pass with them, and their way back to whole tensors.

A rank stores a slice of the first axis of each weight, of its gradient and of its moments. The
weights of a decoder layer are whole only while that layer computes; those outside of the layers
(embeddings, the last norm, the head) for a forward and backward pass. The weights of adapters stay
whole on every rank, as under DDP: they are few, and roles train different ones at a time.

Every pass is a collective operation: all ranks must make the same passes in the same order, those
that have nothing to compute an idle one (`LoadedPolicy.idle`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from slm_math.policy.compiling import layers_of

T = TypeVar("T")


class Pass(nn.Module):
    """A forward pass as a module, around which `fully_shard` gathers the weights outside of the
    layers. A policy runs its decoder and its head apart, and the head several times.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], T]) -> T:
        return work()


def shard(
    model: Any,
    base: Any,
    mesh: DeviceMesh,
    whole: Collection[nn.Parameter] = (),
    rounded: bool = False,
) -> Any:
    """Shares out the weights of a model on the processor, layer by layer; returns its `Pass`.

    Args:
        model: a model, with peft's wrapper if it has adapters.
        base: the transformers model.
        mesh: the ranks, on their devices.
        whole: the weights that every rank keeps.
        rounded: compute with weights rounded to bfloat16. The slices stay in fp32, and gradients
            are summed up in fp32.
    """
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if rounded:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy, "ignored_params": set(whole)}
    for layer in layers_of(base):
        fully_shard(layer, **options)
    root: Any = fully_shard(Pass(model), **options)
    for module in root.modules():
        if isinstance(module, type(root).__mro__[1]):  # torch's FSDPModule
            # a loss is normalized over all ranks: gradients are summed up
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return root


def one_pass(root: Any, work: Callable[[], T]) -> T:
    """The result of `work`, which runs the model of a `Pass`; its tensors must be in tuples, lists
    and dictionaries.
    """
    result = root(work)
    if not torch.is_grad_enabled():
        root.reshard()  # no backward pass will do so
    return result


def is_slice(value: Any) -> bool:
    """Whether a rank has a slice of a tensor only."""
    return isinstance(value, DTensor)


def whole(value: Any) -> Any:
    """A tensor with the slices of all ranks, which all must ask for; other values as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def own(value: Tensor) -> Tensor:
    """This rank's slice of a tensor; a tensor that is whole as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def like(value: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor, shared out as a weight of its shape is; each rank takes its own part."""
    if not isinstance(weight, DTensor) or isinstance(value, DTensor):
        return value
    value = value.to(weight.device)
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


def gathered(
    named: Iterable[tuple[str, Tensor]], keep: bool, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Whole tensors in the memory of the processor, gathered one by one; {} on ranks that do not
    `keep` them, and must call this nevertheless.
    """
    found: dict[str, Tensor] = {}
    for name, value in named:
        full = whole(value)
        if keep:
            found[name] = full.detach().to("cpu", dtype or full.dtype, copy=True)
    return found
