"""A policy with whole weights, made of one whose weights are shared out over the ranks: for engines
of this process, exports and their certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.masters import to_bfloat16
from slm_math.policy.sharding import whole
from slm_math.policy.sight import Sight


def skeleton(
    policy: Policy,
    roles: Sequence[str],
    frozen: Mapping[str, str],
    sight: Sight | None,
    rounded: bool,
) -> LoadedPolicy:
    """The policy as it is loaded, for weights that are to come; in bfloat16 if it is `rounded`."""
    with torch.random.fork_rng():  # new adapters are drawn
        loaded = policy.load(roles, frozen, sight)
    loaded.model.requires_grad_(False)
    if rounded:
        to_bfloat16(loaded.model)
    return loaded


@torch.no_grad()
def copy_weights(
    source: LoadedPolicy, target: LoadedPolicy | None, names: Collection[str] | None = None
) -> None:
    """Gathers weights one by one, all or those of some `names`, and puts them into another policy.
    All ranks must call this; None is for those that need no copy.
    """
    targets = {} if target is None else dict(target.model.named_parameters())
    for name, weight in source.model.named_parameters():
        if names is None or name in names:
            value = whole(weight)
            if name in targets:
                targets[name].copy_(value)
    if target is not None:  # keys, values and features that were made with other weights
        torch.autograd.graph.increment_version(list(targets.values()))


class EngineCopy:
    """The policy that the engine of this process decodes with, where ranks have slices of the
    weights: they decode different numbers of tokens, and could not gather weights for each.

    Args:
        policy: of whole weights, whatever these are so far.
        device: where it decodes.
    """

    def __init__(self, policy: LoadedPolicy, device: torch.device) -> None:
        self.policy = policy
        self.policy.model.to(device)
        self.step: int | None = None  # whose weights these are

    def refresh(self, source: LoadedPolicy, step: int) -> None:
        """Takes over the weights of a step; all ranks must do so. Weights that are not trained come
        once.
        """
        if self.step != step:
            copy_weights(source, self.policy, None if self.step is None else source.trainable)
            self.step = step

    @contextmanager
    def context(
        self, forward: Callable[[], AbstractContextManager[Any]], role: str
    ) -> Iterator[None]:
        """What a forward pass of a role runs in; `forward` is the context of its precision."""
        with forward(), self.policy.use(role):
            yield
