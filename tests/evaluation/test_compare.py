"""Comparing runs: the statistics against published numbers and second implementations, and what is
unpaired.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_math.evaluation.compare import (
    adjusted,
    compare,
    holm,
    mcnemar,
    sign_flip,
)
from slm_math.metrics.differences import paired_interval, spread_interval
from slm_math.records.encoding import from_json
from slm_math.records.record import Record

Z = NormalDist().inv_cdf(0.975)


def row(id: str, correct: bool, sample: int = 0, **more: Any) -> Record:
    own = {
        "id": id,
        "sample": sample,
        "problem": f"What is {id}?",
        "gold": "1",
        "answer": "1" if correct else "2",
    }
    return from_json(
        {
            **own,
            "correct": correct,
            "error": None,
            "seconds": 0.1,
            "tags": {},
            "events": [],
            **more,
        }
    )


def rows(marks: str) -> list[Record]:
    """One sample of each problem: `1` is right."""
    return [row(str(i), mark == "1") for i, mark in enumerate(marks)]


def several(*marks: str) -> list[Record]:
    return [row(str(i), mark == "1", s) for i, of in enumerate(marks) for s, mark in enumerate(of)]


# statistics


def test_mcnemar_of_a_published_example() -> None:
    # airway hyper-responsiveness, Bentur et al. 2009, in Fagerland et al. 2013 (BMC Med. Res.
    # Methodol. 13:91)
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


def test_mcnemar_of_scipys_binomial_test() -> None:
    # scipy.stats.binomtest(86, 236).pvalue; the table is Agresti's (1990, p. 350)
    assert mcnemar(86, 150) == pytest.approx(3.715936139571442e-05, rel=1e-12)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_adds_up_the_outcomes_that_are_no_likelier(gained: int, lost: int) -> None:
    n = gained + lost
    ways = [math.comb(n, i) for i in range(n + 1)]
    assert mcnemar(gained, lost) == pytest.approx(sum(w for w in ways if w <= ways[gained]) / 2**n)


def test_nothing_flipped_has_p_one() -> None:
    assert mcnemar(0, 0) == 1.0


def test_the_interval_is_agresti_and_mins() -> None:
    # PropCIs::diffpropci.mp(b = 40, c = 20, n = 160, conf.level = 0.95) prints these
    assert paired_interval(20, 40, 160) == pytest.approx((-0.21601726, -0.03089632), abs=5e-9)


@pytest.mark.parametrize(("up", "down"), [(0.1, 0.05), (0.3, 0.1), (0.02, 0.02), (0.5, 0.4)])
def test_the_interval_covers_what_it_should(up: float, down: float) -> None:
    n, covered = 25, 0.0
    for gained in range(n + 1):
        for lost in range(n - gained + 1):
            same = n - gained - lost
            ways = math.factorial(n) // (
                math.factorial(gained) * math.factorial(lost) * math.factorial(same)
            )
            low, high = paired_interval(gained, lost, n)
            if low <= up - down <= high:
                covered += ways * up**gained * down**lost * (1 - up - down) ** same
    assert covered > 0.93


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_interval_holds_the_difference(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    low, high = paired_interval(gained, lost, max(n, 1))
    assert -1 <= low <= (gained - lost) / max(n, 1) <= high <= 1


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=18))
def test_one_sample_flipped_at_random_is_mcnemars_test(signs: list[int]) -> None:
    if sum(map(abs, signs)) <= 14:
        assert sign_flip([Fraction(s) for s in signs]) == pytest.approx(
            mcnemar(signs.count(1), signs.count(-1))
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.fractions(-1, 1, max_denominator=6), min_size=1, max_size=9))
def test_sign_flips_are_all_tried(differences: list[Fraction]) -> None:
    found = abs(sum(differences))
    flips = [
        abs(sum(s * d for s, d in zip(signs, differences)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip(differences) == pytest.approx(sum(f >= found for f in flips) / len(flips))


def test_random_sign_flips_come_near_the_exact_value_and_repeat() -> None:
    # 2 ** 16 ways
    differences = [Fraction(x, 4) for x in (3, -1, 2, 2, -2, 1, 4, -3, 1, 1, 2, -1, 2, 1, -1, 3)]
    sums = {0: 1}
    for d in differences:
        new: dict[Fraction, int] = {}
        for s, count in sums.items():
            new[s + d] = new.get(s + d, 0) + count
            new[s - d] = new.get(s - d, 0) + count
        sums = new
    exact = sum(count for s, count in sums.items() if abs(s) >= sum(differences)) / 2**16
    assert sign_flip(differences) == pytest.approx(
        exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000)
    )
    assert sign_flip(differences) == sign_flip(differences)


def test_random_sign_flips_are_never_nothing() -> None:
    assert sign_flip([Fraction(1, 2)] * 500) == 1 / 10_001


def test_the_interval_of_several_samples_is_on_the_spread_of_problems() -> None:
    differences = [0.5, -0.25, 0.75, 0.0, 0.25]
    expected = with_partial_units(mean(differences), stdev(differences) / math.sqrt(5), 5, 2.776445)
    assert spread_interval(differences) == pytest.approx(expected, abs=1e-6)


def with_partial_units(mean: float, error: float, n: int, t: float) -> tuple[float, float]:
    """The interval of a mean of n units with this standard error, if its variance has two more, one
    of 1 and one of -1, which count as a tenth of a unit each; `t` is the point of Student's t.
    """
    squares = error**2 * n * (n - 1) + 0.1 * (1 - mean) ** 2 + 0.1 * (1 + mean) ** 2
    half = t * math.sqrt(squares / (n - 0.8) / n)
    return max(mean - half, -1), min(mean + half, 1)


def test_problems_that_all_differ_alike_do_not_make_the_interval_a_point() -> None:
    low, high = spread_interval([0.0] * 8)
    # Agresti and Min's of 8 pairs without a change
    assert (low, high) == pytest.approx((-Z / 10, Z / 10))


def test_holm_of_a_known_example() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_stepping_down_rejects(ps: list[float]) -> None:
    corrected = holm(ps)
    for level in (0.01, 0.05, 0.2):
        going, rejected = True, 0
        for rank, p in enumerate(sorted(ps)):
            going = going and p * (len(ps) - rank) <= level
            rejected += going
        assert sum(c <= level for c in corrected) == rejected


# comparisons


def test_each_run_is_compared_with_the_first() -> None:
    found = compare({"a": rows("110000"), "b": rows("011110"), "c": rows("110001")})
    assert [(c.a, c.b, c.gained, c.lost) for c in found] == [
        ("a", "b", ("2", "3", "4"), ("0",)),
        ("a", "c", ("5",), ()),
    ]
    assert found[0].difference == pytest.approx(2 / 6)
    assert found[0].p == pytest.approx(2 * 5 / 16)
    assert found[0].test == "exact McNemar"
    assert [c.p_adjusted for c in found] == [1.0, 1.0]


def test_the_order_of_records_does_not_matter() -> None:
    assert compare({"a": rows("1100"), "b": rows("0111")[::-1]})[0].gained == ("2", "3")


def test_it_reads_as_people_read_it() -> None:
    a, b = rows("0" * 14 + "1" * 86), rows("1" * 98 + "0" * 2)
    shown = compare({"a": a, "b": b, "same": a})[0].shown()
    low, high = paired_interval(14, 2, 100)
    p = 2 * (1 + 16 + 120) / 2**16
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    assert shown == f"+12.0 {interval}, p = {p:.3f} (Holm {2 * p:.3f}), 14 gained, 2 lost, n = 100"


def test_no_difference_is_shown_as_plus_nothing() -> None:
    assert compare({"a": rows("10"), "b": rows("01")})[0].shown().startswith("+0.0 [")


def test_several_samples_are_compared_by_problem_even_in_different_numbers() -> None:
    [c] = compare({"a": several("00", "10", "11"), "b": several("1101", "111", "0")})
    assert c.difference == pytest.approx((0.75 + 0.5 - 1) / 3)
    assert (c.gained, c.lost) == (("0",), ("2",))  # problem 1 was right in half of its samples
    assert c.test == "sign-flip permutation"
    assert c.accuracy == pytest.approx((0.5, 1.75 / 3))


def test_broken_samples_are_not_right_and_are_counted() -> None:
    a, b = rows("11"), rows("11")
    b[0] = replace(b[0], error="connection refused")
    [c] = compare({"a": a, "b": b})
    assert (c.lost, c.broken) == (("0",), (0, 1))


def test_holm_is_taken_over_whatever_was_compared() -> None:
    pairs = [compare({"a": rows("0" * 9 + "1"), "b": rows("1" * 9 + "0")})[0]] * 3
    assert [c.p_adjusted for c in adjusted(pairs)] == pytest.approx([3 * 22 / 1024] * 3)


def test_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 only in a \(such as '2'\) besides 2 in both"):
        compare({"a": rows("1111"), "b": rows("11")})


@pytest.mark.parametrize(
    ("field", "value"),
    [("gold", "2"), ("problem", "Another?"), ("answer_type", "num"), ("tolerance", 0.1)],
)
def test_the_same_id_with_other_rules_is_refused(field: str, value: object) -> None:
    other = rows("11")
    other[1] = replace(other[1], **{field: value})
    with pytest.raises(ValueError, match=f"problem '1' has another {field} in b than in a"):
        compare({"a": rows("11"), "b": other})


def test_an_empty_run_and_a_single_one_are_refused() -> None:
    with pytest.raises(ValueError, match="b is empty"):
        compare({"a": rows("1"), "b": []})
    with pytest.raises(ValueError, match="two runs or more, got 1"):
        compare({"a": rows("1")})


def test_a_record_without_a_verdict_is_named() -> None:
    bad = [from_json({"id": "\x1b[2J", "sample": 0})]
    with pytest.raises(ValueError, match=r"b: a sample of problem '\\x1b\[2J' has no verdict"):
        compare({"a": rows("1"), "b": bad})


def test_published_accuracies_of_recorded_solutions(real_data: Path) -> None:
    """Cobbe et al. 2021: four models on GSM8K's test set; the flips add up to the differences."""
    lines = (
        (real_data / "recorded/gsm8k_model_solutions.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    saved = [json.loads(line) for line in lines]
    names = ("6b_finetuning", "6b_verification", "175b_verification")
    runs = {n: [row(str(i), case[n]["is_correct"]) for i, case in enumerate(saved)] for n in names}
    for c in compare(runs):
        right = [sum(case[name]["is_correct"] for case in saved) for name in (c.a, c.b)]
        assert len(c.gained) - len(c.lost) == right[1] - right[0]
        assert c.difference == pytest.approx((right[1] - right[0]) / 1319)
        assert c.p_adjusted < 1e-30


def drafts(marks: list[str], **more: Any) -> list[Record]:
    """Verdicts on the drafts of one problem per text, a letter each: + is right."""
    return [
        row(f"drafts/p/{problem}/{n}", mark == "+", answer_type="verdict", **more)
        for problem, some in enumerate(marks)
        for n, mark in enumerate(some)
    ]


def test_drafts_of_one_problem_change_together() -> None:
    """Six problems with four drafts each that are all gained: 2 of 2 ** 6 signs are as far from 0,
    not 2 of 2 ** 24.
    """
    before, after = drafts(["----"] * 6), drafts(["++++"] * 6)
    [comparison] = compare({"a": before, "b": after})
    assert comparison.p == pytest.approx(2 / 2**6)
    assert comparison.test == "sign-flip permutation by problem"


def test_the_interval_over_drafts_is_that_of_a_ratio_over_problems() -> None:
    before = drafts(["--", "----", "-", "---", "--"])
    after = drafts(["++", "+---", "+", "+-+", "--"])
    [comparison] = compare({"a": before, "b": after})
    gains, sizes = [2, 1, 1, 2, 0], [2, 4, 1, 3, 2]
    share = sum(gains) / sum(sizes)
    squares = sum((gain - share * size) ** 2 for gain, size in zip(gains, sizes))
    ends = with_partial_units(share, math.sqrt(5 / 4 * squares) / 12, 5, 2.7764451)
    assert comparison.difference == pytest.approx(share)
    assert (comparison.low, comparison.high) == pytest.approx(ends, abs=1e-6)
