"""Rates of a verifier's verdicts, against counts by hand."""

from dataclasses import replace

import pytest

from slm_math.metrics.intervals import pooled, wilson
from slm_math.metrics.rounds import verdict_counts
from slm_math.metrics.summary import summarize
from slm_math.records.record import Record, TurnEvent


def verdict(problem: int, gold: str, answer: str | None, draft: str = "a") -> Record:
    id, right = f"drafts/p/{problem}/{draft}", answer == gold
    return Record(id, 0, gold=gold, answer_type="verdict", answer=answer, correct=right)


RECORDS = [
    *(verdict(n, "CORRECT", "CORRECT") for n in range(6)),
    *(verdict(n, "CORRECT", "INCORRECT") for n in range(6, 8)),
    *(verdict(n, "INCORRECT", "INCORRECT") for n in range(8, 9)),
    *(verdict(n, "INCORRECT", None) for n in range(9, 12)),  # nothing usable is not right
]


def test_balanced_accuracy_is_the_mean_of_both_rates() -> None:
    metrics = summarize(RECORDS).metrics
    assert metrics["true_positive_rate"] == 6 / 8
    assert metrics["true_negative_rate"] == 1 / 4
    assert metrics["balanced_accuracy"] == 0.5
    assert metrics["accuracy"] == pytest.approx(7 / 12)


def test_the_intervals_are_those_of_both_rates_and_of_their_mean() -> None:
    intervals = summarize(RECORDS).intervals
    assert intervals["true_positive_rate"] == (*wilson(6, 8), 8)
    (low, high), (low2, high2) = wilson(6, 8), wilson(1, 4)
    below = ((0.75 - low) ** 2 + (0.25 - low2) ** 2) ** 0.5 / 2
    above = ((high - 0.75) ** 2 + (high2 - 0.25) ** 2) ** 0.5 / 2
    assert intervals["balanced_accuracy"] == pytest.approx((0.5 - below, 0.5 + above, 12))


def test_drafts_of_one_problem_are_no_independent_samples() -> None:
    alone = [verdict(n, "CORRECT", "CORRECT" if n % 2 else "INCORRECT") for n in range(8)]
    again = [
        verdict(n, "CORRECT", "CORRECT" if n % 2 else "INCORRECT", draft)
        for n in range(8)
        for draft in "abcd"
    ]
    wide, repeated = (summarize(each).intervals["true_positive_rate"] for each in (alone, again))
    assert repeated[1] - repeated[0] > 0.9 * (wide[1] - wide[0])


def test_drafts_of_one_side_have_no_balanced_accuracy() -> None:
    metrics = summarize(RECORDS[:8]).metrics
    assert "balanced_accuracy" not in metrics
    assert "true_negative_rate" not in metrics


def test_accuracy_counts_drafts_of_one_problem_as_one_observation() -> None:
    records = [
        verdict(n, "CORRECT", "CORRECT" if n % 2 else "INCORRECT", draft)
        for n in range(8)
        for draft in "abcd"
    ]
    summary = summarize(records)
    assert (summary.low, summary.high) == pytest.approx(
        pooled([[n % 2] * 4 for n in range(8)])
    )  # as wide as of 8 drafts, not of 32


def test_verdicts_are_counted_by_the_truth() -> None:
    """As for the verifier of an agent; a missing verdict is UNCLEAR, and no INCORRECT."""
    turn = (TurnEvent("verifier"),)
    [counts] = verdict_counts([replace(each, events=turn) for each in RECORDS]).values()
    assert counts == {
        ("CORRECT", True): 6,
        ("INCORRECT", True): 2,
        ("INCORRECT", False): 1,
        ("UNCLEAR", False): 3,
    }
