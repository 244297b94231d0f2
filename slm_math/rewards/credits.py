"""Credits: which turns of a role earned its advantage. They distribute an advantage and never
change its sum.

Axes: K turns of one role in one trace; n_t loss tokens of turn t, N of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Credit:
    """A score, and how much each turn of the role contributed to it.

    Args:
        score: the unweighted score of the trace, as a reward without credits returns it.
        turns: (K,) weights w_t >= 0 of the turns of the reward's role, in the order of the trace.
            Only their ratios matter. All 0 means no preference: the advantage stays even.
        blame: (K,) these weights where the advantage is negative, for turns that did harm; None
            takes `turns` there, too.

    Raises ValueError for weights that are negative or not finite: the sign of the advantage says
    whether a turn is made more or less likely.
    """

    score: float | None
    turns: tuple[float, ...]
    blame: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, weights in (("turns", self.turns), ("blame", self.blame)):
            if weights is None:
                continue
            object.__setattr__(self, name, tuple(float(weight) for weight in weights))
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
                raise ValueError(
                    f"the weights of a credit must be finite and at least 0, got {weights}"
                )
        if self.blame is not None and len(self.blame) != len(self.turns):
            raise ValueError(
                f"a credit has {len(self.turns)} turns and blame for {len(self.blame)}: give each "
                "turn a weight"
            )

    def weights(self, negative: bool) -> tuple[float, ...]:
        """The weights of the turns for an advantage of this sign."""
        return self.blame if negative and self.blame is not None else self.turns


def combined(
    credits: Sequence[tuple[float, Credit]], negative: bool = False
) -> tuple[float, ...] | None:
    """The weights of a role's turns, from (weight of the reward, credit) pairs: (K,), sum 1.

    w_t = sum_k |weight_k| * w_kt / sum_u w_ku, divided by its sum. A reward of weight 0 and a
    credit without preference do not count; None when nothing counts. A reward of negative weight
    is earned by what it blames.

    Args:
        negative: the weights for a negative advantage.
    """
    sides = [(weight, credit.weights(negative != (weight < 0))) for weight, credit in credits]
    shares = [
        [abs(weight) * part for part in _normalized(turns)]
        for weight, turns in sides
        if weight and any(turns)
    ]
    return tuple(_normalized([math.fsum(column) for column in zip(*shares)])) if shares else None


def turn_factors(weights: Mapping[int, float], tokens: Mapping[int, int]) -> dict[int, float]:
    """The factor of the advantage at each turn: f_t = w_t * N / sum_u (w_u * n_u).

    `weights` (w) and `tokens` (n: loss tokens) are by turn; a turn without a weight has weight 0.
    The sum of n_t * f_t is N, so the advantages A * f_t of all loss tokens sum to A * N: what they
    sum to without credits. Equal weights give f_t = 1. f_t is the credit of every *token* of turn
    t, so a long turn with the weight of a short one takes a larger share. Without loss tokens in
    any turn of positive weight there is nothing to distribute to, and all factors are 1.
    """
    largest = max((weights.get(turn, 0.0) for turn, count in tokens.items() if count), default=0.0)
    if not largest:
        return dict.fromkeys(tokens, 1.0)
    scaled = {turn: weights.get(turn, 0.0) / largest for turn in tokens}
    if all(scaled[turn] == 1.0 for turn, count in tokens.items() if count):
        return dict.fromkeys(tokens, 1.0)
    share = sum(tokens.values()) / math.fsum(scaled[turn] * tokens[turn] for turn in tokens)
    return {turn: scaled[turn] * share for turn in tokens}


def _normalized(values: Sequence[float]) -> list[float]:
    """Values divided by their sum; by their maximum first, so that no sum overflows."""
    largest = max(values)
    scaled = [value / largest for value in values]
    total = math.fsum(scaled)
    return [value / total for value in scaled]
