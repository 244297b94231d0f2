"""Rates of a verifier's verdicts, against counts by hand."""

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from slm_math.evaluation.table import summary_lines, verdicts_table
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
        pooled([4 * (n % 2) for n in range(8)], [4] * 8)
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


def judged(problems: int, drafts: str, samples: int = 1) -> list[Record]:
    """Verdicts on right and wrong drafts of problems; those on a problem are all right or wrong."""
    return [
        replace(verdict(n, gold, gold if n % 3 else SWAPPED[gold], f"{gold}{draft}"), sample=sample)
        for n in range(problems)
        for gold in SWAPPED
        for draft in drafts
        for sample in range(samples)
    ]


SWAPPED = {"CORRECT": "INCORRECT", "INCORRECT": "CORRECT"}


def width(interval: Sequence[float]) -> float:
    return interval[1] - interval[0]


def test_rates_of_the_same_problems_are_correlated() -> None:
    """Both rates are then equal, so that their mean is as uncertain as each."""
    intervals = summarize(judged(30, "a")).intervals
    rate = intervals["true_positive_rate"]
    assert intervals["balanced_accuracy"][:2] == pytest.approx(rate[:2])
    assert width(rate) == pytest.approx(width(wilson(20, 30)))


@pytest.mark.parametrize("name", ["pass@2", "maj@2"])
def test_more_drafts_of_the_same_problems_do_not_narrow_the_intervals_of_samples(name: str) -> None:
    few, many = (summarize(judged(30, drafts, 2)).metrics for drafts in ("a", "abcdef"))
    ends = [[metrics[f"{name}_{end}"] for end in ("low", "high")] for metrics in (few, many)]
    assert width(ends[1]) == pytest.approx(width(ends[0]), abs=1e-9)
    assert few[name] == many[name] == pytest.approx(2 / 3)


def test_how_verdicts_are_stated_is_counted_by_problem() -> None:
    ends = []
    for drafts in ("a", "abcdef"):
        records = [replace(one, hedged=not one.correct) for one in judged(30, drafts)]
        ends.append(summarize(records).intervals["hedged"])
    assert width(ends[1]) == pytest.approx(width(ends[0]))


def test_tables_and_lines_of_verdicts_fit_eighty_columns() -> None:
    summaries = {"judge_with_a_name": summarize(judged(100, "abc", 4))}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verdicts_table(summaries))
    shown = console.export_text()
    assert "66.0" in shown
    assert all("[" not in line or "]" in line for line in shown.splitlines())
    lines = summary_lines(summaries)
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
