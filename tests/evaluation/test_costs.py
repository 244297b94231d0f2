"""Accuracy against tokens: votes of recorded samples, and agents at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from statistics import fmean

import numpy as np
import pytest
from evaluation.test_compare import with_partial_units

from slm_math.evaluation.costs import Curve, Spending, at_equal_cost, curves, votes_of
from slm_math.evaluation.costs_table import cost_lines, cost_rows
from slm_math.metrics.columns import Samples
from slm_math.metrics.intervals import t_point
from slm_math.records.record import Record, TurnEvent


def samples(problems: Sequence[Sequence[tuple[str, int]]], prompt: int = 0) -> Samples:
    """Of each problem, whose reference answer is 7, the answers of its samples and their tokens."""
    return Samples.of(
        [
            Record(
                id=f"p/{n}",
                sample=number,
                gold="7",
                answer=answer,
                correct=answer == "7",
                events=(TurnEvent(role="solver", tokens=tokens, prompt_tokens=prompt),),
            )
            for n, own in enumerate(problems)
            for number, (answer, tokens) in enumerate(own)
        ]
    )


def points(some: Samples, **options: float) -> list[tuple[int, float, float]]:
    [curve] = curves({"a": some}, **options)
    return [(point.votes, point.accuracy, point.cost) for point in curve.points]


def test_a_single_sample_is_the_mean_of_all() -> None:
    found = points(samples([[("7", 10), ("8", 30)], [("8", 20), ("8", 20)]]))
    assert found == [(1, 0.25, 20.0)]


def test_a_vote_ends_when_two_of_three_are_equal() -> None:
    """Beginning at each: 7 7 8 ends after two (20), 7 8 7 after three (60), 8 7 7 likewise."""
    found = points(samples([[("7", 10), ("7", 10), ("8", 40)]]))
    assert found[0] == (1, pytest.approx(2 / 3), 20.0)
    assert found[1] == (3, 1.0, pytest.approx((20 + 60 + 60) / 3))


def test_of_three_different_answers_the_first_wins() -> None:
    found = points(samples([[("7", 10), ("8", 10), ("9", 10)], [("7", 1), ("7", 1), ("8", 1)]]))
    assert found[1] == (3, pytest.approx((1 / 3 + 1) / 2), pytest.approx((30 + 8 / 3) / 2))


def test_votes_of_equal_samples_are_no_points() -> None:
    assert points(samples([[("7", 10)] * 5, [("8", 10)] * 5])) == [(1, 0.5, 10.0)]


def test_tokens_of_prompts_count_as_much_as_is_said() -> None:
    assert points(samples([[("7", 10)]], prompt=100), prompt_weight=0.2) == [(1, 1.0, 30.0)]


def test_the_accuracy_of_votes_is_that_of_all_orders() -> None:
    """Samples in a circle give what all orders give in the mean, over many random problems."""
    draw = np.random.default_rng(0)
    drawn = [[str(7 + draw.integers(3)) for _ in range(3)] for _ in range(300)]

    def vote(answers: tuple[str, ...]) -> bool:
        return max(answers, key=answers.count) == "7"

    expected = fmean(vote(order) for own in drawn for order in permutations(own))
    found = points(samples([[(answer, 1) for answer in own] for own in drawn]))
    assert found[1][1] == pytest.approx(expected)


def test_votes_are_of_odd_numbers() -> None:
    assert votes_of(2) == []
    assert votes_of(4) == [3]
    assert votes_of(8) == [3, 5, 7]
    assert votes_of(16) == [3, 5, 9, 15]
    assert votes_of(17) == [3, 5, 9, 17]


def curve(name: str, *own: tuple[Sequence[float], Sequence[float]]) -> Curve:
    made = [
        Spending(2 * n + 1, np.array(right, float), np.array(tokens, float), 0, 1)
        for n, (right, tokens) in enumerate(own)
    ]
    return Curve(name, tuple(made), np.arange(len(own[0][0])))


def test_between_two_points_the_baseline_is_a_mixture_of_both() -> None:
    baseline = curve("a", ([0, 1], [10, 10]), ([1, 1], [30, 30]))
    row, later = at_equal_cost([baseline, curve("b", ([1, 1], [20, 20]))])
    assert row.baseline == pytest.approx(0.75)
    assert row.difference == pytest.approx(0.25)
    # and with the budget of the baseline's second point, which b does not need
    assert (later.budget, later.accuracy, later.baseline) == (30, 1, 1)
    assert later.point is None


def test_beyond_its_last_point_the_baseline_stays_as_it_is() -> None:
    [row] = at_equal_cost([curve("a", ([0, 1], [10, 10])), curve("b", ([1, 1], [99, 99]))])
    assert (row.baseline, row.difference) == (0.5, 0.5)


def test_below_its_first_point_nothing_is_compared() -> None:
    row, _ = at_equal_cost([curve("a", ([0, 1], [10, 10])), curve("b", ([1, 1], [9, 9]))])
    assert (row.budget, row.baseline, row.better) == (9, None, 0)


def test_the_interval_is_that_of_paired_differences() -> None:
    before, after = [0.0, 1, 0, 1, 0, 0], [1.0, 1, 1, 0, 1, 0]
    tokens = [10.0] * 6
    [row] = at_equal_cost([curve("a", (before, tokens)), curve("b", (after, tokens))])
    differences = np.array(after) - np.array(before)
    error = differences.std(ddof=1) / 6**0.5
    ends = with_partial_units(differences.mean(), error, 6, t_point(5))
    assert (row.low, row.high) == pytest.approx(ends)


def test_the_interval_holds_the_uncertainty_of_costs() -> None:
    """Against drawing problems anew: how far the difference varies, whose budget and
    points are drawn, too.
    """
    draw = np.random.default_rng(1)
    n, found = 200, []
    ends = []
    for _ in range(400):
        # what a problem costs says nothing about how hard it is, and varies much
        one = draw.random(n) < 0.2, 10 * draw.gamma(2, size=n)
        two = draw.random(n) < 0.9, 50 * draw.gamma(2, size=n)
        own = draw.random(n) < 0.6, 30 * draw.gamma(1, size=n) + 30
        rows = at_equal_cost([curve("a", one, two), curve("b", own)])
        [row] = [each for each in rows if each.point]
        found.append(row.difference)
        ends.append((row.low, row.high))
    true = fmean(found)
    width = fmean(high - low for low, high in ends)
    assert width == pytest.approx(2 * 1.96 * np.std(found), rel=0.1)
    held = fmean(low <= true <= high for low, high in ends)
    assert 0.92 <= held <= 0.98


def test_runs_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="a has no numbers of tokens"):
        curves({"a": samples([[("7", 0)]])})


def test_runs_on_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="do not have the same problems"):
        curves({"a": samples([[("7", 1)]]), "b": samples([[("7", 1)], [("8", 1)]])})


def shown(*curves: Curve) -> tuple[list[list[str]], list[str]]:
    rows = at_equal_cost(curves)
    return [list(row) for row in cost_rows(curves, rows)], cost_lines(curves, rows)


def test_an_agent_is_worth_it_as_long_as_more_votes_do_not_catch_up() -> None:
    n = 40
    half, most = [0.0, 1.0] * (n // 2), [0.0] + [1.0] * (n - 1)
    cheap, dear = [10.0] * n, [90.0] * n
    table, [line] = shown(
        curve("sampled", (half, cheap), (most, dear)), curve("greedy", (most, [12.0] * n))
    )
    assert [row[:3] for row in table] == [
        ["sampled", "10", "-"], ["", "90", "3"], ["greedy", "12", "-"], ["", "90", ""],
    ]  # fmt: skip
    assert line.startswith(
        "greedy is worth its tokens at 12 a problem, and not shown to be at 90: +46.3 ["
    )


def test_an_agent_that_stays_better_is_worth_it_from_there_on() -> None:
    n = 40
    half, all_right = [0.0, 1.0] * (n // 2), [1.0] * n
    _, [line] = shown(curve("one", (half, [10.0] * n)), curve("two", (all_right, [30.0] * n)))
    assert line.startswith("two is worth its tokens from 30 a problem on: +50.0 [")
    _, [line] = shown(curve("two", (all_right, [30.0] * n)), curve("one", (half, [30.0] * n)))
    assert line.startswith("one is worse than two for 30 tokens a problem: -50.0 [")
