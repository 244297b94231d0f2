"""A policy with whole weights, made of one whose weights are shared out over the ranks: for engines
of this process, exports and their certificates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

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
