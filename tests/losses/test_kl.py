"""KL penalties by exact enumeration: expected values and expected gradients, against the
derivatives on paper.

With p = softmax(z) and l = log p - log q: d KL(p||q) / dz_j = p_j (l_j - KL); d KL(q||p) / dz_j =
p_j - q_j; sum_i p_i c_i dlog p_i / dz_j = p_j (c_j - E c) for c that does not depend on z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.objective import Objective
from slm_math.losses.policy import kl_estimate, policy_loss

Close = Callable[[Tensor | None, Any], None]

Z = [0.3, -1.2, 2.0, 0.0, -0.4, 1.1]
REFERENCE = [-0.7, 0.9, 0.2, 1.4, -2.0, 0.5]
OLD = [0.1, 0.2, 1.0, -1.0, 0.6, 0.4]


def softmax(scores: list[float]) -> list[float]:
    total = sum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


P, Q, O = softmax(Z), softmax(REFERENCE), softmax(OLD)  # noqa: E741
L = [math.log(p / q) for p, q in zip(P, Q)]
K1 = L
K2 = [value**2 / 2 for value in L]
K3 = [q / p - 1 + value for p, q, value in zip(P, Q, L)]
ESTIMATES = {"k1": K1, "k2": K2, "k3": K3, "k3_weighted": K3}


def mean(values: list[float]) -> float:
    return sum(p * value for p, value in zip(P, values))


KL = mean(L)
GRAD_KL = [p * (value - KL) for p, value in zip(P, L)]
GRAD_REVERSED = [p - q for p, q in zip(P, Q)]


def score_function(values: list[float]) -> list[float]:
    """The gradient of E c, c constant."""
    return [p * (value - mean(values)) for p, value in zip(P, values)]


# E k2 = sum p l^2 / 2: once through p, once through l
GRAD_K2 = [a + b for a, b in zip(score_function(K2), GRAD_KL)]


def outcomes() -> tuple[Tensor, Tensor, Tensor]:
    """-> logits with gradient, log-probabilities of all outcomes, those of the reference."""
    logits = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    return (
        logits,
        logits.log_softmax(-1),
        torch.tensor(REFERENCE, dtype=torch.float64).log_softmax(-1),
    )


def loss_gradient(
    options: dict[str, Any], advantages: list[float], sampled: list[float] = P
) -> tuple[Tensor, Tensor]:
    """Expectation of the policy loss, and its gradient, over the outcomes sampled with these
    probabilities.
    """
    logits, logps, reference = outcomes()
    probs = torch.tensor(sampled, dtype=torch.float64)
    gains = torch.tensor(advantages, dtype=torch.float64)
    objective = Objective(kind="cispo", clip_low=1.0, clip_high=1e9, **options)
    loss, _ = policy_loss(
        logps, probs.log(), gains, probs, torch.arange(6), objective, reference=reference
    )
    return loss, torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_estimates_are_the_formulas_of_schulman(
    kind: str, dtype: torch.dtype, close: Close
) -> None:
    logps, reference = [k / 64 for k in (-40, -90, -3)], [k / 64 for k in (-64, -10, -3)]
    gaps = [r - p for r, p in zip(reference, logps)]
    want = {
        "k1": [-d for d in gaps],
        "k2": [d * d / 2 for d in gaps],
        "k3": [math.exp(d) - 1 - d for d in gaps],
    }[kind]
    close(
        kl_estimate(torch.tensor(logps, dtype=dtype), torch.tensor(reference, dtype=dtype), kind),
        want,
    )


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(kind: str, close: Close) -> None:
    _, logps, reference = outcomes()
    close((torch.tensor(P, dtype=torch.float64) * kl_estimate(logps, reference, kind)).sum(), KL)


def test_k2_is_biased(close: Close) -> None:
    _, logps, reference = outcomes()
    got = (torch.tensor(P, dtype=torch.float64) * kl_estimate(logps, reference, "k2")).sum()
    close(got, mean(K2))
    assert abs(mean(K2) - KL) > 0.01


def test_k3_is_never_negative() -> None:
    _, logps, reference = outcomes()
    assert (kl_estimate(logps, reference, "k3") >= 0).all()
    assert (kl_estimate(logps, reference, "k1") < 0).any()


@pytest.mark.parametrize("gap", [1e-3, 1e-4, 1e-5, 0.0])
def test_k3_is_never_negative_at_tiny_gaps(gap: float, dtype: torch.dtype) -> None:
    logps = torch.linspace(-5, -0.1, 1000, dtype=dtype)
    assert (kl_estimate(logps, logps + gap) >= 0).all()
    assert (kl_estimate(logps, logps - gap) >= 0).all()


@pytest.mark.parametrize("kind", ["k2", "k3"])
@pytest.mark.parametrize("gap", [1.0, 19.0, 21.0, 50.0, 300.0, -1.0, -21.0, -300.0])
def test_no_penalty_pushes_away_from_the_reference(
    kind: str, gap: float, dtype: torch.dtype
) -> None:
    logps = torch.full((1,), -400.0, dtype=dtype, requires_grad=True)
    value = kl_estimate(logps, logps.detach() + gap, kind)
    [slope] = torch.autograd.grad(value.sum(), logps)
    assert value.isfinite().all()
    assert slope.isfinite().all()
    assert slope.item() * gap <= 0  # a step downhill raises what the reference finds likelier


def test_k3_does_not_fall_as_the_gap_grows(dtype: torch.dtype) -> None:
    gaps = torch.tensor([0.0, 1.0, 10.0, 19.0, 21.0, 40.0, 85.0, 200.0], dtype=dtype)
    values = kl_estimate(0 * gaps, gaps)
    assert (values.diff() >= 0).all()


@pytest.mark.parametrize("kind", ["dapo", "gspo", "gspo_token", "cispo"])
def test_weight_of_k3_is_the_ratio_of_the_token_whatever_the_objective(
    kind: str, close: Close
) -> None:
    gaps, distances = [0.5, -1.0, 0.25], [-0.5, 1.0, 0.75]  # log ratio, log reference - log policy
    logps = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    old, reference = (
        logps.detach() + s * torch.tensor(v).double() for s, v in ((-1, gaps), (1, distances))
    )
    ones = torch.ones(3, dtype=torch.float64)
    objective = Objective(kind=kind, beta=1.0, kl="k3_weighted")  # type: ignore[arg-type]
    row = torch.zeros(3, dtype=torch.long)
    loss, _ = policy_loss(logps, old, 0 * ones, ones, row, objective, reference=reference)
    close(loss, sum(math.exp(g) * (math.exp(d) - 1 - d) for g, d in zip(gaps, distances)))
    # d (r k3) = r k3 + r (1 - exp(d)) = -r d
    close(torch.autograd.grad(loss, logps)[0], [-math.exp(g) * d for g, d in zip(gaps, distances)])


IN_THE_LOSS = {"k1": [0.0] * 6, "k2": GRAD_KL, "k3": GRAD_REVERSED, "k3_weighted": GRAD_KL}


@pytest.mark.parametrize("kind", IN_THE_LOSS)
def test_expected_gradient_in_the_loss(kind: str, close: Close) -> None:
    loss, gradient = loss_gradient({"beta": 0.5, "kl": kind}, [0.0] * 6)
    close(loss, 0.5 * mean(ESTIMATES[kind]))
    close(gradient, [0.5 * value for value in IN_THE_LOSS[kind]])


IN_THE_REWARD = {
    "k1": (K1, GRAD_KL),
    "k2": (K2, [a - b for a, b in zip(GRAD_K2, GRAD_KL)]),
    "k3": (K3, [a - b for a, b in zip(GRAD_KL, GRAD_REVERSED)]),
}


@pytest.mark.parametrize("kind", IN_THE_REWARD)
def test_expected_gradient_in_the_reward(kind: str, close: Close) -> None:
    penalty, gradient = IN_THE_REWARD[kind]
    _, got = loss_gradient(
        {"beta": 0.5, "kl": kind, "kl_in": "reward"}, [-0.5 * value for value in penalty]
    )
    close(got, [0.5 * value for value in gradient])
    close(got, [0.5 * value for value in score_function(penalty)])


def test_kl_in_the_reward_is_only_watched_by_the_loss(close: Close) -> None:
    _, logps, reference = outcomes()
    ones = torch.ones(6, dtype=torch.float64)
    objective = Objective(beta=0.5, kl_in="reward")
    loss, stats = policy_loss(
        logps, logps.detach(), 0 * ones, ones, torch.arange(6), objective, reference=reference
    )
    close(loss, 0.0)
    close(stats["kl"], sum(K3))


def test_weighted_k3_has_the_gradient_of_kl_off_policy_too(close: Close) -> None:
    loss, gradient = loss_gradient({"beta": 1.0, "kl": "k3_weighted"}, [0.0] * 6, O)
    close(loss, KL)
    close(gradient, GRAD_KL)


def test_gradient_of_k3_in_the_reward_vanishes_to_second_order_near_the_reference() -> None:
    def size(kind: str, distance: float) -> float:
        base = torch.tensor(REFERENCE, dtype=torch.float64)
        logits = (base + distance * torch.tensor(Z, dtype=torch.float64)).requires_grad_()
        logps = logits.log_softmax(-1)
        penalty = kl_estimate(logps, base.log_softmax(-1), kind).detach()
        return (
            torch.autograd.grad((logps.exp().detach() * penalty * logps).sum(), logits)[0]
            .norm()
            .item()
        )

    assert size("k1", 1e-3) / size("k1", 1e-4) == pytest.approx(10, rel=0.01)
    assert size("k3", 1e-3) / size("k3", 1e-4) == pytest.approx(100, rel=0.01)


def sequences() -> tuple[Tensor, Tensor, Tensor]:
    """-> parameters, log-probabilities (9, 2) of the tokens of all sequences of two out of three
    tokens, reference.
    """
    generator = torch.Generator().manual_seed(3)
    # first step; second by what came first
    tables = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)

    def both(table: Tensor) -> Tensor:
        steps = table.log_softmax(-1)
        return torch.stack(
            [torch.stack((steps[0, a], steps[1 + a, b])) for a in range(3) for b in range(3)]
        )

    parameters = tables[0].clone().requires_grad_()
    return parameters, both(parameters), both(tables[1])


def sequence_kl_gradient(parameters: Tensor, logps: Tensor, reference: Tensor) -> Tensor:
    whole = logps.sum(1)
    return torch.autograd.grad(
        (whole.exp() * (whole - reference.sum(1))).sum(), parameters, retain_graph=True
    )[0]


def test_k1_in_the_reward_has_the_gradient_of_the_kl_of_sequences(close: Close) -> None:
    parameters, logps, reference = sequences()
    want = sequence_kl_gradient(parameters, logps, reference)
    probs = logps.sum(1).exp().detach()
    penalty = kl_estimate(logps, reference, "k1").sum(1).detach()
    loss, _ = policy_loss(
        logps.flatten(),
        logps.flatten().detach(),
        -penalty.repeat_interleave(2),
        probs.repeat_interleave(2),
        torch.arange(9).repeat_interleave(2),
        Objective(kind="dapo", beta=1.0, kl="k1", kl_in="reward"),
        reference=reference.flatten(),
    )
    close(torch.autograd.grad(loss, parameters)[0], want)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "k3_weighted"])
def test_no_estimate_in_the_loss_has_the_gradient_of_the_kl_of_sequences(kind: str) -> None:
    parameters, logps, reference = sequences()
    want = sequence_kl_gradient(parameters, logps, reference)
    probs = logps.sum(1).exp().detach().repeat_interleave(2)
    loss, _ = policy_loss(
        logps.flatten(),
        logps.flatten().detach(),
        0 * probs,
        probs,
        torch.arange(9).repeat_interleave(2),
        Objective(kind="dapo", beta=1.0, kl=kind),  # type: ignore[arg-type]
        reference=reference.flatten(),
    )
    got = torch.autograd.grad(loss, parameters)[0]
    assert (got - want).abs().max().item() > 1e-3
