"""Advantages against the formulas of the papers, in plain Python."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.advantages import Advantage, advantages, has_signal

Close = Callable[[Tensor | None, Any], None]
Table = list[list[float]]
NAN = float("nan")

REWARDS: Table = [[1.0, 0.0, 0.0, 0.5], [0.25, -2.0, 3.0, 0.75], [1.0, 1.0, 0.0, 1.0]]
HOLES: Table = [[1.0, NAN, 0.0, 0.5], [NAN, -2.0, 3.0, NAN], [NAN, 1.0, 0.0, 1.0]]
CONSTANTS = [0.0, 0.1, 1 / 3, -2.0, 0.7, 1e6, 1e6 + 0.1, 1e-30]
BASELINES = ["group", "leave_one_out", "batch", "none"]
SCALES = ["group", "batch", "none"]
COMBINATIONS = list(itertools.product(BASELINES, SCALES))


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def expected(rewards: Table, baseline: str, scale: str, eps: float) -> Table:
    """(r - b) / (s + eps) for samples with a reward, else 0."""
    batch = [r for group in rewards for r in group if not math.isnan(r)]
    table = []
    for group in rewards:
        scored = [r for r in group if not math.isnan(r)]
        line = []
        for i, r in enumerate(group):
            if math.isnan(r):
                line.append(0.0)
                continue
            others = [q for j, q in enumerate(group) if j != i and not math.isnan(q)]
            b = (
                0.0
                if baseline == "none"
                else statistics.fmean({"group": scored, "batch": batch}.get(baseline, others))
            )
            s = {"group": deviation(scored), "batch": deviation(batch), "none": None}[scale]
            line.append(r - b if s is None else (r - b) / (s + eps))
        table.append(line)
    return table


def how(baseline: str, scale: str, eps: float = 1e-4) -> Advantage:
    return Advantage(baseline=baseline, scale=scale, eps=eps)  # type: ignore[arg-type]


@pytest.mark.parametrize(("baseline", "scale"), COMBINATIONS)
@pytest.mark.parametrize("eps", [0.0, 1e-4, 0.5])
def test_advantage_is_the_formula_of_its_baseline_and_scale(
    baseline: str, scale: str, eps: float, dtype: torch.dtype, close: Close
) -> None:
    got = advantages(torch.tensor(REWARDS, dtype=dtype), how(baseline, scale, eps))
    assert got.dtype == dtype
    close(got, expected(REWARDS, baseline, scale, eps))


@pytest.mark.parametrize(("baseline", "scale"), COMBINATIONS)
def test_samples_without_reward_count_in_no_statistic(
    baseline: str, scale: str, dtype: torch.dtype, close: Close
) -> None:
    close(
        advantages(torch.tensor(HOLES, dtype=dtype), how(baseline, scale)),
        expected(HOLES, baseline, scale, 1e-4),
    )


def test_default_is_grpo_with_bessel_correction(close: Close) -> None:
    got = advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64), Advantage(eps=0.0))
    # variance (0.75^2 + 3 * 0.25^2) / 3 = 1/4; over 4 it would be 3/16
    close(got, [[1.5, -0.5, -0.5, -0.5]])
    assert Advantage() == Advantage("group", "group", per_part=False, eps=1e-4)


def test_dr_grpo_advantage_is_only_centered(close: Close) -> None:
    close(
        advantages(torch.tensor([[3.0, 0.0]], dtype=torch.float64), how("group", "none")),
        [[1.5, -1.5]],
    )


def test_rloo_is_the_centered_reward_times_n_over_n_minus_one(
    dtype: torch.dtype, close: Close
) -> None:
    want = [[4 / 3 * value for value in line] for line in expected(REWARDS, "group", "none", 0.0)]
    close(advantages(torch.tensor(REWARDS, dtype=dtype), how("leave_one_out", "none")), want)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_group_has_exactly_no_advantage(
    value: float, baseline: str, scale: str, dtype: torch.dtype
) -> None:
    rewards = torch.tensor(
        [[value] * 7, [0.0, 1.0] * 3 + [0.0], [value, NAN] * 3 + [value]], dtype=dtype
    )
    got = advantages(rewards, how(baseline, scale, 0.0))
    assert torch.equal(got[[0, 2]], torch.zeros(2, 7, dtype=dtype))
    assert (got[1] != 0).all()


@pytest.mark.parametrize("value", CONSTANTS)
@pytest.mark.parametrize("scale", SCALES)
def test_constant_batch_has_exactly_no_advantage(
    value: float, scale: str, dtype: torch.dtype
) -> None:
    rewards = torch.full((3, 7), value, dtype=dtype)
    assert torch.equal(advantages(rewards, how("batch", scale)), torch.zeros_like(rewards))


def test_constant_groups_teach_against_the_baseline_of_a_batch(
    dtype: torch.dtype, close: Close
) -> None:
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=dtype)
    close(advantages(rewards, how("batch", "none")), [[0.5, 0.5], [-0.5, -0.5]])
    close(advantages(rewards, how("none", "none")), [[1.0, 1.0], [0.0, 0.0]])
    close(advantages(rewards, how("none", "batch", 0.0)), [[3**0.5, 3**0.5], [0.0, 0.0]])


@pytest.mark.parametrize("baseline", ["batch", "none"])
def test_no_combination_gives_constant_groups_advantages_of_one_over_eps(baseline: str) -> None:
    rewards = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    assert advantages(rewards, how(baseline, "group")).abs().max().item() < 100


@pytest.mark.parametrize(("high", "low"), [(0.1 + 0.2, 0.3), (1 / 3, math.nextafter(1 / 3, 0))])
def test_rewards_that_differ_in_the_last_bit_are_no_constant_group(high: float, low: float) -> None:
    rewards = torch.tensor([[high, low, low]], dtype=torch.float64)
    assert has_signal(rewards).all()
    assert advantages(rewards).abs().max().item() < 1e-11  # and yet eps keeps them small


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("scale", SCALES)
def test_lone_scored_sample_has_no_advantage(baseline: str, scale: str) -> None:
    rewards = torch.tensor([[NAN, 5.0, NAN], [1.0, 0.0, NAN]], dtype=torch.float64)
    got = advantages(rewards, how(baseline, scale))
    assert torch.equal(got[0], torch.zeros(3, dtype=torch.float64))
    assert got.isfinite().all()


@pytest.mark.parametrize(("baseline", "scale"), COMBINATIONS)
def test_batch_without_any_reward_has_no_advantage(baseline: str, scale: str) -> None:
    assert torch.equal(advantages(torch.full((2, 3), NAN), how(baseline, scale)), torch.zeros(2, 3))


@pytest.mark.parametrize(("baseline", "scale"), COMBINATIONS)
def test_batch_without_problems_has_no_advantages(baseline: str, scale: str) -> None:
    assert advantages(torch.zeros(0, 4), how(baseline, scale)).shape == (0, 4)


@pytest.mark.parametrize("shape", [(4, 1), (1, 1), (4,), (2, 3, 4)])
def test_group_of_one_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="G >= 2"):
        advantages(torch.ones(shape))


def test_spread_asks_for_two_different_rewards() -> None:
    rewards = torch.tensor(
        [[0.1, 0.1, 0.1], [0.1, NAN, 0.1], [0.1, NAN, 0.2], [NAN, NAN, NAN], [NAN, 1.0, NAN]]
    )
    assert has_signal(rewards).tolist() == [False, False, True, False, False]
    assert has_signal(torch.zeros(0, 3)).tolist() == []


@pytest.mark.parametrize("baseline", ["group", "leave_one_out", "batch"])
def test_advantages_ignore_an_offset_of_all_rewards(baseline: str, close: Close) -> None:
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    close(
        advantages(rewards + 64.0, how(baseline, "group")),
        advantages(rewards, how(baseline, "group")),
    )
