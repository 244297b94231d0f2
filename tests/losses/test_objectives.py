"""Every objective against its formula: a hand-built batch of unequal rows, off-policy, advantages
of both signs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.logprobs import token_logprobs
from slm_math.losses.objective import Objective
from slm_math.losses.policy import policy_loss, row_weights

Close = Callable[[Tensor | None, Any], None]

LENGTHS = [3, 1, 4, 2]
GROUPS = [0, 0, 1, 1]
ROW = [n for n, length in enumerate(LENGTHS) for _ in range(length)]
STARTS = [0, 3, 4, 8, 10]
BUDGET = 8
# multiples of 1/64 are exact in float32, too; the ratios lie within, above and below all bounds,
# for both signs
LOGPS = [k / 64 for k in (-40, -90, -3, -200, -64, -10, -128, -70, -33, -150)]
GAPS = [k / 64 for k in (6, 40, -50, 30, -30, 45, -4, 96, 0, -20)]
OLD = [logp - gap for logp, gap in zip(LOGPS, GAPS)]
ADVANTAGES = [[1.5] * 3, [-0.75] * 1, [-1.25] * 4, [0.5] * 2]
FLAT = [a for row in ADVANTAGES for a in row]
LOW, HIGH = 0.25, 0.375
TAU = (1.0, 1.05)

ALL = ["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "gspo_token", "cispo", "sapo", "adjusted"]


def weight(kind: str, n: int) -> float:
    """Of each token of row n, as the papers average: over tokens and rows, tokens, or tokens of a
    group and groups.
    """
    if kind in ("grpo", "gspo", "gspo_token", "sapo"):
        return 1 / LENGTHS[n] / len(LENGTHS)
    if kind in ("dapo", "cispo", "bnpo"):
        return 1 / sum(LENGTHS)
    if kind == "dr_grpo":
        return 1 / BUDGET / len(LENGTHS)
    assert kind == "adjusted"
    return 1 / sum(length for length, group in zip(LENGTHS, GROUPS) if group == GROUPS[n]) / 2


def clipped(
    ratio: float, advantage: float, low: float, high: float, dual: float = 0.0
) -> tuple[float, float]:
    """-> loss and its derivative by log ratio."""
    gain = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    flows = ratio <= 1 + high if advantage > 0 else ratio >= 1 - low
    if dual and advantage < 0 and ratio > dual:
        gain, flows = dual * advantage, False
    return -gain, -ratio * advantage * flows


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def expected(kind: str, dual: float = 0.0) -> tuple[float, list[float]]:
    """-> loss and gradient by the log-probabilities."""
    loss, gradient = 0.0, []
    for logp, gap, a, n in zip(LOGPS, GAPS, FLAT, ROW):
        ratio = math.exp(gap)
        if kind in ("gspo", "gspo_token"):
            ratio = math.exp(sum(GAPS[STARTS[n] : STARTS[n + 1]]) / LENGTHS[n])
        if kind == "cispo":
            cut = min(max(ratio, 1 - LOW), 1 + HIGH)
            value, slope = -cut * a * logp, -cut * a
        elif kind == "sapo":
            tau = TAU[0] if a > 0 else TAU[1]
            gate = sigmoid(tau * (ratio - 1))
            value, slope = -4 / tau * gate * a, -4 * gate * (1 - gate) * ratio * a
        else:
            value, slope = clipped(ratio, a, LOW, HIGH, dual)
        loss += weight(kind, n) * value
        gradient.append(weight(kind, n) * slope)
    return loss, gradient


@dataclass
class Inputs:
    logps: Tensor
    old: Tensor
    advantages: Tensor
    weights: Tensor
    row: Tensor

    @staticmethod
    def of(kind: str, dtype: torch.dtype, old: list[float] = OLD) -> Inputs:
        weights = [weight(kind, n) for n in ROW]
        logps, advantages = torch.tensor(LOGPS, dtype=dtype), torch.tensor(FLAT, dtype=dtype)
        return Inputs(
            logps.requires_grad_(),
            torch.tensor(old, dtype=dtype),
            advantages,
            torch.tensor(weights, dtype=dtype),
            torch.tensor(ROW),
        )

    def loss(self, objective: Objective, **more: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return policy_loss(
            self.logps, self.old, self.advantages, self.weights, self.row, objective, **more
        )


def objective(kind: str, **more: Any) -> Objective:
    clip = {} if kind == "sapo" else {"clip_low": LOW, "clip_high": HIGH}
    return Objective(kind=kind, **clip, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
def test_value_and_gradient_are_those_of_the_paper(
    kind: str, dtype: torch.dtype, close: Close
) -> None:
    inputs = Inputs.of(kind, dtype)
    loss, _ = inputs.loss(objective(kind))
    loss.backward()
    value, gradient = expected(kind)
    close(loss, value)
    close(inputs.logps.grad, gradient)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo", "adjusted", "gspo"])
def test_dual_clip_bounds_what_a_bad_token_can_cost(
    kind: str, dtype: torch.dtype, close: Close
) -> None:
    inputs = Inputs.of(kind, dtype)
    loss, _ = inputs.loss(objective(kind, dual_clip=1.5))
    loss.backward()
    value, gradient = expected(kind, dual=1.5)
    close(loss, value)
    close(inputs.logps.grad, gradient)
    assert kind == "gspo" or value != expected(kind)[0]


@pytest.mark.parametrize("kind", ["dr_grpo", "dapo", "gspo", "adjusted"])
def test_reduction_of_the_objective_gives_the_weights_of_the_paper(kind: str, close: Close) -> None:
    reduction = objective(kind).reduction
    total = {"sequence": 4, "constant": 4, "token": 10, "group": 2}[reduction]
    groups = torch.tensor(GROUPS) if reduction == "group" else None
    got = row_weights(torch.tensor(LENGTHS), reduction, total, groups, BUDGET)
    close(got, [weight(kind, n) for n in range(4)])


@pytest.mark.parametrize("kind", ALL)
def test_on_policy_gradient_is_the_plain_policy_gradient(
    kind: str, dtype: torch.dtype, close: Close
) -> None:
    inputs = Inputs.of(kind, dtype, LOGPS)
    loss, stats = inputs.loss(objective(kind, dual_clip=0.0 if kind in ("cispo", "sapo") else 3.0))
    loss.backward()
    close(inputs.logps.grad, [-weight(kind, n) * a for n, a in zip(ROW, FLAT)])
    assert stats["clip_low"].item() == stats["clip_high"].item() == 0


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "sapo"])
def test_on_policy_gradient_survives_a_clip_of_no_width(kind: str, close: Close) -> None:
    inputs = Inputs.of(kind, torch.float64, LOGPS)
    loss, _ = inputs.loss(Objective(kind=kind, clip_low=0.0, clip_high=0.0))  # type: ignore[arg-type]
    loss.backward()
    close(inputs.logps.grad, [-weight(kind, n) * a for n, a in zip(ROW, FLAT)])


def test_gspo_token_has_the_value_of_gspo_and_other_gradients_when_advantages_differ(
    close: Close,
) -> None:
    mixed = torch.tensor(
        [1.0, -0.5, 2.0, -0.75, -1.25, 0.25, -1.25, -2.0, 0.5, 1.5], dtype=torch.float64
    )
    losses, gradients = [], []
    for kind in ("gspo", "gspo_token"):
        inputs = Inputs.of(kind, torch.float64)
        inputs.advantages = mixed
        loss, _ = inputs.loss(objective(kind))
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, inputs.logps)[0])
    close(losses[0], losses[1])
    want_row, want_token = [], []
    for n in range(4):
        pieces = range(STARTS[n], STARTS[n + 1])
        ratio = math.exp(sum(GAPS[t] for t in pieces) / LENGTHS[n])
        slopes = [clipped(ratio, mixed[t].item(), LOW, HIGH)[1] / LENGTHS[n] / 4 for t in pieces]
        want_token += slopes
        want_row += [sum(slopes) / LENGTHS[n]] * LENGTHS[n]
    close(gradients[0], want_row)
    close(gradients[1], want_token)


@pytest.mark.parametrize("interleaved", [[0, 3, 4, 8, 1, 5, 9, 2, 6, 7], list(range(9, -1, -1))])
def test_gspo_does_not_care_about_the_order_of_tokens(interleaved: list[int], close: Close) -> None:
    inputs = Inputs.of("gspo", torch.float64)
    args = (inputs.logps, inputs.old, inputs.advantages, inputs.weights, inputs.row)
    loss, _ = policy_loss(*(value[interleaved] for value in args), objective("gspo"))
    close(loss, expected("gspo")[0])


def test_entropy_bonus_pulls_along_the_gradient_of_the_entropy(
    dtype: torch.dtype, close: Close
) -> None:
    logits = [[k / 8 for k in line] for line in ((3, -5, 8, 0), (1, 1, -9, 2), (0, 0, 0, 0))]
    temperatures, weights, bonus = [1.0, 0.5, 2.0], [0.5, 0.25, 0.125], 0.375
    want_loss, want = 0.0, []
    for line, temperature, w in zip(logits, temperatures, weights):
        scores = [math.exp(z / temperature) for z in line]
        probs = [score / sum(scores) for score in scores]
        entropy = -sum(p * math.log(p) for p in probs)
        want_loss -= w * bonus * entropy
        want.append([w * bonus / temperature * p * (math.log(p) + entropy) for p in probs])
    hidden = torch.tensor(logits, dtype=dtype, requires_grad=True)
    heat = torch.tensor(temperatures, dtype=dtype)
    logps, entropy, _ = token_logprobs(
        hidden, lambda x: x, torch.tensor([0, 1, 2]), heat, "gradient"
    )
    zeros, row = torch.zeros(3, dtype=dtype), torch.arange(3)
    w = torch.tensor(weights, dtype=dtype)
    loss, stats = policy_loss(
        logps, logps.detach(), zeros, w, row, Objective(entropy=bonus), entropy=entropy
    )
    loss.backward()
    close(loss, want_loss)
    close(hidden.grad, want)
    close(stats["policy_loss"], 0.0)


def test_entropy_that_is_only_watched_does_not_touch_the_loss(close: Close) -> None:
    inputs = Inputs.of("dapo", torch.float64)
    entropy = torch.linspace(0, 1, 10, dtype=torch.float64, requires_grad=True)
    loss, stats = inputs.loss(objective("dapo"), entropy=entropy)
    close(loss, expected("dapo")[0])
    close(stats["entropy"], 5.0)
    loss.backward()
    assert entropy.grad is None


def test_no_gradient_flows_into_old_advantages_or_weights() -> None:
    for kind in ALL:
        inputs = Inputs.of(kind, torch.float64)
        reference = inputs.old.clone()
        inputs.loss(objective(kind, beta=0.1), reference=reference, sampling=inputs.old)[
            0
        ].backward()
        assert inputs.logps.grad is not None
        assert (
            inputs.old.grad
            is inputs.advantages.grad
            is inputs.weights.grad
            is reference.grad
            is None
        )


@pytest.mark.parametrize("kind", ALL)
def test_batch_without_loss_tokens_has_loss_zero(kind: str) -> None:
    empty = torch.zeros(0, dtype=torch.float64)
    logps = empty.clone().requires_grad_()
    row = torch.zeros(0, dtype=torch.long)
    more = {"sampling": empty, "reference": empty, "entropy": empty}
    loss, _ = policy_loss(
        logps, empty, empty, empty, row, objective(kind, beta=0.1, entropy=0.1), **more
    )
    loss.backward()
    assert loss.item() == 0
