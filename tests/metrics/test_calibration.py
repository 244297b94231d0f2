"""The share of verdicts that say CORRECT against the share of right drafts, computed by hand."""

from dataclasses import replace

import pytest

from slm_math.metrics.calibration import calibration_metrics, vote_bins
from slm_math.metrics.intervals import wilson
from slm_math.metrics.summary import summarize
from slm_math.records.record import Record

WORDS = {"c": "CORRECT", "i": "INCORRECT", "-": None}


def samples(problem: int, right: bool, votes: str) -> list[Record]:
    """The verdicts on one draft, a letter each."""
    gold = "CORRECT" if right else "INCORRECT"
    return [
        Record(
            f"drafts/p/{problem}/a",
            sample,
            gold=gold,
            answer_type="verdict",
            answer=WORDS[vote],
            correct=WORDS[vote] == gold,
        )
        for sample, vote in enumerate(votes)
    ]


DRAFTS = [
    *((True, "cccc"),) * 3,
    *((False, "cccc"),) * 1,
    *((True, "ciii"),) * 1,
    *((False, "ciii"),) * 3,
    *((False, "iiii"),) * 2,
]
RECORDS = [record for n, draft in enumerate(DRAFTS) for record in samples(n, *draft)]


def test_bins_hold_the_share_of_right_drafts() -> None:
    bins = vote_bins(RECORDS)
    assert [(each.share, each.right, each.n) for each in bins] == [
        (0.0, 0.0, 2),
        (0.25, 0.25, 4),
        (1.0, 0.75, 4),
    ]
    assert (bins[2].low, bins[2].high) == pytest.approx(wilson(3, 4))


def test_the_error_is_the_mean_distance_over_drafts() -> None:
    metrics = calibration_metrics(RECORDS)
    assert metrics["calibration_error"] == pytest.approx(4 / 10 * 0.25)
    assert metrics["calibration_error_low"] <= 0.1 <= metrics["calibration_error_high"]


def test_a_verdict_that_is_missing_has_no_vote() -> None:
    [only] = vote_bins(samples(0, True, "c-c-") + samples(1, True, "----"))
    assert (only.share, only.n) == (1.0, 1)


def test_one_verdict_per_draft_says_nothing_about_calibration() -> None:
    single = [record for record in RECORDS if record.sample == 0]
    assert summarize(single).calibration == ()
    assert "calibration_error" not in summarize(single).metrics


def test_problems_without_drafts_have_no_calibration() -> None:
    records = [Record("p", sample, answer="4", correct=True) for sample in range(4)]
    assert vote_bins(records) == ()
    assert calibration_metrics(records) == {}


def test_drafts_of_one_problem_are_one_observation() -> None:
    apart = [each for n in range(12) for each in samples(n, n % 2 == 0, "cc")]
    drafts = [(n, each) for n in range(12) for each in samples(n // 6, n % 2 == 0, "cc")]
    together = [replace(each, id=f"{each.id}{n}") for n, each in drafts]
    narrow, wide = (calibration_metrics(each) for each in (apart, together))
    assert narrow["calibration_error"] == wide["calibration_error"] == 0.5
    assert wide["calibration_error_high"] - wide["calibration_error_low"] == 0.0


def test_the_summary_has_the_bins() -> None:
    summary = summarize(RECORDS)
    assert summary.calibration == vote_bins(RECORDS)
    assert summary.to_json()["calibration"][1] == {
        "share": 0.25,
        "right": 0.25,
        "low": pytest.approx(wilson(1, 4)[0]),
        "high": pytest.approx(wilson(1, 4)[1]),
        "n": 4,
    }
