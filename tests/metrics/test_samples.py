"""Statistics of evaluations, against enumeration, closed forms and published values."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from slm_math.answers import classes
from slm_math.answers.decide import equivalent
from slm_math.metrics.columns import Samples
from slm_math.metrics.intervals import wilson
from slm_math.metrics.samples import answer_classes, interval_of_means, maj_at_k, sample_metrics
from slm_math.metrics.summary import by_tag, summarize
from slm_math.records.encoding import from_json
from slm_math.records.record import Record

Labels = Sequence[int | None]


def by_hand(labels: Labels, right: Sequence[bool], k: int) -> Fraction:
    """Majority@k by its definition: every choice of k samples, every class that ties, every member
    that may speak.
    """
    values = []
    for chosen in itertools.combinations(range(len(labels)), k):
        votes = Counter(labels[i] for i in chosen if labels[i] is not None)
        tied = [name for name, count in votes.items() if count == max(votes.values())]
        marks = [[right[i] for i in chosen if labels[i] == name] for name in tied]
        values.append(
            sum((Fraction(sum(m), len(m)) for m in marks), Fraction()) / max(len(tied), 1)
        )
    return sum(values, Fraction()) / len(values)


def row(id: str, answer: str | None, correct: bool = False, **more: Any) -> Record:
    data = {
        "id": id,
        "sample": 0,
        "tags": {},
        "answer": answer,
        "correct": correct,
        "reason": "",
        "error": None,
    }
    return from_json(data | {"method": "box", "lenient": correct} | more)


def rows(answers: dict[str, Sequence[str | None]], gold: str = "1", **more: Any) -> list[Record]:
    """Records of problems with these answers, right when they are spelled as the gold."""
    return [
        row(id, answer, answer == gold, sample=s, **more)
        for id, sampled in answers.items()
        for s, answer in enumerate(sampled)
    ]


def of_one_problem(records: Sequence[Record]) -> tuple[Samples, np.ndarray]:
    return Samples.of(records), np.arange(len(records))


@pytest.mark.parametrize("seed", range(40))
def test_majority_is_that_of_all_choices_and_tie_breaks(seed: int) -> None:
    draw = random.Random(seed)
    n = draw.randint(1, 7)
    labels = [draw.choice([None, 0, 1, 2]) for _ in range(n)]
    right = [label is not None and draw.random() < 0.5 for label in labels]
    for k in range(1, n + 1):
        assert maj_at_k(labels, right, k) == pytest.approx(
            float(by_hand(labels, right, k)), abs=1e-12
        )


def test_tie_is_settled_by_lot() -> None:
    assert maj_at_k([0, 0, 1, 1], [True, True, False, False], 4) == 0.5
    assert maj_at_k([0, 0, 1, 1, 2, 2], [True, True, *[False] * 4], 6) == pytest.approx(1 / 3)


def test_samples_without_an_answer_have_no_vote() -> None:
    assert maj_at_k([None, None, None, 0], [False, False, False, True], 4) == 1.0
    assert maj_at_k([None] * 5, [False] * 5, 3) == 0.0
    # of the six pairs three hold the one answer, in three nobody votes
    assert maj_at_k([None, None, None, 0], [False, False, False, True], 2) == 0.5


def test_many_samples_are_estimated_close_to_the_closed_form() -> None:
    # 12 right samples of 20 and 8 of one wrong answer, 10 of them vote: hypergeometric, half of the
    # ties
    ways = [math.comb(12, x) * math.comb(8, 10 - x) for x in range(2, 11)]
    exact = (sum(ways[6 - 2 :]) + 0.5 * ways[5 - 2]) / math.comb(20, 10)
    estimates = [
        maj_at_k([0] * 12 + [1] * 8, [True] * 12 + [False] * 8, 10, seed) for seed in range(8)
    ]
    assert fmean(estimates) == pytest.approx(exact, abs=0.02)
    assert all(abs(estimate - exact) < 0.07 for estimate in estimates)
    assert maj_at_k([0] * 12 + [1] * 8, [True] * 12 + [False] * 8, 10, 3) == estimates[3]


def test_pass_at_k_is_that_of_all_choices() -> None:
    answers = {"a": ["1", "2", "1", "3", "4"], "b": [None, "2", "3", "4", "5"], "c": ["1"] * 5}
    found = sample_metrics(rows(answers))
    for k in (2, 4, 5):
        shares = [
            fmean(any(a == "1" for a in some) for some in itertools.combinations(s, k))
            for s in answers.values()
        ]
        assert found[f"pass@{k}"] == pytest.approx(fmean(shares))


def test_majority_of_records_is_that_of_all_choices() -> None:
    answers = {
        "a": ["1", "2", "1", "3", "2"],
        "b": [None, "2", "1", None, "1"],
        "c": ["7", "7", "1", "1", None],
    }
    found = sample_metrics(rows(answers))
    for k in (2, 4, 5):
        names = [[None if a is None else int(a) for a in s] for s in answers.values()]
        exact = fmean(float(by_hand(s, [a == 1 for a in s], k)) for s in names)
        assert found[f"maj@{k}"] == pytest.approx(exact)


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [((5, 5), [2, 4, 5]), ((5, 3), [2, 3]), ((8, 9), [2, 4, 8]), ((4, 2), [2]), ((4, 1), [])],
)
def test_k_goes_up_to_the_least_number_of_samples(
    counts: tuple[int, int], sizes: list[int]
) -> None:
    some = rows({f"p/{i}": (["1", "2"] * 5)[:n] for i, n in enumerate(counts)})
    names = {
        f"{kind}@{k}{end}"
        for kind in ("pass", "maj")
        for k in sizes
        for end in ("", "_low", "_high")
    }
    assert set(sample_metrics(some)) == names


def test_no_records_and_single_samples_have_no_such_metrics() -> None:
    assert sample_metrics([]) == {}
    assert sample_metrics(rows({"a": ["1"], "b": ["2"]})) == {}


def test_equivalent_spellings_vote_together() -> None:
    spelled = [r"\frac{1}{2}", "3", "0.5", "3", "1/2"]
    assert answer_classes(*of_one_problem(rows({"a": spelled}))) == [0, 1, 0, 1, 0]
    marked = [row("a", answer, answer != "3", sample=s) for s, answer in enumerate(spelled)]
    assert sample_metrics(marked)["maj@5"] == 1.0  # by spelling it would be 3, twice


def test_letters_vote_by_the_rules_of_choices() -> None:
    rules = {"answer_type": "mc", "choices": ["10", "20", "30"]}
    made = rows({"a": ["A", "(B)", None, "B", "b"]}, **rules)
    assert answer_classes(*of_one_problem(made)) == [0, 1, None, 1, 1]


def test_interval_is_the_normal_one_on_many_problems() -> None:
    draw = np.random.default_rng(0)
    for values in (draw.random(2500), (draw.random(2500) < 0.3).astype(float)):
        low, high = interval_of_means(values, np.arange(2500))
        spread = values.std() / 50
        assert low == pytest.approx(values.mean() - 1.96 * spread, abs=0.1 * spread)
        assert high == pytest.approx(values.mean() + 1.96 * spread, abs=0.1 * spread)


def test_values_of_one_unit_are_no_independent_observations() -> None:
    values = np.array([0.0, 1.0, 0.25, 0.5] * 10)
    alone = interval_of_means(values, np.arange(40))
    low, high = interval_of_means(np.repeat(values, 3), np.repeat(np.arange(40), 3))
    assert (low, high) == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize(
    "answers", [{"a": ["1"] * 4}, {"a": ["1", "2"]}, {f"p/{i}": ["1"] * 3 for i in range(5)}]
)
def test_metrics_lie_in_their_intervals(answers: dict[str, list[str]]) -> None:
    found = sample_metrics(rows(answers))
    for name in [name for name in found if not name.endswith(("_low", "_high"))]:
        assert 0 <= found[f"{name}_low"] <= found[name] + 1e-12
        assert found[name] - 1e-12 <= found[f"{name}_high"] <= 1


@pytest.mark.parametrize("problems", [1, 5])
def test_problems_that_are_all_right_leave_some_doubt(problems: int) -> None:
    assert sample_metrics(rows({f"p/{i}": ["1"] * 4 for i in range(problems)}))["maj@4_low"] < 1


def test_intervals_are_the_same_for_the_same_records() -> None:
    records = rows({f"p/{i}": ["1", "2", "1" if i % 3 else "2"] for i in range(30)})
    assert sample_metrics(records) == sample_metrics(list(records))


def test_summary_holds_metrics_of_several_samples() -> None:
    records = rows({f"p/{i}": ["1", "2" if i % 2 else "1"] for i in range(20)}, tags={"level": "3"})
    found = summarize(records)
    assert (found.problems, found.n, found.accuracy) == (20, 40, 0.75)
    assert found.metrics["pass@2"] == 1.0
    assert found.metrics["maj@2"] == 0.75
    assert found.metrics["maj@2_low"] < 0.75 < found.metrics["maj@2_high"]
    # half of the problems at 1 and half at 1/2: the standard error is that of 20 shares, not of 40
    # samples
    variance = (20 * 0.25**2 + 0.2 * (0.75**2 + 0.25**2)) / 19.4 / 20
    # Student's t, 19 degrees of freedom
    effective = 0.75 * 0.25 / variance * (1.959964 / 2.093024) ** 2
    assert (found.low, found.high) == pytest.approx(wilson(0.75 * effective, effective), abs=1e-4)
    assert by_tag(records, "level")["3"].metrics == found.metrics


# Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval_as_published(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5.1e-5)
    assert wilson(n - right, n) == pytest.approx((1 - high, 1 - low), abs=5.1e-5)


def test_one_sample_a_problem_has_the_wilson_interval() -> None:
    found = summarize(rows({f"p/{i}": ["1" if i < 15 else "2"] for i in range(148)}))
    assert (found.low, found.high) == pytest.approx((0.0624, 0.1605), abs=5.1e-5)
    assert found.shown() == "10.1 [6.2, 16.0], n = 148"


def test_classes_are_those_of_comparing_with_every_class() -> None:
    draw = random.Random(1)
    texts = ["7", "-7", "7.0", "14/2", "0.5", r"\frac{1}{2}", "1/2", "x+1", "1+x", "0", "12", "07"]
    for _ in range(20):
        answers = [draw.choice(texts) for _ in range(12)]
        slow: list[list[int]] = []
        for index, answer in enumerate(answers):
            first = (own for own in slow if equivalent(answer, answers[own[0]]))
            found = next(first, None)
            if found is None:
                slow.append([index])
            else:
                found.append(index)
        assert classes(answers) == slow


@pytest.mark.parametrize("kind", ["math", "num"])
def test_different_plain_integers_are_never_equivalent(kind: Any) -> None:
    draw = random.Random(2)
    numbers = {draw.randint(-(10**size), 10**size) for size in range(1, 15) for _ in range(5)}
    numbers |= {0, 1, -1, 10, 100, 1000}
    for one, other in itertools.combinations(sorted(numbers), 2):
        assert not equivalent(str(one), str(other), kind)


def test_classes_of_some_samples_do_not_come_from_those_of_all() -> None:
    samples, places = of_one_problem(rows({"a": ["4", "5", "5", "4"]}))
    assert answer_classes(samples, places) == [0, 1, 1, 0]
    assert answer_classes(samples, places) == [0, 1, 1, 0]
    assert answer_classes(samples, places[1:]) == [0, 0, 1]
    assert answer_classes(samples, places[::-1]) == [0, 1, 1, 0]
