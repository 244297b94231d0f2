"""How far an exported model and the policy agree, in tokens, replies and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Case = Mapping[str, Any]
FAR = 1e9  # nats


def tolerance_of(dtype: str, on_cpu: bool = True, quantized: bool = False) -> dict[str, float]:
    """The largest and the mean difference of log-probabilities, in nats, that may be.

    Two computations in fp32 on a CPU differ by about 1e-5, those of a GPU, with other kernels, by
    more. Weights in bf16 are rounded in their third digit. A policy over a base of 4 bits differs
    from the same adapter over the whole base.
    """
    if quantized:
        return {"largest": 10.0, "mean": 0.5}
    if dtype == "bfloat16":
        return {"largest": 0.5, "mean": 0.05}
    return {"largest": 2e-3, "mean": 5e-4} if on_cpu else {"largest": 5e-2, "mean": 1e-2}


@dataclass
class Agreement:
    """What was compared.

    Args:
        prompts: chats whose text and tokens were compared.
        refused: chats that the template refuses, as it does the policy's.
        replies: greedy replies that are equal to the last token.
        ties: greedy replies that part at two tokens that are equally likely within the tolerance.
        tokens: log-probabilities that were compared.
        largest, mean: their differences, in nats.
        problems: what differs by more than it may, in words.
    """

    prompts: int = 0
    refused: int = 0
    replies: int = 0
    ties: int = 0
    tokens: int = 0
    largest: float = 0.0
    mean: float = 0.0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    expected: Sequence[Case], found: Sequence[Case], tolerance: Mapping[str, float]
) -> Agreement:
    """Compares what the policy makes of chats with what an exported model makes of them. Once the
    prompts differ, nothing else of theirs can be compared.
    """
    result, gaps = Agreement(), []
    for number, (policy, model) in enumerate(zip(expected, found, strict=True), 1):
        problem = _of_prompt(policy, model)
        if problem:
            result.problems.append(f"{problem} (prompt {number})")
            continue
        if not policy["ids"]:
            result.refused += 1
            continue
        result.prompts += 1
        gaps += _gaps(policy["logprobs"], model["logprobs"])
        gaps += _gaps(policy["fixed_logprobs"], model["fixed"])
        part = _parting(policy, model)
        if part is None:
            result.replies += 1
        elif part <= 2 * tolerance["largest"]:
            result.ties += 1
        else:
            result.problems.append(
                f"weights: the greedy reply is another, where the policy's token is {part:.3g} "
                f"nats less likely (prompt {number})"
            )
    if not result.prompts and not result.problems:
        result.problems.append("template: it refuses every prompt, so that nothing was compared")
    result.tokens = len(gaps)
    if gaps:
        result.largest, result.mean = max(gaps), math.fsum(gaps) / len(gaps)
        kinds = {"largest": result.largest, "mean": result.mean}
        over = [kind for kind, gap in kinds.items() if gap > tolerance[kind]]
        if over:
            result.problems.insert(
                0,
                f"weights: log-probabilities differ by {kinds[over[0]]:.3g} nats ({over[0]} of "
                f"{len(gaps)}), and {tolerance[over[0]]:g} is allowed",
            )
    return result


def _of_prompt(policy: Case, model: Case) -> str | None:
    """What differs in the text and the tokens of a chat."""
    refused = model["refused"]
    if not policy["ids"]:
        return (
            None if refused is not None else "template: it takes a chat that the policy's refuses"
        )
    if refused is not None:
        return f"template: it refuses a chat: {refused}"
    if policy["text"] != model["text"]:
        at = _first_difference(policy["text"], model["text"])
        return (
            f"template: it writes {model['text'][at : at + 24]!r} where the policy's writes "
            f"{policy['text'][at : at + 24]!r}, at character {at}"
        )
    for name in ("ids", "whole"):
        if policy[name] != model[name]:
            at = _first_difference(policy[name], model[name])
            return f"tokens: the tokenizer makes others of the same text, from token {at} on"
    return None


def _gaps(policy: Sequence[float], model: Sequence[float]) -> list[float]:
    """Absolute differences; what is no number is as far away as can be."""
    gaps = [abs(one - other) for one, other in zip(policy, model, strict=True)]
    return [gap if gap < FAR else FAR for gap in gaps]


def _parting(policy: Case, model: Case) -> float | None:
    """By how many nats the policy's token is less likely than the likeliest, to the exported model,
    where the greedy replies part; None if they are equal.
    """
    if policy["reply"] == model["reply"]:
        return None
    at = _first_difference(policy["reply"], model["reply"])
    if at >= len(policy["reply"]):  # it goes on where the policy stops
        return FAR
    return model["best"][at] - model["logprobs"][at]


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    pairs = enumerate(zip(one, other))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
