"""How per-token losses are averaged, and that the split of a step into micro-batches and ranks does
not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.logprobs import token_logprobs
from slm_math.losses.objective import REDUCTION, Objective
from slm_math.losses.policy import policy_loss, row_weights
from slm_math.policy.batches import collate, micro_batches, token_indices
from slm_math.rollout.signals import Signals, old_logprobs, token_advantages
from slm_math.rollout.weights import loss_totals, token_weights

Close = Callable[[Tensor | None, Any], None]

LENGTHS = [3, 1, 4, 2, 6]
GROUPS = [0, 1, 0, 1, 1]
TABLE = [
    [float((7 * n + 3 * t) % 11 - 5) for t in range(length)] for n, length in enumerate(LENGTHS)
]
BUDGET = 9
BUDGETS = {"solver": BUDGET}

MEANS = {
    "sequence": fmean(fmean(row) for row in TABLE),
    "token": fmean(value for row in TABLE for value in row),
    "constant": sum(sum(row) / BUDGET for row in TABLE) / 5,
    "group": fmean([fmean(TABLE[0] + TABLE[2]), fmean(TABLE[1] + TABLE[3] + TABLE[4])]),
}
TOTALS = {"sequence": 5, "token": 16, "constant": 5, "group": 2}


def weighted_sum(rows: Sequence[int], weights: Tensor) -> Tensor:
    values = torch.tensor([value for n in rows for value in TABLE[n]], dtype=torch.float64)
    return (weights.repeat_interleave(torch.tensor([LENGTHS[n] for n in rows])) * values).sum()


def weights_of(rows: Sequence[int], reduction: str, total: float) -> Tensor:
    groups = torch.tensor([GROUPS[n] for n in rows]) if reduction == "group" else None
    return row_weights(torch.tensor([LENGTHS[n] for n in rows]), reduction, total, groups, BUDGET)


@pytest.mark.parametrize("reduction", MEANS)
def test_weighted_sum_is_the_mean_of_the_paper(reduction: str, close: Close) -> None:
    rows = range(5)
    close(weighted_sum(rows, weights_of(rows, reduction, TOTALS[reduction])), MEANS[reduction])


def test_reductions_differ_on_these_rows() -> None:
    assert len({round(value, 6) for value in MEANS.values()}) == 4


@pytest.mark.parametrize("reduction", ["sequence", "token", "constant"])
@pytest.mark.parametrize(
    "split", [[[0], [1, 2], [3, 4]], [[4, 0, 2], [3, 1]], [[0], [1], [2], [3], [4]]]
)
def test_weights_of_a_part_of_the_step_need_only_the_total(
    reduction: str, split: list[list[int]], close: Close
) -> None:
    got = sum(weighted_sum(rows, weights_of(rows, reduction, TOTALS[reduction])) for rows in split)
    close(torch.as_tensor(got), MEANS[reduction])


def test_weights_of_whole_groups_need_only_the_number_of_groups(close: Close) -> None:
    got = sum(weighted_sum(rows, weights_of(rows, "group", 2)) for rows in ([2, 0], [4, 3, 1]))
    close(torch.as_tensor(got), MEANS["group"])


def test_one_group_weighs_as_the_tokens_do(close: Close) -> None:
    lengths, groups = torch.tensor(LENGTHS), torch.zeros(5, dtype=torch.long)
    close(row_weights(lengths, "group", 1, groups), row_weights(lengths, "token", 16))


def test_groups_of_one_row_weigh_as_sequences_do(close: Close) -> None:
    lengths = torch.tensor(LENGTHS)
    close(
        row_weights(lengths, "group", 5, torch.tensor([3, 0, 4, 1, 2])),
        row_weights(lengths, "sequence", 5),
    )


@pytest.mark.parametrize("reduction", MEANS)
def test_row_without_loss_tokens_leaves_the_other_weights_alone(
    reduction: str, close: Close
) -> None:
    lengths, groups = torch.tensor([*LENGTHS, 0, 0]), torch.tensor([*GROUPS, 1, 2])
    got = row_weights(lengths, reduction, TOTALS[reduction], groups, BUDGET)
    assert got.isfinite().all()
    close(
        got[:5],
        row_weights(torch.tensor(LENGTHS), reduction, TOTALS[reduction], groups[:5], BUDGET),
    )


def test_rows_of_one_sample_weigh_as_one_row_does(close: Close) -> None:
    """Samples of 2 + 3 and of 4 tokens: half a mean each, however many rows they are in."""
    got = row_weights(torch.tensor([2, 3, 4]), "sequence", 2, torch.tensor([0, 0, 1]))
    close(got, [1 / 10, 1 / 10, 1 / 8])


@pytest.mark.parametrize("reduction", MEANS)
def test_step_without_rows_has_no_weights(reduction: str) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert row_weights(nothing, reduction, 0, nothing, BUDGET).shape == (0,)


# the whole way: rows, micro-batches, a bigram model, the loss

IDS = [[(5 * n + 2 * t) % 7 for t in range(length + 2)] for n, length in enumerate(LENGTHS)]
GAINS = [1.0, -0.5, 2.0, -1.5, 0.75]
REDUCED = {
    "grpo": "sequence",
    "dr_grpo": "constant",
    "dapo": "token",
    "gspo": "sequence",
    "gspo_token": "sequence",
    "cispo": "token",
    "sapo": "sequence",
    "adjusted": "group",
}


def rows_of(numbers: Sequence[int]) -> list[Row]:
    """Two tokens of context, then loss tokens; the sampling log-probabilities are exact in
    float32.
    """
    rows = []
    for n in numbers:
        length = LENGTHS[n]
        logprobs = (0.0, 0.0, *(-(1 + (n + t) % 5) / 4 for t in range(length)))
        mask = (0.0, 0.0, *[1.0] * length)
        rows.append(Row(tuple(IDS[n]), mask, logprobs, rollout=n))
    return rows


def signals_of(rows: Sequence[Row], reduction: str) -> Signals:
    """What the whole step knows of the tokens of some of its rows."""
    every = rows_of(range(5))
    places = [GROUPS[n] if reduction == "group" else n for n in range(5)]
    weights = token_weights(every, places, reduction, {"solver": TOTALS[reduction]}, BUDGETS)
    own = token_indices(every, [row.rollout for row in rows])
    reference = [-(1 + (row.rollout + 2 * t) % 3) / 2 for row in rows for t in row_range(row)]
    return Signals(
        advantages=token_advantages(rows, {"solver": torch.tensor(GAINS)[:, None]}),
        weights=weights[own],
        old=old_logprobs(rows, version=1),
        reference=torch.tensor(reference),
    )


def row_range(row: Row) -> range:
    return range(LENGTHS[row.rollout])


def model() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 7, generator=generator, dtype=torch.float64).requires_grad_()


def part_loss(rows: list[Row], table: Tensor, objective: Objective) -> Tensor:
    batch, signals = collate(rows), signals_of(rows, objective.reduction)
    hidden = torch.eye(7, dtype=torch.float64)[batch.inputs.ids].flatten(0, 1)[batch.where]
    logprobs, _, _ = token_logprobs(
        hidden, lambda h: h @ table, batch.targets, batch.temperature, chunk=4
    )
    return policy_loss(
        logprobs,
        signals.old.double(),
        advantages=signals.advantages.double(),
        weights=signals.weights.double(),
        row=batch.row,
        objective=objective,
        reference=signals.reference,
    )[0]


def step(ranks: list[list[int]], tokens: int, table: Tensor, objective: Objective) -> Tensor:
    parts = []
    for rank in ranks:
        rows = rows_of(rank)
        parts += [[rows[n] for n in chunk] for chunk in micro_batches(rows, tokens)]
    return torch.stack([part_loss(part, table, objective) for part in parts]).sum()


@pytest.mark.parametrize("kind", REDUCED)
@pytest.mark.parametrize(
    "ranks", [[[0, 1, 2, 3, 4]], [[4, 2], [0, 1, 3]]], ids=["one rank", "two ranks"]
)
@pytest.mark.parametrize("tokens", [1, 12, 16])
def test_loss_and_gradient_do_not_depend_on_the_split(
    kind: str, ranks: list[list[int]], tokens: int, close: Close
) -> None:
    table, objective = model(), Objective(kind=kind, beta=0.5)  # type: ignore[arg-type]
    assert objective.reduction == REDUCED[kind]
    want = step([[0, 1, 2, 3, 4]], 10**6, table, objective)
    got = step(ranks, tokens, table, objective)
    close(got, want)
    close(torch.autograd.grad(got, table)[0], torch.autograd.grad(want, table)[0])


@pytest.mark.parametrize("split", [[[0, 1, 2, 3, 4]], [[1, 3], [0, 2], [4]], [[0], [1, 2, 3, 4]]])
def test_bnpo_is_the_mean_over_micro_batches_of_the_mean_over_their_tokens(
    split: list[list[int]], close: Close
) -> None:
    assert REDUCTION["bnpo"] == "group"
    part = torch.tensor([next(i for i, rows in enumerate(split) if n in rows) for n in range(5)])
    weights = row_weights(torch.tensor(LENGTHS), "group", len(split), part)
    close(
        weighted_sum(range(5), weights),
        fmean(fmean(v for n in rows for v in TABLE[n]) for rows in split),
    )


def test_bnpo_depends_on_the_split() -> None:
    whole = fmean(v for row in TABLE for v in row)
    split = fmean(fmean(v for n in rows for v in TABLE[n]) for rows in ([0], [1, 2, 3, 4]))
    assert abs(whole - split) > 0.1


def test_weight_of_a_row_and_of_its_tokens_multiply(close: Close) -> None:
    row = replace(rows_of([0])[0], mask=(0.0, 0.0, 1.0, 0.25, 2.0))
    weights = token_weights([row], [0], "constant", {"solver": 2.0}, {"solver": 1})
    close(weights.double(), [0.5, 0.125, 1.0])


def test_rows_that_do_not_count_weigh_nothing(close: Close) -> None:
    rows = rows_of([0, 1])
    weights = token_weights(rows, [0, None], "token", {"solver": 4.0}, BUDGETS)
    close(weights.double(), [*[1 / 4] * 3, 0.0])
    assert loss_totals(rows, [0, None], "token", ["solver"]) == {"solver": 3.0}
    assert loss_totals(rows, [0, None], "sequence", ["solver"]) == {"solver": 1.0}
