"""What the clip lets through: ratio and sign of the advantage -> value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.objective import Objective
from slm_math.losses.policy import policy_loss

Close = Callable[[Tensor | None, Any], None]

# ratio, advantage -> loss and whether a gradient flows
SYMMETRIC = [
    (1.0, 2.0, -2.0, True),
    (1.1, 2.0, -2.2, True),
    (1.5, 2.0, -2.4, False),
    (0.9, 2.0, -1.8, True),
    (0.5, 2.0, -1.0, True),
    (1.0, -2.0, 2.0, True),
    (1.1, -2.0, 2.2, True),
    (1.5, -2.0, 3.0, True),
    (50.0, -2.0, 100.0, True),
    (0.9, -2.0, 1.8, True),
    (0.5, -2.0, 1.6, False),
    (1.5, 0.0, 0.0, False),
]
ASYMMETRIC = [  # from 0.5 to 1.25
    (1.24, 1.0, -1.24, True),
    (1.26, 1.0, -1.25, False),
    (0.6, -1.0, 0.6, True),
    (0.4, -1.0, 0.5, False),
    (0.4, 1.0, -0.4, True),
    (1.4, -1.0, 1.4, True),
]
DUAL = [  # 0.2 on both sides, and 3 where the advantage is negative
    (2.9, -2.0, 5.8, True),
    (3.1, -2.0, 6.0, False),
    (1e3, -2.0, 6.0, False),
    (0.5, -2.0, 1.6, False),
    (5.0, 2.0, -2.4, False),
    (0.1, 2.0, -0.2, True),
    (1.0, -2.0, 2.0, True),
]
TABLE = [
    *((*case, Objective(kind="dapo")) for case in SYMMETRIC),
    *((*case, Objective(kind="grpo", clip_low=0.5, clip_high=0.25)) for case in ASYMMETRIC),
    *((*case, Objective(kind="dapo", dual_clip=3.0)) for case in DUAL),
    *((*case, Objective("gspo", 0.2, 0.2, dual_clip=3.0)) for case in DUAL),
    *((*case, Objective("gspo_token", 0.2, 0.2, dual_clip=3.0)) for case in DUAL),
]


def one(
    ratio: float, advantage: float, objective: Objective, dtype: torch.dtype
) -> tuple[Tensor, Tensor, dict]:
    """-> loss, gradient, statistics of one token."""
    logps = torch.tensor([math.log(ratio)], dtype=dtype, requires_grad=True)
    ones = torch.ones(1, dtype=dtype)
    row = torch.zeros(1, dtype=torch.long)
    loss, stats = policy_loss(logps, 0 * ones, advantage * ones, ones, row, objective)
    return loss, torch.autograd.grad(loss, logps)[0], stats


@pytest.mark.parametrize(("ratio", "advantage", "expected", "flows", "objective"), TABLE)
def test_clip_table(
    ratio: float,
    advantage: float,
    expected: float,
    flows: bool,
    objective: Objective,
    dtype: torch.dtype,
    close: Close,
) -> None:
    loss, gradient, _ = one(ratio, advantage, objective, dtype)
    close(loss, expected)
    close(gradient, [-ratio * advantage if flows else 0.0])


# kind -> the smallest and the largest ratio that its source leaves as it is
OWN = {
    "grpo": (0.8, 1.2),
    "dapo": (0.8, 1.2),
    "dr_grpo": (0.8, 1.2),
    "bnpo": (0.8, 1.2),
    "adjusted": (0.8, 1.2),
    "gspo": (0.9997, 1.0004),
    "gspo_token": (0.9997, 1.0004),
    "cispo": (0.0, 5.0),
    "sapo": (0.0, math.inf),
}


@pytest.mark.parametrize("kind", OWN)
def test_bounds_that_nobody_set_are_those_of_the_kind(kind: Any) -> None:
    assert Objective(kind).bounds == pytest.approx(OWN[kind])


@pytest.mark.parametrize("ratio", [0.01, 0.6, 1.7, 4.9])
@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_cispo_by_itself_weighs_a_token_by_its_ratio(
    ratio: float, advantage: float, dtype: torch.dtype, close: Close
) -> None:
    _, gradient, _ = one(ratio, advantage, Objective("cispo"), dtype)
    close(gradient, [-ratio * advantage])


def test_a_bound_that_was_set_stays_when_the_other_is_the_kinds() -> None:
    assert Objective("cispo", clip_high=1.5).bounds == (0.0, 2.5)
    assert Objective("gspo", clip_low=0.1).bounds == pytest.approx((0.9, 1.0004))


IGNORED = {
    "clip_low of sapo": {"kind": "sapo", "clip_low": 0.3},
    "clip_high of sapo": {"kind": "sapo", "clip_high": 0.3},
    "dual_clip of sapo": {"kind": "sapo", "dual_clip": 4.0},
    "dual_clip of cispo": {"kind": "cispo", "dual_clip": 4.0},
    "sapo_tau of gspo": {"kind": "gspo", "sapo_tau": (1.0, 2.0)},
}


@pytest.mark.parametrize("case", IGNORED)
def test_an_option_that_the_kind_does_not_read_is_refused(case: str) -> None:
    name, _, kind = case.partition(" of ")
    with pytest.raises(ValueError, match=rf"objective\.{name} .*{kind}"):
        Objective(**IGNORED[case])  # type: ignore[arg-type]


CISPO = [(1.0, 1.0), (1.5, 1.2), (0.5, 0.8), (1.1, 1.1)]


@pytest.mark.parametrize(("ratio", "cut"), CISPO)
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_gradient_is_the_clipped_ratio_times_the_advantage(
    ratio: float, cut: float, advantage: float, dtype: torch.dtype, close: Close
) -> None:
    loss, gradient, _ = one(ratio, advantage, Objective("cispo", 0.2, 0.2), dtype)
    close(loss, -cut * advantage * math.log(ratio))
    close(gradient, [-cut * advantage])


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("advantage", [0.5, -0.5, 0.0])
def test_sapo_gate_is_a_sigmoid_with_its_own_temperature_for_each_sign(
    ratio: float, advantage: float, dtype: torch.dtype, close: Close
) -> None:
    tau = 0.75 if advantage > 0 else 2.5
    gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
    loss, gradient, _ = one(ratio, advantage, Objective(kind="sapo", sapo_tau=(0.75, 2.5)), dtype)
    close(loss, -4 / tau * gate * advantage)
    close(gradient, [-4 * gate * (1 - gate) * ratio * advantage])


# ratio, advantage -> counted as clipped from below, from above
COUNTED = [
    ("dapo", 0.5, -1.0, 1, 0),
    ("dapo", 0.5, 1.0, 0, 0),
    ("dapo", 1.5, 1.0, 0, 1),
    ("dapo", 1.5, -1.0, 0, 0),
    ("dapo", 1.5, 0.0, 0, 0),
    ("dapo", 0.5, 0.0, 0, 0),
    ("cispo", 0.5, 1.0, 1, 0),
    ("cispo", 1.5, -1.0, 0, 1),
]


@pytest.mark.parametrize(("kind", "ratio", "advantage", "low", "high"), COUNTED)
def test_tokens_whose_weight_a_bound_set_are_counted(
    kind: str, ratio: float, advantage: float, low: int, high: int
) -> None:
    _, _, stats = one(ratio, advantage, Objective(kind, 0.2, 0.2), torch.float64)  # type: ignore[arg-type]
    assert (stats["clip_low"].item(), stats["clip_high"].item()) == (low, high)


@pytest.mark.parametrize("kind", ["grpo", "gspo", "gspo_token", "cispo", "sapo"])
@pytest.mark.parametrize(
    ("advantage", "gap"), [(1.0, 100.0), (0.0, 100.0), (-1.0, -100.0), (1.0, -100.0)]
)
def test_ratio_beyond_float32_gives_a_finite_loss_and_gradient(
    kind: str, advantage: float, gap: float
) -> None:
    logps = torch.tensor([min(gap, 0.0)], requires_grad=True)
    ones = torch.ones(1)
    objective = Objective(kind=kind, dual_clip=0.0 if kind in ("cispo", "sapo") else 3.0)  # type: ignore[arg-type]
    row = torch.zeros(1, dtype=torch.long)
    loss, _ = policy_loss(logps, logps.detach() - gap, advantage * ones, ones, row, objective)
    loss.backward()
    assert loss.isfinite()
    assert logps.grad is not None
    assert logps.grad.isfinite().all()


def test_ratio_beyond_the_overflow_bound_is_still_clipped(dtype: torch.dtype, close: Close) -> None:
    loss, gradient, _ = one(math.exp(60), 1.0, Objective(kind="dapo"), dtype)
    close(loss, -1.2)
    close(gradient, [0.0])
    loss, gradient, _ = one(math.exp(60), -1.0, Objective(kind="dapo", dual_clip=3.0), dtype)
    close(loss, 3.0)
    close(gradient, [0.0])


WRONG = [
    {"clip_low": -0.1},
    {"clip_low": 1.1},
    {"clip_high": -0.1},
    {"clip_low": math.nan},
    {"clip_high": math.inf},
    {"clip_high": "0.2"},
    {"beta": math.nan},
    {"entropy": math.inf},
    {"mismatch_high": math.inf},
    {"kind": "gspa"},
    {"kl": "k4"},
    {"dual_clip": 0.5},
    {"dual_clip": 1.0},
    {"beta": -1.0},
    {"sapo_tau": (0.0, 1.0)},
    {"mismatch_low": 1.0},
    {"mismatch_high": 1.0},
    {"mismatch_low": -0.5},
    {"kl": "k3_weighted", "kl_in": "reward"},
]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_objective_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="objective"):
        Objective(**options)


def test_what_the_dual_clip_cuts_is_counted() -> None:
    for advantage, cut in ((-1.0, 1), (1.0, 1), (0.0, 0)):  # a good token is cut by the upper bound
        _, _, stats = one(20.0, advantage, Objective(kind="dapo", dual_clip=3.0), torch.float64)
        assert stats["clip_high"].item() == cut


def test_sapo_counts_no_clip() -> None:
    for ratio, advantage in ((20.0, 1.0), (0.01, -1.0)):
        _, _, stats = one(ratio, advantage, Objective(kind="sapo"), torch.float64)
        assert stats["clip_low"].item() == stats["clip_high"].item() == 0
