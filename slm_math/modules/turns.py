"""Whose turn it is to learn, where roles learn one after another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from slm_math.policy.config import Policy
from slm_math.ranges import check_whole


@dataclass(frozen=True)
class Turns:
    """The turns of trained roles, in their order.

    Args:
        roles: the trained roles.
        every: steps after which the turn passes to the next role; None: all learn in every step. A
            step counts also if nothing was learned in it.
    """

    roles: tuple[str, ...]
    every: int | None = None

    def at(self, step: int) -> tuple[str, ...]:
        """The roles that learn in a step, counted from 0 over the whole run."""
        if self.every is None:
            return self.roles
        return (self.roles[step // self.every % len(self.roles)],)

    def updates_of(self, role: str, updates: int, passes: int) -> int:
        """In how many of the first `updates` a role learns, with `passes` of them a step."""
        if self.every is None:
            return updates
        turn = self.every * passes
        cycles, rest = divmod(updates, turn * len(self.roles))
        return cycles * turn + min(max(rest - self.roles.index(role) * turn, 0), turn)

    def metrics(self, learning: Collection[str]) -> dict[str, float]:
        """`<role>/learns`: 1 for the roles that learn in a step, 0 for those that wait; {} where
        all learn.
        """
        if self.every is None:
            return {}
        return {f"{role}/learns": float(role in learning) for role in self.roles}


def check_turns(turns: Turns, policy: Policy) -> None:
    """Raises ValueError for turns that change nothing, or that a role cannot wait for."""
    check_whole("alternate", turns.every, optional=True)
    if turns.every is None:
        return
    if len(turns.roles) < 2:
        raise ValueError(
            f"alternate passes the turn from role to role, and train_roles names "
            f"{', '.join(turns.roles)} only: name another one or unset alternate"
        )
    if policy.shared_adapter or not policy.has_adapters:
        what = "one adapter (policy.shared_adapter)" if policy.has_adapters else "all weights"
        raise ValueError(
            f"alternate: {' and '.join(turns.roles)} share {what}, so none of them would wait "
            "while another one learns: give each its own adapter (policy.lora, without "
            "policy.shared_adapter) or unset alternate"
        )
