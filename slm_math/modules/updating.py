"""One update of the weights: gradients of all ranks, clipped by role; a step of the optimizer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor, nn

from slm_math.modules.optim import Optim
from slm_math.modules.owned import Owned
from slm_math.policy.masters import Masters
from slm_math.policy.ranks import sum_gradients
from slm_math.policy.sharding import is_slice, own, whole


class Updating(L.LightningModule):
    """A module with manual optimization, whose subclasses call `step_optimizer` once per update.

    Args:
        optim: optimizer and schedule.
        train_roles: the roles that are trained.
    """

    def __init__(self, optim: Optim, train_roles: Sequence[str]) -> None:
        super().__init__()
        self.optim = optim
        self.train_roles = tuple(train_roles)
        self.automatic_optimization = False
        self.masters = Masters()  # none, unless weights are bfloat16
        self.owned: Owned | None = None  # where ranks move different weights
        self.skipped = 0  # updates without a finite gradient, which change nothing
        self._skipped_in_a_row = 0

    @property
    def learning_roles(self) -> tuple[str, ...]:
        """The roles that learn in the present step; the others' weights, moments and rates stay as
        they are.
        """
        return self.train_roles

    def update_backward(self, loss: Tensor, last: bool) -> None:
        """The backward pass of a micro-batch; `last` is that of an update."""
        if last and self.owned is not None:
            self.owned.sum_in_backward()
        loss.backward()

    def step_optimizer(self) -> float:
        """Reduces gradients over ranks, clips them per role, steps; returns the gradient norm
        before clipping.
        """
        optimizer = self.optimizers()
        if self.owned is not None:
            self.owned.sum_gradients()
        self.masters.take_gradients()
        groups: dict[str, list[nn.Parameter]] = {}
        for group in optimizer.param_groups:
            if group["role"] in self.learning_roles:  # the rest has no gradient, and is skipped
                groups.setdefault(group["role"], []).extend(group["params"])
        if self.owned is None:  # gradients of weights that are shared out are summed up already
            unsummed = (p for params in groups.values() for p in params if not is_slice(p))
            sum_gradients(unsummed, self.device)
        norms = [self._clipped(params) for params in groups.values()]
        norm = torch.stack([n.float() for n in norms]).norm().item()  # the one wait of an update
        if math.isfinite(norm):
            optimizer.step()
            # remembered features go by versions, which fused and paged kernels leave as they are
            torch.autograd.graph.increment_version([own(p) for ps in groups.values() for p in ps])
            self.masters.round()
            if self.owned is not None:
                self.owned.send_weights()
            self._skipped_in_a_row = 0
        else:
            self._skip(norm)
        self.step_schedule(math.isfinite(norm))
        optimizer.zero_grad()
        torch.clear_autocast_cache()  # casts of the old weights
        return norm

    def _clipped(self, params: list[nn.Parameter]) -> Tensor:
        """Clips the gradients of a role, of all ranks; returns their norm before."""
        clip = self.optim.clip or float("inf")
        if self.owned is None:
            return whole(torch.nn.utils.clip_grad_norm_(params, clip))
        gradients = [p.grad for p in params]
        norm = self.owned.norm(self.masters.rounded_of(params), gradients)
        torch.nn.utils.clip_grads_with_norm_(params, clip, norm)
        return norm

    def step_schedule(self, updated: bool) -> None:
        """Steps the learning rate: with `max_steps`, which counts updates, only after one, else
        after every batch.
        """
        with warnings.catch_warnings():
            # on purpose where nothing was trained yet; torch cannot know that there was no update
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step", UserWarning)
            if updated or self.trainer.max_steps == -1:
                self.lr_schedulers().advance(self.learning_roles)  # type: ignore[union-attr]

    def _skip(self, norm: float) -> None:
        """An update without finite gradients changes nothing; three in a row are the end (on all
        ranks alike).
        """
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == 3:
            raise ValueError(
                f"training diverged: three updates in a row had no finite gradient (norm {norm}); "
                f"lower optim.lr"
            )
        if self.skipped == 1 and self.trainer.is_global_zero:
            print(f"update skipped: the gradient is not finite (norm {norm})", flush=True)
