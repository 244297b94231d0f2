"""Rows and batches: each loss token meets the log-probability of itself, and nothing else is
trained on.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import SCRATCH
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.logprobs import token_logprobs
from slm_math.policy.batches import Batch, collate, micro_batches
from slm_math.policy.forward import hidden_states
from slm_math.rollout.rows import trace_rows
from slm_math.types import (
    Generate,
    Image,
    Problem,
    Reply,
    Run,
    RunPython,
    RunResult,
    Trace,
    Turn,
    user,
)

Close = Callable[[Tensor | None, Any], None]

VOCABULARY = 9
PAD = EOS = 0
OTHER_EOS = 1
# log p(next | token): another value for every pair
TABLE = torch.arange(81, dtype=torch.float64).reshape(9, 9).mul(0.7).sin().log_softmax(-1)


def bigram(batch: Batch, support: bool = True) -> Tensor:
    """The log-probabilities that a model gives which sees one token back."""
    hidden = torch.eye(VOCABULARY, dtype=torch.float64)[batch.inputs.ids].flatten(0, 1)[batch.where]
    possible = batch.support if support else None
    return token_logprobs(
        hidden, lambda h: h @ TABLE, batch.targets, batch.temperature, support=possible
    )[0]


def pack(*ids: int) -> bytes:
    return array("i", ids).tobytes()


def turn(
    prompt: list[int],
    reply: list[int],
    role: str = "solver",
    temperature: float = 1.0,
    support: tuple[bytes, ...] = (),
    asked: float | None = None,
) -> Turn:
    logprobs = tuple(-0.25 * (i + 1) for i in range(len(reply)))
    answer = Reply(
        text="",
        token_ids=tuple(reply),
        logprobs=logprobs,
        support=support,
        prompt_ids=tuple(prompt),
        temperature=temperature,
    )
    return Turn(Generate(user("x"), role, temperature=asked), answer)


def trace(*events: Turn | Run) -> Trace:
    return Trace(Problem("p", "x"), 0, events, None)


ROWS = [
    Row((2, 3, 4, 5, 6), (0, 0, 1, 1, 1)),
    Row((7, 8, 2), (0, 1, 0)),
    Row((5, 6, 7, 8, 3, 3, 4), (0, 1, 0, 0, 1, 1, 0), temperature=0.5),
]


def test_token_is_predicted_by_the_position_before_it(close: Close) -> None:
    want = []
    for row in ROWS:
        for before, token, weight in zip(row.ids, row.ids[1:], row.mask[1:]):
            if weight:
                scores = [value / row.temperature for value in TABLE[before].tolist()]
                want.append(scores[token] - math.log(sum(map(math.exp, scores))))
    close(bigram(collate(ROWS)), want)


def test_first_token_of_a_row_is_never_trained_on(close: Close) -> None:
    row = Row((2, 3), (1, 1))
    assert row.loss_positions.tolist() == [1]
    close(bigram(collate([ROWS[0], row]))[3:], [TABLE[2, 3].item()])


def test_rows_do_not_read_across_their_borders() -> None:
    batch = collate(ROWS)
    width = batch.inputs.ids.shape[1]
    assert (batch.where // width).tolist() == batch.row.tolist()
    assert ((batch.where + 1) // width).tolist() == batch.row.tolist()
    lengths = torch.tensor([len(row.ids) for row in ROWS])
    assert ((batch.where + 1) % width < lengths[batch.row]).all()


def test_targets_stand_behind_the_positions_that_predict_them() -> None:
    batch = collate([Row((5, 6, 7), (0, 1, 1)), Row((8, 9), (0, 1))])
    assert batch.where.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]
    assert torch.equal(batch.inputs.ids.flatten()[batch.where + 1], batch.targets)
    assert batch.inputs.positions.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_order_of_rows_does_not_change_what_they_get(close: Close) -> None:
    forward, backward = collate(ROWS), collate(ROWS[::-1])
    for n in range(3):
        close(bigram(forward)[forward.row == n], bigram(backward)[backward.row == 2 - n])


@pytest.mark.parametrize("end", [EOS, OTHER_EOS])
def test_end_tokens_are_trained_on_even_when_they_are_the_padding(end: int, close: Close) -> None:
    row = trace_rows(trace(turn([2, PAD, 3], [4, EOS, 5, end])), "solver")[0]
    batch = collate([row, Row((*range(2, 9), 2, 3), (0, *[1] * 8))])
    assert batch.filled == 7 + 9
    mine = batch.row == 0
    assert batch.targets[mine].tolist() == [4, EOS, 5, end]
    want = [TABLE[a, b].item() for a, b in ((3, 4), (4, EOS), (EOS, 5), (5, end))]
    close(bigram(batch)[mine], want)


def test_padding_is_no_loss_token_and_counts_as_padding() -> None:
    batch = collate([Row((PAD,) * 2, (1,) * 2), Row((PAD,) * 8, (1,) * 8)])
    assert len(batch.targets) == 1 + 7
    assert (batch.filled, batch.inputs.ids.numel()) == (10, 16)


def test_everything_about_a_token_stays_with_it() -> None:
    rows = [
        Row(ids=(2, 3, 4, 5), mask=(0, 0.5, 0, 2), logprobs=(0, -1, 0, -2), temperature=0.5),
        Row((6, 7), (0, 1), (0, -5)),
    ]
    batch = collate(rows)
    assert batch.targets.tolist() == [3, 5, 7]
    assert batch.mask.tolist() == [0.5, 2, 1]
    assert batch.row.tolist() == [0, 0, 1]
    assert batch.sampling.tolist() == [-1, -2, -5]
    assert batch.temperature.tolist() == [0.5, 0.5, 1]
    assert batch.support is None


def test_batch_of_two_roles_is_refused() -> None:
    with pytest.raises(ValueError, match="one role"):
        collate([Row((2, 3), (0, 1)), Row((2, 3), (0, 1), role="verifier")])


def test_support_lands_at_their_tokens(close: Close) -> None:
    first = trace_rows(
        trace(turn([2, 3], [4, 5, 6], support=(pack(4, 8), b"", pack(7, 6, 1)))), "solver"
    )[0]
    second = trace_rows(trace(turn([7], [8, 2])), "solver")[0]
    third = trace_rows(trace(turn([2, 2, 2], [3], support=(pack(3),))), "solver")[0]
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


def test_support_survives_turns_that_share_a_row() -> None:
    support = (pack(4, 5),), (pack(7, 8), b"")
    [row] = trace_rows(
        trace(
            turn([2, 3], [4], support=support[0]), turn([2, 3, 4, 5, 6], [7, 8], support=support[1])
        ),
        "solver",
    )
    assert row.support == (b"", b"", pack(4, 5), b"", b"", pack(7, 8), b"")
    batch = collate([row])
    assert batch.support is not None
    assert [part.tolist() for part in batch.support] == [[0, 2, 4, 4], [4, 5, 7, 8]]


def test_tool_output_and_context_are_never_trained_on() -> None:
    tool = Run(RunPython("1"), RunResult(True))
    events = (
        turn([2, 3], [4, 5]),
        tool,
        turn([2, 3, 4, 5, 8, 8, 8], [6, EOS]),
        turn([2, 3, 4, 5, 8, 8, 8, 6, 0, 7], [1]),
    )
    [row] = trace_rows(trace(*events), "solver")
    assert row.ids == (2, 3, 4, 5, 8, 8, 8, 6, 0, 7, 1)
    assert row.mask == (0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1)
    assert row.logprobs == (0, 0, -0.25, -0.5, 0, 0, 0, -0.25, -0.5, 0, -0.25)
    assert row.turns == (-1, -1, 0, 0, -1, -1, -1, 1, 1, -1, 2)
    assert 8 not in collate([row]).targets.tolist()


def test_reply_that_was_edited_in_the_history_is_context_of_a_new_row() -> None:
    rows = trace_rows(trace(turn([2], [3, 4]), turn([2, 3, 5], [6])), "solver")
    assert [(row.ids, row.mask) for row in rows] == [
        ((2, 3, 4), (0, 1, 1)),
        ((2, 3, 5, 6), (0, 0, 0, 1)),
    ]


def test_every_sampled_token_is_trained_on_exactly_once() -> None:
    events = [
        turn([2], [3, 4]),
        turn([2, 3, 4, 5], [6]),
        turn([2, 3, 4, 7], [8]),
        turn([2, 3, 4, 5, 6], [1]),
    ]
    rows = trace_rows(trace(*events), "solver")
    assert sum(len(row.loss_positions) for row in rows) == 5
    trained = sorted(row.ids[t] for row in rows for t in row.loss_positions)
    assert trained == [1, 3, 4, 6, 8]


def test_empty_and_greedy_replies_make_no_row() -> None:
    assert trace_rows(trace(turn([2], [])), "solver") == []
    assert trace_rows(trace(turn([2], [3], asked=0.0)), "solver") == []
    assert trace_rows(trace(turn([2], [3], "verifier")), "solver") == []


def test_greedy_turn_in_between_becomes_context() -> None:
    [row] = trace_rows(
        trace(turn([2], [3]), turn([2, 3], [4], asked=0.0), turn([2, 3, 4, 5], [6])), "solver"
    )
    assert (row.ids, row.mask) == ((2, 3, 4, 5, 6), (0, 1, 0, 0, 1))


def test_empty_reply_leaves_the_rows_after_it_alone() -> None:
    [row] = trace_rows(trace(turn([2], [3]), turn([2, 3], []), turn([2, 3, 4], [5])), "solver")
    assert (row.ids, row.mask) == ((2, 3, 4, 5), (0, 1, 0, 1))


def test_turns_of_other_weights_or_other_images_share_no_row() -> None:
    """A row has one version of the weights, and begins with the images of its prompt."""
    old, new = turn([2], [3]), turn([2, 3, 4], [5])
    later = replace(new, reply=replace(new.reply, version=7))
    rows = trace_rows(trace(old, later), "solver")
    assert [(row.ids, row.version) for row in rows] == [((2, 3), 0), ((2, 3, 4, 5), 7)]
    one, two = (user("x", [Image(name)]) for name in ("one.png", "two.png"))
    turns = [replace(turn([2], [3]), request=Generate(one)), replace(new, request=Generate(two))]
    assert [row.images for row in trace_rows(trace(*turns), "solver")] == [
        (Image("one.png"),),
        (Image("two.png"),),
    ]


def test_rows_with_images_are_refused_by_a_model_of_text() -> None:
    batch = collate([Row((2, 3), (0, 1), images=(Image("one.png"),))])
    with pytest.raises(ValueError, match="images"):
        hidden_states(SCRATCH.model(SCRATCH.tokenizer()), batch.inputs)


def test_reply_without_log_probabilities_does_not_shift_those_after_it() -> None:
    silent = Turn(Generate(user("x")), Reply(text="", token_ids=(3, 4), prompt_ids=(2,)))
    [row] = trace_rows(trace(silent, turn([2, 3, 4, 5], [6])), "solver")
    assert len(row.logprobs) == len(row.ids)
    assert row.logprobs[4] == -0.25


@pytest.mark.parametrize("tokens", [1, 8, 20, 1000])
def test_micro_batches_hold_every_row_once_within_the_budget(tokens: int) -> None:
    rows = [
        Row(tuple(range(n)), (1.0,) * n, role=role)
        for n in (3, 9, 4, 4, 20, 1)
        for role in ("a", "b")
    ]
    indices = list(micro_batches(rows, tokens))
    assert sorted(n for chunk in indices for n in chunk) == list(range(len(rows)))
    chunks = [[rows[n] for n in chunk] for chunk in indices]
    for chunk in chunks:
        assert len({row.role for row in chunk}) == 1
        assert len(chunk) == 1 or len(chunk) * max(len(row.ids) for row in chunk) <= tokens


def test_no_rows_make_no_micro_batch() -> None:
    assert list(micro_batches([], 10)) == []


def test_long_rows_come_first_and_little_is_padding() -> None:
    rows = [Row(tuple(range(n)), (1.0,) * n) for n in range(2, 400)]
    widths = [[len(rows[n].ids) for n in chunk] for chunk in micro_batches(rows, 4096)]
    assert [max(chunk) for chunk in widths] == sorted(map(max, widths), reverse=True)
    for chunk in widths:
        positions = len(chunk) * max(chunk)
        assert positions <= 1024 or positions - sum(chunk) <= 0.1 * positions
    # the most that fit, not one row each
    assert len(widths) < 50
