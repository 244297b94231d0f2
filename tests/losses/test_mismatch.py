"""Importance weights of the trainer against the engine that sampled, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.objective import Objective
from slm_math.losses.policy import mismatch_weights, policy_loss

Close = Callable[[Tensor | None, Any], None]

ROW = [0, 0, 0, 1, 2, 2]
GAPS = [k / 64 for k in (10, -100, 20, 70, -6, 30)]  # log old - log sampling
OLD = [k / 64 for k in (-40, -110, -3, -200, -64, -10)]
SAMPLING = [old - gap for old, gap in zip(OLD, GAPS)]
LOW, HIGH = 0.5, 2.0


def raw(level: str) -> list[float]:
    if level in ("token", "none"):
        return [math.exp(gap) for gap in GAPS]
    sums = {n: sum(gap for gap, row in zip(GAPS, ROW) if row == n) for n in ROW}
    return [math.exp(sums[n] / (ROW.count(n) if level == "geometric" else 1)) for n in ROW]


def bounded(ratio: float, mode: str) -> float:
    if mode == "truncate":
        return min(max(ratio, LOW), HIGH)
    return ratio if LOW <= ratio <= HIGH else 0.0


def objective(
    level: str, mode: str = "truncate", low: float = LOW, high: float = HIGH, **more: Any
) -> Objective:
    options = {"mismatch": level, "mismatch_mode": mode, "mismatch_low": low, "mismatch_high": high}
    return Objective(**options, **more)  # type: ignore[arg-type]


def weights_of(
    how: Objective,
    old: list[float],
    sampling: list[float],
    row: list[int],
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    live = torch.ones(len(row), dtype=torch.bool)
    tensors = torch.tensor(old, dtype=dtype), torch.tensor(sampling, dtype=dtype)
    return mismatch_weights(*tensors, torch.tensor(row), live, how)


def loss_of(
    how: Objective, sampling: list[float], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """On-policy with advantage 1 and weight 1: -> loss, gradient, statistics."""
    old = torch.tensor(OLD, dtype=dtype)
    logps = old.clone().requires_grad_()
    ones = torch.ones(6, dtype=dtype)
    engine = torch.tensor(sampling, dtype=dtype)
    loss, stats = policy_loss(logps, old, ones, ones, torch.tensor(ROW), how, sampling=engine)
    return loss, torch.autograd.grad(loss, logps)[0], stats


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_weight_is_the_bounded_ratio(
    level: str, mode: str, dtype: torch.dtype, close: Close
) -> None:
    correction, ratios = weights_of(objective(level, mode), OLD, SAMPLING, ROW, dtype)
    close(ratios, raw(level))
    close(correction, [bounded(ratio, mode) for ratio in raw(level)])
    # the data tell the two apart
    assert {bounded(ratio, mode) == ratio for ratio in raw(level)} == {True, False}


def test_none_weighs_nothing_and_still_measures(close: Close) -> None:
    correction, ratios = weights_of(objective("none", "mask"), OLD, SAMPLING, ROW)
    close(correction, [1.0] * 6)
    close(ratios, raw("none"))


@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize("bound", [LOW, HIGH])
def test_bounds_themselves_are_inside(mode: str, bound: float, close: Close) -> None:
    correction, _ = weights_of(objective("token", mode), [math.log(bound), 0.0], [0.0, 0.0], [0, 0])
    close(correction, [bound, 1.0])


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
def test_engine_that_agrees_gets_weights_of_one(level: str) -> None:
    for mode in ("truncate", "mask"):
        correction, _ = weights_of(objective(level, mode), OLD, OLD, ROW, torch.float32)
        assert torch.equal(correction, torch.ones(6))


@pytest.mark.parametrize("drift", [0.01, -0.01])
def test_product_of_a_long_row_leaves_the_bounds_where_the_geometric_mean_stays(
    drift: float, close: Close
) -> None:
    count = 1500
    old, engine, row = [drift - 1.0] * count, [-1.0] * count, [0] * count
    sequence, ratios = weights_of(objective("sequence", "mask"), old, engine, row)
    assert not sequence.any()
    close(ratios.log(), [count * drift] * count)
    geometric, _ = weights_of(objective("geometric", "mask"), old, engine, row)
    close(geometric, [math.exp(drift)] * count)


@pytest.mark.parametrize(
    ("mode", "drift", "expected"), [("truncate", 1, HIGH), ("truncate", -1, LOW), ("mask", 1, 0)]
)
def test_product_beyond_float32_stays_a_finite_weight(
    mode: str, drift: float, expected: float, close: Close
) -> None:
    how = objective("sequence", mode)
    correction, _ = weights_of(how, [drift - 2.0] * 500, [-2.0] * 500, [0] * 500, torch.float32)
    close(correction, [expected] * 500)


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_token_without_a_sampling_probability_has_ratio_one(
    missing: float, level: str, mode: str, close: Close
) -> None:
    got, _ = weights_of(objective(level, mode), OLD, [*SAMPLING[:1], missing, *SAMPLING[2:]], ROW)
    want, _ = weights_of(objective(level, mode), OLD, [*SAMPLING[:1], OLD[1], *SAMPLING[2:]], ROW)
    close(got, want)
    assert level != "token" or got[1].item() == 1


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_loss_and_gradient_are_weighted(
    level: str, mode: str, dtype: torch.dtype, close: Close
) -> None:
    want = [bounded(ratio, mode) for ratio in raw(level)]
    loss, gradient, _ = loss_of(objective(level, mode), SAMPLING, dtype)
    close(loss, -sum(want))
    close(gradient, [-value for value in want])


def test_no_gradient_flows_through_the_weights() -> None:
    old = torch.tensor(OLD, dtype=torch.float64, requires_grad=True)
    engine = torch.tensor(SAMPLING, dtype=torch.float64, requires_grad=True)
    live = torch.ones(6, dtype=torch.bool)
    for level in ("token", "sequence", "geometric", "none"):
        correction, ratios = mismatch_weights(
            old, engine, torch.tensor(ROW), live, objective(level)
        )
        assert not correction.requires_grad
        assert not ratios.requires_grad


def test_kl_and_entropy_are_not_weighted(close: Close) -> None:
    old = torch.tensor(OLD, dtype=torch.float64)
    logps, ones = old.clone().requires_grad_(), torch.ones(6, dtype=torch.float64)
    how = objective("token", beta=0.5, kl="k2", entropy=0.25)
    more = {
        "sampling": torch.tensor(SAMPLING).double(),
        "reference": old + 0.5,
        "entropy": 2 * ones,
    }
    loss, _ = policy_loss(logps, old, 0 * ones, ones, torch.tensor(ROW), how, **more)
    close(loss, 6 * (0.5 * 0.5**2 / 2 - 0.25 * 2))


@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_statistics_are_of_raw_ratios(mode: str, close: Close) -> None:
    _, _, stats = loss_of(objective("token", mode), SAMPLING)
    ratios = raw("token")
    close(stats["scored"].double(), 6)
    close(stats["mismatch"], sum(ratios))
    close(stats["mismatch_squares"], sum(ratio**2 for ratio in ratios))
    close(stats["mismatch_max"], max(ratios))
    close(stats["mismatch_min"], min(ratios))
    close(stats["mismatch_corrected"].double(), sum(not LOW <= ratio <= HIGH for ratio in ratios))
    close(stats["logp_diff"], sum(map(abs, GAPS)))
    close(stats["logp_diff_max"], max(map(abs, GAPS)))


def test_statistics_leave_out_tokens_that_the_engine_did_not_score(close: Close) -> None:
    _, _, stats = loss_of(objective("token"), [math.nan, *SAMPLING[1:5], math.inf])
    close(stats["scored"].double(), 4)
    close(stats["mismatch"], sum(raw("token")[1:5]))
    close(stats["logp_diff"], sum(map(abs, GAPS[1:5])))


def test_engine_that_scored_nothing_leaves_the_loss_alone(close: Close) -> None:
    loss, _, stats = loss_of(objective("token"), [math.nan] * 6)
    close(loss, -6.0)
    assert stats["scored"] == stats["mismatch"] == stats["logp_diff"] == 0


def test_ratio_exactly_at_its_bound_is_not_counted_as_corrected() -> None:
    how = Objective(mismatch="token", mismatch_high=2.0)
    old, engine = torch.tensor([0.0]), torch.tensor([0.0])
    one, row = torch.ones(1), torch.zeros(1, dtype=torch.long)
    _, stats = policy_loss(old.clone().requires_grad_(), old, one, one, row, how, sampling=engine)
    assert stats["mismatch_corrected"].item() == 0


def test_nothing_is_counted_as_corrected_where_nothing_is() -> None:
    _, _, stats = loss_of(objective("none"), SAMPLING)
    assert stats["mismatch_corrected"].item() == 0
