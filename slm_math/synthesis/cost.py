"""What requests cost: prices, what was spent by role, and a budget that ends the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slm_math.ranges import check_number, check_whole


@dataclass(frozen=True)
class Price:
    """What an endpoint charges.

    Args:
        input: USD per million tokens of prompts.
        output: USD per million tokens of replies, reasoning included.
    """

    input: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        check_number("price.input", self.input, low=0)
        check_number("price.output", self.output, low=0)

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for a request."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


@dataclass(frozen=True)
class Spent:
    """What some answered requests took.

    Args:
        requests: answered requests.
        prompt_tokens: of their prompts, as the server counts them.
        completion_tokens: of their replies, as the server counts them.
        usd: their price.
        estimated: requests whose tokens the server did not count; they are estimated from
            characters.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    estimated: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of prompts and replies."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            usd=self.usd + other.usd,
            estimated=self.estimated + other.estimated,
        )

    def __sub__(self, other: Spent) -> Spent:
        return Spent(
            requests=self.requests - other.requests,
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            usd=self.usd - other.usd,
            estimated=self.estimated - other.estimated,
        )


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend in all of its sessions; None sets no limit.

    Args:
        usd: the most money, at the prices of the roles.
        tokens: the most tokens of prompts and replies.
    """

    usd: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.usd is not None:
            check_number("budget.usd", self.usd, low=0)
        check_whole("budget.tokens", self.tokens, low=0, optional=True)

    def is_spent(self, spent: Spent) -> bool:
        """Whether nothing is left."""
        money = self.usd is not None and spent.usd >= self.usd
        return money or (self.tokens is not None and spent.tokens >= self.tokens)

    def covers(self, spent: Spent) -> bool:
        """Whether all of this may be spent."""
        money = self.usd is None or spent.usd <= self.usd
        return money and (self.tokens is None or spent.tokens <= self.tokens)

    def __str__(self) -> str:
        parts = [] if self.usd is None else [f"{self.usd:g} USD"]
        parts += [] if self.tokens is None else [f"{self.tokens:,} tokens"]
        return " or ".join(parts) or "no budget"


class BudgetSpent(RuntimeError):
    """The budget ends the run. Everything that was answered is kept."""


class Spending:
    """What was asked and answered, by role."""

    def __init__(self) -> None:
        self._by_role: dict[str, Spent] = {}
        self.total = Spent()  # what all roles spent

    def add(self, role: str, spent: Spent) -> None:
        """Counts requests of a role."""
        self._by_role[role] = self.of(role) + spent
        self.total += spent

    def of(self, role: str) -> Spent:
        """What one role spent."""
        return self._by_role.get(role, Spent())

    @property
    def roles(self) -> Mapping[str, Spent]:
        """What each role spent, in the order in which the roles first asked."""
        return dict(self._by_role)


def check_priced(budget: Budget, prices: Mapping[str, Price], roles: Sequence[str]) -> None:
    """Raises ValueError for a budget in USD where a role has no price."""
    missing = [] if "default" in prices else [role for role in roles if role not in prices]
    if budget.usd is not None and missing:
        raise ValueError(
            f"budget.usd needs the price of {', '.join(missing)}: set prices.{missing[0]}.input "
            f"and prices.{missing[0]}.output (USD per million tokens, 0 if it costs nothing)"
        )
