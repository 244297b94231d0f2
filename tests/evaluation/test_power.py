"""Power of paired comparisons: against scipy, against simulations of our own test, and in words."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.test_compare import row, rows, several
from evaluation.test_compare_runs import rows as written_rows
from evaluation.test_compare_runs import write

from slm_math.evaluation.compare import compare, mcnemar
from slm_math.evaluation.compare_table import detectable_line
from slm_math.evaluation.pilot import design_effect, pilot
from slm_math.evaluation.power import (
    Design,
    Variances,
    connor_power,
    detectable_single,
    mcnemar_power,
)
from slm_math.evaluation.power_lines import detect_line, plan_lines, power
from slm_math.ranges import as_share

CASES = [(100, 0.3, 0.1), (500, 0.15, 0.04), (30, 0.5, 0.5)]


# sums of scipy.stats.binom 1.17.1 over discordant and gained problems
@pytest.mark.parametrize(
    ("case", "expected"), zip(CASES, (0.37307708430181663, 0.5986728473338121, 0.9998375428840519))
)
def test_exact_power_is_that_of_scipys_binomials(case: Any, expected: float) -> None:
    assert mcnemar_power(*case) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", [*CASES, (1319, 0.2, 0.03), (300, 0.1, 0.0)])
def test_exact_power_is_how_often_our_test_rejects(case: tuple[int, float, float]) -> None:
    n, discordance, difference = case
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2
    tables = np.random.default_rng(0).multinomial(n, [gained, lost, 1 - discordance], 20_000)
    p = cache(mcnemar)
    rejected = np.mean([p(int(b), int(c)) < 0.05 for b, c, _ in tables])
    assert mcnemar_power(*case) == pytest.approx(rejected, abs=0.015)


def test_connors_formula_of_his_sample_size() -> None:
    # n = (1.96 sqrt(d) + 0.8416 sqrt(d - D^2))^2 / D^2 with d = 0.2, D = 0.05 is 625.55
    assert connor_power(625.55, 0.2, 0.05) == pytest.approx(0.8, abs=1e-4)


def test_the_normal_approximation_takes_over_without_a_jump() -> None:
    n = 19_999
    exact, normal = mcnemar_power(n, 0.2, 0.01), connor_power(n, 0.2, 0.01)
    assert exact == pytest.approx(normal, abs=0.005)


def test_needed_problems_and_seen_difference_are_each_others_inverse() -> None:
    design = Design(discordance=0.2)
    needed = design.problems(0.02)
    assert needed is not None
    assert design.power(needed, 0.02) >= 0.8 > design.power(needed - 40, 0.02)
    assert design.detectable(needed) == pytest.approx(0.02, abs=2e-5)


def test_few_problems_see_nothing() -> None:
    assert Design().detectable(3) is None
    assert Design().problems(1e-9) is None


def test_a_design_effect_of_two_needs_twice_the_problems() -> None:
    alone, clustered = (Design(design=effect).problems(0.05) for effect in (1.0, 2.0))
    assert alone is not None
    assert clustered == pytest.approx(2 * alone, rel=0.01)


def test_variances_of_a_simulated_pilot_are_those_of_its_making() -> None:
    rng = np.random.default_rng(1)
    n, k = 20_000, 4
    a = rng.choice([0.2, 0.6], n)
    b = a + rng.choice([0.0, 0.2], n)
    right = [rng.binomial(k, share) for share in (a, b)]
    found = Variances.of([(int(x), k, int(y), k) for x, y in zip(*right)])
    # between: 0.2 times a coin; within: means of p (1 - p) over both runs
    assert found.between == pytest.approx(0.01, abs=0.003)
    assert found.within == pytest.approx(np.mean(a * (1 - a) + b * (1 - b)), rel=0.02)


def test_samples_reduce_only_the_part_within_problems() -> None:
    found = Variances(between=0.01, within=0.4)
    assert found.of_samples(1) == pytest.approx(0.41)
    assert found.of_samples(40) == pytest.approx(0.02)


def test_design_effect_of_copies_is_their_number() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=400)
    together, alone = np.repeat(own, 5), rng.normal(size=2000)
    units = np.repeat(np.arange(400), 5)
    assert design_effect(together, units) == pytest.approx(5, rel=0.01)
    assert design_effect(alone, units) == pytest.approx(1, abs=0.2)
    assert design_effect(alone, np.arange(2000)) == 1


def test_pilot_of_single_samples_has_wilsons_interval_of_the_discordance() -> None:
    found = pilot(
        {"a": rows("1" * 60 + "0" * 40), "b": rows("1" * 40 + "0" * 20 + "1" * 5 + "0" * 35)}
    )
    # statsmodels.stats.proportion.proportion_confint(25, 100, method="wilson")
    assert found.discordance == 0.25
    assert (found.low, found.high) == pytest.approx((0.17545, 0.34304), abs=1e-5)
    assert found.variances is None


def test_pilot_of_several_samples_counts_pairs_of_samples() -> None:
    found = pilot({"a": several(*["10"] * 10), "b": several(*["11"] * 10)})
    assert found.discordance == pytest.approx(0.5)
    assert found.variances == Variances(0.0, 0.5)


def test_a_tiny_pilot_is_refused() -> None:
    with pytest.raises(ValueError, match="a pilot of 4 problems says nothing"):
        pilot({"a": rows("1100"), "b": rows("1010")})


def test_a_comparison_says_what_it_could_see() -> None:
    [one] = compare({"a": rows("1" * 60 + "0" * 40), "b": rows("1" * 50 + "0" * 30 + "1" * 20)})
    assert one.detectable == detectable_single(20, 10, 100)
    assert one.detectable is not None
    assert mcnemar_power(100, 31 / 102, one.detectable) == pytest.approx(0.8, abs=0.001)
    assert detectable_line(one) == (
        f"b: this comparison could see differences of at least {100 * one.detectable:.1f} points "
        "(80 % power, n = 100)"
    )


def test_several_samples_see_by_their_standard_error() -> None:
    a, b = several(*["10", "00", "11", "10"] * 10), several(*["11", "00", "10", "11"] * 10)
    [one] = compare({"a": a, "b": b})
    differences = np.tile([0.5, 0.0, -0.5, 0.5], 10)
    error = differences.std(ddof=1) / np.sqrt(40)
    assert one.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=1e-5)


def test_two_equal_runs_could_still_see_something() -> None:
    [one] = compare({"a": rows("10" * 100), "b": rows("10" * 100)})
    assert one.detectable is not None
    assert 0 < one.detectable < 0.1


@pytest.mark.parametrize(
    ("text", "share"), [("2%", 0.02), ("2.5 %", 0.025), (0.02, 0.02), ("0.1", 0.1)]
)
def test_shares_are_read_in_both_notations(text: Any, share: float) -> None:
    assert as_share("detect", text) == pytest.approx(share)


@pytest.mark.parametrize("value", ["2", 2, "0%", "100%", "-1%", "two", True, "nan"])
def test_what_is_no_share_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="detect must be a share between 0 and 1, such as 2%"):
        as_share("detect", value)


def test_eval_warns_before_a_run_that_is_too_small() -> None:
    small, large = detect_line(0.02, 500, 1), detect_line(0.05, 1319, 1)
    assert small.startswith("warning: 500 problems see differences of at least 5.7 points")
    assert "2 points need 4,016 problems" in small
    assert large.startswith("detect: 1,319 problems see differences of at least 3.5 points")
    alone = detect_line(0.05, 100, 1).partition("differences")[2].partition(" between")[0]
    of_templates = detect_line(0.05, 5000, 1, 100)
    assert (
        f"if the instances of each of 100 templates are alike, differences{alone}" in of_templates
    )


def test_a_plan_shows_the_ends_of_the_pilots_interval_in_order() -> None:
    designs = [Design(discordance=share) for share in (0.2, 0.1, 0.3)]
    lines = list(plan_lines(designs, 0.05, 500))
    needed = [design.problems(0.05) for design in designs]
    assert needed[1] < needed[0] < needed[2]  # pyright: ignore[reportOptionalOperand]
    assert lines[0].startswith("to see 5 points: {} [{}, {}] problems (80 %".format(*needed))
    assert lines[2].endswith("with a power of 68 [50, 94] %")


def test_the_command_plans_from_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "x/p", written_rows("10" * 20))
    b = write(tmp_path / "y/p", written_rows("1011" * 10))
    power(detect="5%", pilot=[a, b], problems=200)
    out = capsys.readouterr().out
    assert "pilot: discordance 25 % [14.2, 40.2], n = 40" in out
    assert "200 problems see differences of at least" in out


def test_the_command_without_anything_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    power()
    out = capsys.readouterr().out
    assert "discordance 20 % (a guess" in out
    assert "4,016" in out


def test_pilot_and_guess_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="either --pilot or --discordance"):
        power(pilot=["a", "b"], discordance="10%")


def test_drafts_of_one_problem_are_a_cluster_of_the_pilot() -> None:
    def drafts(right: str) -> list[Any]:
        return [
            row(
                f"q{i}/draft/{j}",
                mark == "1",
                answer_type="verdict",
                gold="CORRECT",
                problem=f"Q{i}",
                draft={"text": f"d{j}", "answer": "1"},
            )
            for i, mark in enumerate(right)
            for j in range(3)
        ]

    found = pilot({"a": drafts("1" * 8 + "0" * 4), "b": drafts("1" * 10 + "0" * 2)})
    assert found.design == pytest.approx(3, rel=0.1)


def test_a_small_difference_is_no_difference_of_zero(capsys: pytest.CaptureFixture[str]) -> None:
    power(detect="0.001%")
    assert "to see 0.001 points: more than 100 million problems" in capsys.readouterr().out


def test_a_pilot_may_be_files_of_completions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for compare: fifteen problems in both files, of which three differ."""
    files = []
    for name, n, right in (("a.jsonl", 20, 12), ("b.jsonl", 15, 15)):
        file = tmp_path / name
        replies = [{"id": i, "answer": "1", "response": f"#### {int(i < right)}"} for i in range(n)]
        file.write_text("".join(json.dumps(row) + "\n" for row in replies))
        files.append(str(file))
    power(pilot=files)
    out = " ".join(capsys.readouterr().out.split())
    # statsmodels' proportion_confint(3, 15, method="wilson")
    assert "pilot: discordance 20 % [7, 45.2], n = 15" in out
    assert "paired 15 problems by id" in out
