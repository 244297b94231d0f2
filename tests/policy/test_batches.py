"""Rows and batches: each loss token meets the log-probability of itself, and nothing else is
learnt.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.logprobs import token_logprobs
from slm_math.policy.batches import Batch, collate, micro_batches
from slm_math.rollout.rows import trace_rows
from slm_math.types import Generate, Problem, Reply, Run, RunPython, RunResult, Trace, Turn, user

Close = Callable[[Tensor | None, Any], None]

VOCABULARY = 9
PAD = EOS = 0
OTHER_EOS = 1
# log p(next | token): another value for every pair
TABLE = torch.arange(81, dtype=torch.float64).reshape(9, 9).mul(0.7).sin().log_softmax(-1)


def bigram(batch: Batch, support: bool = True) -> Tensor:
    """The log-probabilities that a model gives which sees one token back."""
    hidden = torch.eye(VOCABULARY, dtype=torch.float64)[batch.ids].flatten(0, 1)[batch.where]
    kept = batch.support if support else None
    return token_logprobs(
        hidden, lambda h: h @ TABLE, batch.targets, batch.temperature, support=kept
    )[0]


def pack(*ids: int) -> bytes:
    return array("i", ids).tobytes()


def turn(
    prompt: list[int],
    reply: list[int],
    role: str = "solver",
    temperature: float = 1.0,
    kept: tuple[bytes, ...] = (),
    asked: float | None = None,
) -> Turn:
    logprobs = tuple(-0.25 * (i + 1) for i in range(len(reply)))
    answer = Reply(
        text="",
        token_ids=tuple(reply),
        logprobs=logprobs,
        support=kept,
        prompt_ids=tuple(prompt),
        temperature=temperature,
    )
    return Turn(Generate(user("x"), role, temperature=asked), answer)


def trace(*events: Turn | Run) -> Trace:
    return Trace(Problem("p", "x"), 0, events, None)


ROWS = [
    Row([2, 3, 4, 5, 6], [0, 0, 1, 1, 1]),
    Row([7, 8, 2], [0, 1, 0]),
    Row([5, 6, 7, 8, 3, 3, 4], [0, 1, 0, 0, 1, 1, 0], temperature=0.5),
]


def test_token_is_predicted_by_the_position_before_it(close: Close) -> None:
    want = []
    for row in ROWS:
        for before, token, learnt in zip(row.ids, row.ids[1:], row.mask[1:]):
            if learnt:
                scores = [value / row.temperature for value in TABLE[before].tolist()]
                want.append(scores[token] - math.log(sum(map(math.exp, scores))))
    close(bigram(collate(ROWS)), want)


def test_first_token_of_a_row_is_never_learnt(close: Close) -> None:
    row = Row([2, 3], [1, 1])
    assert row.learnt == [1]
    assert row.loss_tokens == 1
    close(bigram(collate([ROWS[0], row]))[3:], [TABLE[2, 3].item()])


def test_rows_do_not_read_across_their_borders() -> None:
    batch = collate(ROWS)
    width = batch.ids.shape[1]
    assert (batch.where // width).tolist() == batch.row.tolist()
    assert ((batch.where + 1) // width).tolist() == batch.row.tolist()
    assert batch.attention.flatten()[batch.where].all()
    assert batch.attention.flatten()[batch.where + 1].all()


def test_order_of_rows_does_not_change_what_they_get(close: Close) -> None:
    forward, backward = collate(ROWS), collate(ROWS[::-1])
    for n in range(3):
        close(bigram(forward)[forward.row == n], bigram(backward)[backward.row == 2 - n])


@pytest.mark.parametrize("end", [EOS, OTHER_EOS])
def test_end_tokens_are_learnt_and_attended_even_when_they_are_the_padding(
    end: int, close: Close
) -> None:
    row = trace_rows(trace(turn([2, PAD, 3], [4, EOS, 5, end])), "solver")[0]
    batch = collate([row, Row([*range(2, 9), 2, 3], [0] + [1] * 8)])
    assert batch.attention[0].tolist() == [1] * 7 + [0, 0]
    mine = batch.row == 0
    assert batch.targets[mine].tolist() == [4, EOS, 5, end]
    want = [TABLE[a, b].item() for a, b in ((3, 4), (4, EOS), (EOS, 5), (5, end))]
    close(bigram(batch)[mine], want)


def test_padding_is_no_loss_token_and_counts_as_padding() -> None:
    batch = collate([Row([PAD] * 2, [1] * 2), Row([PAD] * 8, [1] * 8)])
    assert len(batch.targets) == 1 + 7
    assert 1 - batch.attention.double().mean().item() == pytest.approx(6 / 16)


def test_everything_about_a_token_stays_with_it() -> None:
    rows = [
        Row(
            ids=[2, 3, 4, 5],
            mask=[0, 0.5, 0, 2],
            logps=[0, -1, 0, -2],
            reference=[0, -3, 0, -4],
            temperature=0.5,
            weight=0.25,
            advantage=1.5,
        ),
        Row([6, 7], [0, 1], [0, -5], reference=[0, -6], advantage=-1.0),
    ]
    batch = collate(rows)
    assert batch.targets.tolist() == [3, 5, 7]
    assert batch.weight.tolist() == [0.125, 0.5, 1]
    assert batch.row.tolist() == [0, 0, 1]
    assert batch.logps.tolist() == [-1, -2, -5]
    assert batch.reference is not None
    assert batch.reference.tolist() == [-3, -4, -6]
    assert batch.temperature.tolist() == [0.5, 0.5, 1]
    assert batch.advantage.tolist() == [1.5, 1.5, -1]
    assert batch.support is None


def test_reference_needs_all_rows_to_have_one() -> None:
    assert collate([Row([2, 3], [0, 1], reference=[0, -1]), Row([2, 3], [0, 1])]).reference is None


def test_batch_of_two_roles_is_refused() -> None:
    with pytest.raises(ValueError, match="one role"):
        collate([Row([2, 3], [0, 1]), Row([2, 3], [0, 1], role="verifier")])


def test_kept_sets_land_at_their_tokens(close: Close) -> None:
    first = trace_rows(
        trace(turn([2, 3], [4, 5, 6], kept=(pack(4, 8), b"", pack(7, 6, 1)))), "solver"
    )[0]
    second = trace_rows(trace(turn([7], [8, 2])), "solver")[0]
    third = trace_rows(trace(turn([2, 2, 2], [3], kept=(pack(3),))), "solver")[0]
    batch = collate([first, second, third])
    assert batch.support is not None
    assert [part.tolist() for part in batch.support] == [[0, 2, 2, 5, 5, 5, 6], [4, 8, 7, 6, 1, 3]]

    def within(before: int, token: int, kept: list[int]) -> float:
        scores = [TABLE[before, v].item() for v in kept]
        return TABLE[before, token].item() - math.log(sum(map(math.exp, scores)))

    want = [
        within(3, 4, [4, 8]),
        TABLE[4, 5].item(),
        within(5, 6, [1, 6, 7]),
        TABLE[7, 8].item(),
        TABLE[8, 2].item(),
        0.0,
    ]
    close(bigram(batch), want)


def test_kept_sets_survive_turns_that_share_a_row() -> None:
    kept = (pack(4, 5),), (pack(7, 8), b"")
    [row] = trace_rows(
        trace(turn([2, 3], [4], kept=kept[0]), turn([2, 3, 4, 5, 6], [7, 8], kept=kept[1])),
        "solver",
    )
    assert row.kept == [b"", b"", pack(4, 5), b"", b"", pack(7, 8), b""]
    batch = collate([row])
    assert batch.support is not None
    assert [part.tolist() for part in batch.support] == [[0, 2, 4, 4], [4, 5, 7, 8]]


def test_tool_output_and_context_are_never_learnt() -> None:
    tool = Run(RunPython("1"), RunResult(True))
    events = (
        turn([2, 3], [4, 5]),
        tool,
        turn([2, 3, 4, 5, 8, 8, 8], [6, EOS]),
        turn([2, 3, 4, 5, 8, 8, 8, 6, 0, 7], [1]),
    )
    [row] = trace_rows(trace(*events), "solver")
    assert row.ids == [2, 3, 4, 5, 8, 8, 8, 6, 0, 7, 1]
    assert row.mask == [0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1]
    assert row.logps == [0, 0, -0.25, -0.5, 0, 0, 0, -0.25, -0.5, 0, -0.25]
    assert 8 not in collate([row]).targets.tolist()


def test_reply_that_was_edited_in_the_history_is_context_of_a_new_row() -> None:
    rows = trace_rows(trace(turn([2], [3, 4]), turn([2, 3, 5], [6])), "solver")
    assert [(row.ids, row.mask) for row in rows] == [
        ([2, 3, 4], [0, 1, 1]),
        ([2, 3, 5, 6], [0, 0, 0, 1]),
    ]


def test_every_sampled_token_is_learnt_exactly_once() -> None:
    events = [
        turn([2], [3, 4]),
        turn([2, 3, 4, 5], [6]),
        turn([2, 3, 4, 7], [8]),
        turn([2, 3, 4, 5, 6], [1]),
    ]
    rows = trace_rows(trace(*events), "solver")
    assert sum(row.loss_tokens for row in rows) == 5
    assert sorted(t for row in rows for t in (row.ids[i] for i in row.learnt)) == [1, 3, 4, 6, 8]


def test_empty_and_greedy_replies_make_no_row() -> None:
    assert trace_rows(trace(turn([2], [])), "solver") == []
    assert trace_rows(trace(turn([2], [3], asked=0.0)), "solver") == []
    assert trace_rows(trace(turn([2], [3], "verifier")), "solver") == []


def test_greedy_turn_in_between_becomes_context() -> None:
    [row] = trace_rows(
        trace(turn([2], [3]), turn([2, 3], [4], asked=0.0), turn([2, 3, 4, 5], [6])), "solver"
    )
    assert (row.ids, row.mask) == ([2, 3, 4, 5, 6], [0, 1, 0, 0, 1])


def test_empty_reply_leaves_the_rows_after_it_alone() -> None:
    [row] = trace_rows(trace(turn([2], [3]), turn([2, 3], []), turn([2, 3, 4], [5])), "solver")
    assert (row.ids, row.mask) == ([2, 3, 4, 5], [0, 1, 0, 1])


def test_reply_without_log_probabilities_does_not_shift_those_after_it() -> None:
    silent = Turn(Generate(user("x")), Reply(text="", token_ids=(3, 4), prompt_ids=(2,)))
    [row] = trace_rows(trace(silent, turn([2, 3, 4, 5], [6])), "solver")
    assert len(row.logps) == len(row.ids)
    assert row.logps[4] == -0.25


@pytest.mark.parametrize("tokens", [1, 8, 20, 1000])
def test_micro_batches_hold_every_row_once_within_the_budget(tokens: int) -> None:
    rows = [
        Row(list(range(n)), [1.0] * n, role=role)
        for n in (3, 9, 4, 4, 20, 1)
        for role in ("a", "b")
    ]
    chunks = list(micro_batches(rows, tokens))
    assert sorted(id(row) for chunk in chunks for row in chunk) == sorted(map(id, rows))
    for chunk in chunks:
        assert len({row.role for row in chunk}) == 1
        assert len(chunk) == 1 or len(chunk) * max(len(row.ids) for row in chunk) <= tokens


def test_no_rows_make_no_micro_batch() -> None:
    assert list(micro_batches([], 10)) == []
