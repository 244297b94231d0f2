"""GDPO: advantages of every part of the reward by itself, then their weighted sum
over its spread.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.advantages import Advantage, part_advantages

Close = Callable[[Tensor | None, Any], None]
Table = list[list[float]]
NAN = float("nan")

RIGHT: Table = [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
LENGTH: Table = [[100.0, 900.0, 250.0, 400.0], [30.0, 20.0, 10.0, 70.0]]
FORMAT: Table = [[0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 0.5]]


def z_scores(part: Table, eps: float) -> Table:
    table = []
    for group in part:
        scored = [r for r in group if not math.isnan(r)]
        flat = len(set(scored)) < 2
        mean, std = (0.0, 1.0) if flat else (statistics.fmean(scored), statistics.stdev(scored))
        table.append([0.0 if flat or math.isnan(r) else (r - mean) / (std + eps) for r in group])
    return table


def expected(parts: list[Table], weights: list[float], eps: float) -> Table:
    """Of parts that all count; NaN only where every part has one."""
    scored = [not math.isnan(r) for line in parts[0] for r in line]
    scores = [list(itertools.chain(*z_scores(part, eps))) for part in parts]
    sums = [sum(w * a for w, a in zip(weights, column)) for column in zip(*scores)]
    std = statistics.stdev([s for s, counts in zip(sums, scored) if counts])
    flat = [s / (std + eps) for s in sums]
    width = len(parts[0][0])
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def run(
    parts: list[Table], weights: list[float], dtype: torch.dtype = torch.float64, **how: Any
) -> Tensor:
    options = Advantage(per_part=True, **how)
    shares = part_advantages(
        torch.tensor(parts, dtype=dtype), torch.tensor(weights, dtype=dtype), options
    )
    assert shares.shape[0] == len(parts)
    return shares.sum(0)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.25, 0.5], [1.0, -1.0, 2.0]])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_parts_are_normalized_each_then_their_sum_over_the_batch(
    weights: list[float], eps: float, dtype: torch.dtype, close: Close
) -> None:
    got = run([RIGHT, LENGTH, FORMAT], weights, dtype, eps=eps)
    assert got.dtype == dtype
    close(got, expected([RIGHT, LENGTH, FORMAT], weights, eps))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_spread_of_a_part_does_not_matter(factor: float, close: Close) -> None:
    scaled = [[factor * value for value in line] for line in RIGHT]
    close(run([scaled, LENGTH], [1.0, 1.0], eps=0.0), run([RIGHT, LENGTH], [1.0, 1.0], eps=0.0))


def test_opposed_parts_cancel(close: Close) -> None:
    opposed = [[7.0 - value for value in line] for line in RIGHT]
    close(run([RIGHT, opposed], [1.0, 1.0]), [[0.0] * 4] * 2)


def test_one_part_has_its_own_z_scores_over_their_spread(close: Close) -> None:
    scores = [[1.0, -1.0], [-1.0, 1.0]]  # z-scores of two samples: +-1 / sqrt(2)
    std = math.sqrt(4 / 3)
    close(
        run([[[5.0, 2.0], [0.0, 9.0]]], [3.0], eps=0.0),
        [[s / std for s in line] for line in scores],
    )


def test_only_the_proportion_of_weights_matters(close: Close) -> None:
    close(run([RIGHT, LENGTH], [2.0, 6.0], eps=0.0), run([RIGHT, LENGTH], [1.0, 3.0], eps=0.0))


def test_parts_of_weight_zero_are_ignored(dtype: torch.dtype, close: Close) -> None:
    broken: Table = [[NAN, 1.0, NAN, math.inf], [NAN, NAN, NAN, NAN]]
    close(
        run([RIGHT, broken, LENGTH], [1.0, 0.0, 0.5], dtype),
        expected([RIGHT, LENGTH], [1.0, 0.5], 1e-4),
    )


def test_sample_with_a_missing_part_is_excluded_from_all_parts(
    dtype: torch.dtype, close: Close
) -> None:
    right: Table = [[NAN, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    length: Table = [[100.0, 900.0, 250.0, 400.0], [30.0, 20.0, NAN, 70.0]]
    both_right: Table = [[NAN, 0.0, 0.0, 1.0], [0.0, 0.0, NAN, 0.0]]
    both_length: Table = [[NAN, 900.0, 250.0, 400.0], [30.0, 20.0, NAN, 70.0]]
    got = run([right, length], [1.0, 2.0], dtype)
    close(got, expected([both_right, both_length], [1.0, 2.0], 1e-4))
    assert got[0, 0].item() == got[1, 2].item() == 0.0


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6])
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_group_constant_in_every_part_has_exactly_no_advantage(
    value: float, baseline: str, dtype: torch.dtype
) -> None:
    first: Table = [[value] * 3, [1.0, 0.0, 0.0]]
    second: Table = [[-value / 7] * 3, [3.0, 5.0, 8.0]]
    got = run([first, second], [1.0, 0.3], dtype, baseline=baseline, eps=0.0)
    assert torch.equal(got[0], torch.zeros(3, dtype=dtype))
    assert (got[1] != 0).all()


@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_step_without_any_spread_has_exactly_no_advantage(eps: float) -> None:
    got = run([[[0.1] * 3] * 2, [[1 / 3] * 3] * 2], [1.0, 1.0], eps=eps)
    assert torch.equal(got, torch.zeros(2, 3, dtype=torch.float64))


def test_step_without_any_score_has_no_advantage() -> None:
    assert torch.equal(
        run([[[NAN] * 4] * 2, RIGHT], [1.0, 1.0]), torch.zeros(2, 4, dtype=torch.float64)
    )


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_sum_has_mean_zero_and_deviation_one_over_the_step(
    baseline: str, scale: str, close: Close
) -> None:
    got = run(
        [RIGHT, LENGTH, FORMAT], [1.0, 0.5, 2.0], baseline=baseline, scale=scale, eps=0.0
    ).flatten()
    close(got.mean(), 0.0)
    close(got.std(), 1.0)
