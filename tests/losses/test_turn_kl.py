"""A KL weight of its own for a role's first turn: its loss and gradient against a closed form in
float64, which tokens get it, and what it needs.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from slm_math.answers.graded import grade_trace
from slm_math.losses.objective import Objective
from slm_math.losses.policy import policy_loss
from slm_math.rollout.groups import Rollout
from slm_math.rollout.rows import training_rows
from slm_math.rollout.signals import Signals, token_betas
from slm_math.types import Generate, Problem, Reply, Task, Trace, Turn, user

LOGPS, OLD = [-0.5, -1.25, -2.0, -0.75], [-0.5, -1.0, -2.5, -0.75]
REFERENCE = [-1.0, -1.0, -1.5, -2.0]
ADVANTAGES, WEIGHTS = [1.0, 1.0, -0.5, -0.5], [0.25, 0.25, 0.5, 0.125]
BETAS = [2.0, 2.0, 0.125, 0.0]


def kl_and_slope(kind: str, logp: float, old: float, reference: float) -> tuple[float, float]:
    """A token's KL term, and its derivative by the log-probability, written out."""
    d, ratio = reference - logp, math.exp(logp - old)
    k3, k3_slope = math.exp(d) - 1 - d, 1 - math.exp(d)
    return {
        "k1": (-d, 1.0),
        "k2": (d * d / 2, -d),
        "k3": (k3, k3_slope),
        "k3_weighted": (ratio * k3, ratio * (k3 + k3_slope)),
    }[kind]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "k3_weighted"])
def test_loss_and_gradient_weigh_the_kl_of_each_token(kind: Any, close: Any) -> None:
    """On top of a surrogate without a clip: -ratio * A."""
    loss, slopes = 0.0, []
    for logp, old, reference, a, w, beta in zip(
        LOGPS, OLD, REFERENCE, ADVANTAGES, WEIGHTS, BETAS, strict=True
    ):
        ratio = math.exp(logp - old)
        kl, slope = kl_and_slope(kind, logp, old, reference)
        loss += w * (-ratio * a + beta * kl)
        slopes.append(w * (-ratio * a + beta * slope))
    logps = torch.tensor(LOGPS, dtype=torch.float64, requires_grad=True)
    old, reference, advantages, weights, betas = (
        torch.tensor(values, dtype=torch.float64)
        for values in (OLD, REFERENCE, ADVANTAGES, WEIGHTS, BETAS)
    )
    got, _ = policy_loss(
        logps,
        old,
        advantages=advantages,
        weights=weights,
        row=torch.tensor([0, 0, 1, 1]),
        objective=Objective(clip_low=1.0, clip_high=1e3, beta=9.0, kl=kind),
        reference=reference,
        betas=betas,
    )
    close(got, loss)
    close(torch.autograd.grad(got, logps)[0], slopes)


def rollout(*turns: tuple[str, tuple[int, ...], float | None, tuple[int, ...]]) -> Rollout:
    """Turns as (role, tokens, temperature, prompt)."""
    made = tuple(
        Turn(
            Generate(user("x"), role=role, temperature=temperature),
            Reply("", tokens, (-1.0,) * len(tokens), "stop", prompt),
        )
        for role, tokens, temperature, prompt in turns
    )
    return Rollout(**vars(grade_trace(Task(Problem("p", "x"), "1"), Trace(
        Problem("p", "x"), 0, made, None
    ))))  # fmt: skip


def betas_of(rollouts: list[Rollout], roles: tuple[str, ...] = ("solver",)) -> list[float]:
    rows = training_rows([rollouts], roles)
    values = token_betas(rows, rollouts, Objective(beta=0.5, first_turn_beta=4.0))
    assert values is not None
    return values.tolist()


def test_first_turn_of_a_conversation_is_weighed_apart_within_its_row() -> None:
    """One row of two turns, and one of a rollout with a single turn."""
    two = rollout(("solver", (5, 6), None, (1,)), ("solver", (7, 8, 9), None, (1, 5, 6, 2)))
    one = rollout(("solver", (5,), None, (1,)))
    assert len(training_rows([[two, one]], ("solver",))) == 2
    assert betas_of([two, one]) == [4.0, 4.0, 0.5, 0.5, 0.5, 4.0]


def test_every_role_has_a_first_turn() -> None:
    turns = (
        ("solver", (5,), None, (1,)),
        ("verifier", (6,), None, (3,)),
        ("solver", (7,), None, (2,)),
        ("verifier", (8,), None, (4,)),
    )
    assert betas_of([rollout(*turns)], ("solver", "verifier")) == [4.0, 0.5, 4.0, 0.5]


@pytest.mark.parametrize("first", [("solver", (), None, (1,)), ("solver", (5,), 0.0, (1,))])
def test_first_turn_without_loss_tokens_does_not_pass_its_weight_on(first: Any) -> None:
    """An empty reply, and a greedy one."""
    assert betas_of([rollout(first, ("solver", (7, 8), None, (2,)))]) == [0.5, 0.5]


def test_signals_keep_the_weights_when_rows_are_chosen() -> None:
    values = torch.tensor([0.0, 1.0, 2.0])
    chosen = Signals(values, values, values, None, values).select(torch.tensor([2, 0]))
    assert chosen.betas is not None
    assert chosen.betas.tolist() == [2.0, 0.0]
    assert chosen.reference is None
    assert Signals(values, values, values).select(torch.tensor([1])).betas is None


def test_without_the_option_all_tokens_have_the_objectives_weight() -> None:
    assert token_betas([], [], Objective(beta=0.5)) is None


def test_first_turn_penalty_alone_needs_a_reference_and_all_rows() -> None:
    alone = Objective(beta=0.0, first_turn_beta=0.1)
    assert alone.needs_reference
    assert alone.needs_all_rows
    none = Objective(beta=0.0, first_turn_beta=0.0)
    assert not none.needs_reference
    assert not none.needs_all_rows
    assert Objective(beta=0.1, first_turn_beta=0.0).needs_reference


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_turn_beta": -0.1}, "first_turn_beta must be a number of at least 0"),
        ({"first_turn_beta": float("nan")}, "first_turn_beta must be a number"),
        ({"first_turn_beta": 0.1, "kl_in": "reward"}, "first_turn_beta needs objective.kl_in loss"),
    ],
)
def test_what_it_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**options)
