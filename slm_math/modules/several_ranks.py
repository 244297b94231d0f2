"""A module whose ranks share the work of an update: with slices of the weights (`fsdp2`), or with
moments of different weights (`optim.sharded`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from slm_math.modules.fsdp import FSDP2
from slm_math.modules.owned import Owned
from slm_math.modules.updating import Updating
from slm_math.modules.whole_policy import copy_weights, skeleton
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.masters import PRECISION, round_reference


class RankedModule(Updating):
    """A policy under training, on any number of ranks."""

    policy: Policy
    frozen: dict[str, str]
    loaded: LoadedPolicy | None = None

    @property
    def chat(self) -> ChatFormat:
        raise NotImplementedError

    # slices of the weights

    @property
    def shares_out(self) -> bool:
        """Whether each rank has a slice of the weights."""
        return isinstance(self.trainer.strategy, FSDP2)

    def share_out(self, mesh: DeviceMesh) -> None:
        """Leaves this rank a slice of the weights, for the strategy `fsdp2`."""
        assert self.loaded is not None
        self.loaded.share_out(mesh, rounded=self.trainer.precision == PRECISION)

    def round_all(self, loaded: LoadedPolicy) -> None:
        """Rounds a policy to bfloat16, whose weights keep masters in fp32: slices of all weights
        are their own, and are rounded when they are gathered.
        """
        if self.shares_out and not loaded.adapters:
            round_reference(loaded)
        else:
            self.masters.round_all(loaded)

    def skeleton(self) -> LoadedPolicy:
        """The policy on the processor, for weights that are to come."""
        rounded = self.trainer.precision == PRECISION
        sight = self.chat.sight
        return skeleton(self.policy, self.train_roles, self.frozen, sight=sight, rounded=rounded)

    def whole(self) -> LoadedPolicy | None:
        """The policy with whole weights. Where these are shared out, it is on the processor of the
        first rank, and None on the others, which must call this, too.
        """
        if not self.shares_out or self.loaded is None:
            return self.loaded
        target = self.skeleton() if self.trainer.is_global_zero else None
        copy_weights(self.loaded, target)
        return target

    # moments of different weights

    def find_owners(self, loaded: LoadedPolicy) -> None:
        """Decides which rank moves which weight, if `optim.sharded`."""
        if self.optim.sharded and self.trainer.world_size > 1 and self.owned is None:
            self.owned = Owned(loaded.parameters())

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the trained weights, without a state."""
        assert self.loaded is not None
        groups = self.loaded.groups(self.train_roles)
        return self.optim.build({role: self.masters.of(ps) for role, ps in groups.items()})

    def _numbered(self) -> list[nn.Parameter]:
        """The trained weights in the order in which checkpoints number them."""
        groups = self.make_optimizer().param_groups
        return self.masters.rounded_of(p for group in groups for p in group["params"])

    def save_owned(self, checkpoint: dict[str, Any]) -> None:
        """Puts the moments and masters of all ranks into the checkpoint of the first one."""
        if self.owned is not None:
            self.owned.save(checkpoint, self._numbered(), self.masters)

    def keep_owned(self, checkpoint: dict[str, Any]) -> None:
        """Leaves in a checkpoint that is loaded the moments of this rank's weights."""
        if self.owned is not None and self.trainer.state.fn == "fit":
            self.owned.keep_own(checkpoint, self._numbered())

    def release_masters(self) -> None:
        """Frees the masters of weights that other ranks move."""
        if self.owned is not None:
            self.masters.release(self.owned.is_mine)
