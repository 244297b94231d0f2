"""Metrics of rollouts and evaluations, counted by hand."""

import json
import math
from itertools import combinations
from typing import Any

import pytest

from slm_math.metrics.records import pass_at_k, record_metrics, reward_metrics
from slm_math.modules.step_metrics import StepMetrics, sampling_metrics
from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record


def row(id: str, sample: int, correct: bool, *turns: tuple[int, str], **more: Any) -> Record:
    events = [
        {"kind": "turn", "role": "solver", "tokens": tokens, "finish": finish}
        for tokens, finish in turns
    ]
    data = {
        "id": id,
        "sample": sample,
        "correct": correct,
        "reason": "equal" if correct else "different",
    }
    return from_json(data | {"answer": "1", "error": None, "events": events} | more)


def test_terminated_lengths_leave_truncated_replies_out() -> None:
    rows = [
        row("a", 0, True, (3, "stop"), (5, "stop")),
        row("a", 1, False, (10, "length")),
        row("b", 0, False),
    ]
    got = record_metrics(rows)
    assert (got["length"], got["length_min"], got["length_max"]) == (6, 3, 10)
    assert (
        got["length_terminated"],
        got["length_terminated_min"],
        got["length_terminated_max"],
    ) == (4, 3, 5)
    assert (got["truncated"], got["turns"], got["tokens"]) == (1 / 3, 1, 6)
    assert "length" not in record_metrics([row("b", 0, False)])


def test_shares_and_counts_of_samples() -> None:
    rows = [
        row("a", 0, True, (4, "stop")),
        row("a", 1, False, (0, "stop"), answer=None),
        row("b", 0, False, reason="timeout"),
        row("b", 1, False, answer=None, error="gone"),
    ]
    got = record_metrics(rows)
    names = ("accuracy", "no_answer", "empty", "undecided", "errors")
    assert [got[name] for name in names] == [0.25, 0.5, 0.25, 1, 1]


@pytest.mark.parametrize(
    ("n", "right", "k"), [(4, 1, 2), (8, 3, 4), (5, 5, 1), (6, 0, 6), (7, 2, 7), (16, 4, 8)]
)
def test_pass_at_k_counts_the_subsets_with_a_right_sample(n: int, right: int, k: int) -> None:
    marks = [i < right for i in range(n)]
    subsets = list(combinations(marks, k))
    assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_goes_up_to_the_fewest_samples_of_a_problem() -> None:
    rows = [row("a", i, i == 0) for i in range(8)] + [row("b", i, False) for i in range(5)]
    got = {name: value for name, value in record_metrics(rows).items() if name.startswith("pass@")}
    assert got == pytest.approx({"pass@2": (1 - 21 / 28) / 2, "pass@4": (1 - 35 / 70) / 2})


def scored(
    group: str, rewards: list[float], correct: list[bool], advantages: list[float] | None
) -> list[Record]:
    return [
        row(group, i, right, (2, "stop")).with_training(
            {"solver": {"correct": reward}},
            {"solver": reward},
            {} if advantages is None else {"solver": advantages[i]},
        )
        for i, (reward, right) in enumerate(zip(rewards, correct))
    ]


def test_groups_with_equal_rewards_are_split_by_correctness() -> None:
    nan = math.nan
    rows = [
        *scored("a", [1, 0], [True, False], [1.0, -1.0]),
        *scored("b", [1, 1], [True, True], [0.0, 0.0]),
        *scored("c", [-1, -1], [False, False], None),
        *scored("d", [0.5, nan], [True, False], [0.0, 0.0]),
    ]
    got = sampling_metrics(rows, 2, ("solver",))
    name = "frac_reward_zero_std"
    assert (got[name], got[f"{name}/all_right"], got[f"{name}/all_wrong"]) == (0.75, 0.25, 0.25)
    values = [1, 0, 1, 1, -1, -1, 0.5]
    mean = sum(values) / 7
    assert got["reward"] == got["reward/correct"] == pytest.approx(mean)
    assert got["reward_std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 6))
    assert got["unscored"] == 1 / 8
    assert (got["advantage_min"], got["advantage"], got["advantage_max"]) == (-1, 0, 1)


def test_sums_over_micro_batches_keep_extremes() -> None:
    totals = StepMetrics()
    totals.add(
        {"tokens": 2, "ratio": 2.5, "ratio_max": 1.5, "ratio_min": 1.0, "loss": 0.25, "kl": 1.0}
    )
    totals.add(
        {"tokens": 3, "ratio": 2.5, "ratio_max": 1.1, "ratio_min": 0.3, "loss": 0.5, "kl": 0.0}
    )
    got = totals.means(passes=1)
    assert got == {"loss": 0.75, "kl": 0.2, "ratio": 1.0, "ratio_max": 1.5, "ratio_min": 0.3}


def test_effective_sample_size_is_one_for_equal_weights_and_less_for_others() -> None:
    for weights in ([1.0, 1.0, 1.0], [0.2, 1.0, 2.3]):
        totals = StepMetrics()
        squares, zero = sum(w * w for w in weights), {"logp_diff": 0.0, "mismatch_corrected": 1}
        totals.add(
            {"tokens": 3, "scored": 3, "mismatch": sum(weights), "mismatch_squares": squares} | zero
        )
        got = totals.means(1)
        assert got["effective_sample_size"] == pytest.approx(sum(weights) ** 2 / (3 * squares))
        assert got["mismatch_corrected"] == pytest.approx(1 / 3)


def test_groups_of_a_role_without_a_correctness_reward_are_not_split() -> None:
    rows = [
        record.with_training({"solver": {"format": 1.0}}, {"solver": 1.0})
        for record in scored("a", [1, 1], [True, True], None)
    ]
    got = sampling_metrics(rows, 2, ("solver",))
    assert got["frac_reward_zero_std"] == 1
    assert not [name for name in got if name.startswith("frac_reward_zero_std/")]


def test_rewards_that_were_read_back_are_nan_where_they_are_null() -> None:
    rows = [
        from_json(json.loads(json_line(record)))
        for record in scored("a", [1.0, math.nan], [True, False], None)
    ]
    got = reward_metrics([rows], ("solver",))
    assert (got["reward"], got["unscored"]) == (1.0, 0.5)
