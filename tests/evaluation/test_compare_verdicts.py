"""The paired comparison of balanced accuracy, against counts by hand and simulation."""

import random
from collections.abc import Callable

import pytest

from slm_math.evaluation.compare_verdicts import compare_balanced
from slm_math.records.record import Record


def judge(
    drafts: dict[str, str], is_right: Callable[[str, str], bool], samples: int = 1
) -> list[Record]:
    """Verdicts on drafts (id -> gold)."""
    return [
        Record(
            f"drafts/p/{id}", sample, gold=gold, answer_type="verdict", correct=is_right(id, gold)
        )
        for id, gold in drafts.items()
        for sample in range(samples)
    ]


# three right drafts and one wrong one, of two problems
DRAFTS = {"0/a": "CORRECT", "0/b": "CORRECT", "1/a": "CORRECT", "1/b": "INCORRECT"}


def test_difference_weighs_both_sides_alike() -> None:
    never = judge(DRAFTS, lambda id, gold: gold == "CORRECT", samples=2)
    always = judge(DRAFTS, lambda id, gold: id != "0/a")
    [one] = compare_balanced({"a": never, "b": always})
    assert one.balanced_accuracy == pytest.approx((1 / 2, (2 / 3 + 1) / 2))
    assert one.difference == pytest.approx((-1 / 3 + 1) / 2)
    assert (one.problems, one.drafts) == (2, 4)
    # problem 0 adds -1/6 and problem 1 adds 1/2: no other signs give a sum nearer to 0
    assert one.p == 1.0


def test_p_is_that_of_problems_not_of_drafts() -> None:
    drafts = {f"{n}/{kind}{i}": kind for n in range(4) for kind in KINDS for i in range(5)}
    wrong, right = (judge(drafts, lambda id, gold, all=all: all) for all in (False, True))
    [one] = compare_balanced({"a": wrong, "b": right})
    assert one.difference == 1.0
    assert one.p == 2 / 2**4
    [same] = compare_balanced({"a": right, "b": right})
    assert (same.difference, same.p) == (0, 1)
    assert same.low < 0 < same.high


KINDS = ("CORRECT", "INCORRECT")


def test_interval_covers_and_p_is_uniform_where_problems_decide() -> None:
    """Verdicts on all drafts of a problem are alike, and neither run is better."""
    generator, covered, rejected, trials = random.Random(5), 0, 0, 150
    drafts = {f"{n}/{kind}{i}": kind for n in range(12) for kind in KINDS for i in range(3)}
    for _ in range(trials):
        luck = [{f"{n}": generator.random() < 0.6 for n in range(12)} for _ in "ab"]
        runs = [judge(drafts, lambda id, gold, at=at: at[id.partition("/")[0]]) for at in luck]
        [one] = compare_balanced(dict(zip("ab", runs)))
        covered += one.low <= 0 <= one.high
        rejected += one.p < 0.05
    assert covered / trials > 0.9
    assert rejected / trials < 0.1


def test_others_than_verdicts_have_none() -> None:
    records = [Record("p/1", 0, gold="1", correct=True)]
    assert compare_balanced({"a": records, "b": records}) == []
    one_side = judge({"0/a": "CORRECT"}, lambda id, gold: True)
    assert compare_balanced({"a": one_side, "b": one_side}) == []
