"""Tokens of weight 0 count nowhere, whatever stands underneath."""

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

ALL = ["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "gspo_token", "cispo", "sapo", "adjusted"]
COLUMNS = ["logps", "old", "advantages", "sampling", "reference", "entropy"]
ROW = [0, 0, 0, 1, 1, 2, 2, 2]
DEAD = [1, 4, 5, 6, 7]  # within a row, at its end, and a whole row
LIVE = [0, 2, 3]


def batch(dtype: torch.dtype) -> dict[str, Tensor]:
    """Tokens of which some have weight 0."""
    generator = torch.Generator().manual_seed(1)
    columns = {name: torch.rand(8, generator=generator, dtype=dtype) for name in COLUMNS}
    logps = -0.5 - columns["logps"]
    gaps = {name: columns[name] - 0.5 for name in ("old", "sampling", "reference")}
    weights = torch.linspace(0.1, 0.8, 8, dtype=dtype)
    weights[DEAD] = 0.0
    return {
        "logps": logps,
        "old": logps - gaps["old"],
        "advantages": 4 * columns["advantages"] - 2,
        "weights": weights,
        "row": torch.tensor(ROW),
        "sampling": logps - gaps["old"] - 3 * gaps["sampling"],
        "reference": logps + gaps["reference"],
        "entropy": columns["entropy"],
    }


def run(
    columns: dict[str, Tensor], objective: Objective
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """-> loss, its gradients by log-probabilities and by entropies, statistics."""
    columns = dict(columns)
    logps = columns["logps"] = columns["logps"].clone().requires_grad_()
    entropy = columns["entropy"] = columns["entropy"].clone().requires_grad_()
    loss, stats = policy_loss(objective=objective, **columns)
    return loss, *torch.autograd.grad(loss, (logps, entropy)), stats


def compare(columns: dict[str, Tensor], objective: Objective, close: Close) -> None:
    """What is poisoned gives what is cut away."""
    loss, by_logps, by_entropy, stats = run(columns, objective)
    want, want_logps, want_entropy, want_stats = run(
        {k: v[LIVE] for k, v in columns.items()}, objective
    )
    close(loss, want)
    close(by_logps[LIVE], want_logps)
    close(by_entropy[LIVE], want_entropy)
    assert not by_logps[DEAD].any()
    assert not by_entropy[DEAD].any()
    assert stats.keys() == want_stats.keys()
    for name, value in stats.items():
        close(value, want_stats[name])


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("kind", ALL)
def test_poison_in_one_column(kind: str, column: str, poison: float, close: Close) -> None:
    columns = batch(torch.float64)
    columns[column][DEAD] = poison
    compare(columns, Objective(kind=kind, beta=0.3, entropy=0.2), close)  # type: ignore[arg-type]


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("level", ["none", "token", "sequence", "geometric"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_poison_in_all_columns_and_every_correction(
    level: str, mode: str, poison: float, dtype: torch.dtype, close: Close
) -> None:
    columns = batch(dtype)
    for name in COLUMNS:
        columns[name][DEAD] = poison
    options = {"mismatch": level, "mismatch_mode": mode, "mismatch_low": 0.5}
    compare(columns, Objective(kind="gspo", beta=0.3, entropy=0.2, **options), close)  # type: ignore[arg-type]


@pytest.mark.parametrize("kl", ["k1", "k2", "k3", "k3_weighted"])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf], ids=str)
def test_poison_under_every_kl(kl: str, poison: float, close: Close) -> None:
    columns = batch(torch.float64)
    for name in COLUMNS:
        columns[name][DEAD] = poison
    compare(columns, Objective(kind="dapo", beta=0.3, entropy=0.2, kl=kl, dual_clip=2.0), close)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
def test_poison_does_not_reach_the_logits(kind: str) -> None:
    logits = torch.tensor(
        [[0.5, -1.0, 0.2], [0.1, -math.inf, 0.3]], dtype=torch.float64, requires_grad=True
    )
    logps = logits.log_softmax(-1)[torch.arange(2), torch.tensor([1, 1])]  # the second one is -inf
    weights, ones = (
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        torch.ones(2, dtype=torch.float64),
    )
    objective = Objective(kind=kind, beta=0.1)  # type: ignore[arg-type]
    more = {"reference": 0 * ones, "sampling": -ones}
    loss, _ = policy_loss(
        logps, logps.detach(), ones, weights, torch.zeros(2, dtype=torch.long), objective, **more
    )
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad[0].any()
    assert torch.equal(logits.grad[1], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("poison", [0.0, math.nan, math.inf], ids=str)
def test_batch_in_which_nothing_counts_has_loss_and_gradient_zero(kind: str, poison: float) -> None:
    columns = batch(torch.float64)
    columns["weights"] = torch.zeros(8, dtype=torch.float64)
    for name in COLUMNS:
        columns[name][:] = poison
    loss, by_logps, by_entropy, stats = run(columns, Objective(kind=kind, beta=0.3, entropy=0.2))  # type: ignore[arg-type]
    assert loss.item() == 0
    assert not by_logps.any()
    assert not by_entropy.any()
    # of no values the largest is -inf
    assert stats["ratio_max"] == -stats["ratio_min"] == -float("inf")
    assert all(v.isfinite() for name, v in stats.items() if not name.endswith(("_max", "_min")))
