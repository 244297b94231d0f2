"""Problems that belong together count as one unit."""

from __future__ import annotations

import pytest
from evaluation.test_compare import row

from slm_math.evaluation.clusters import by_cluster, units_lines
from slm_math.evaluation.compare import compare
from slm_math.evaluation.pilot import pilot
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import summarize
from slm_math.records.record import Record


def instances(marks: str, copies: int, tag: str = "template") -> list[Record]:
    """Problems of several templates: all instances of one are solved, or none."""
    return [
        row(f"{i}/{j}", mark == "1", tags={tag: str(i)})
        for i, mark in enumerate(marks)
        for j in range(copies)
    ]


def alone(marks: str, copies: int) -> Samples:
    return by_cluster(Samples.of(instances(marks, copies)), "problem")


def clustered(marks: str, copies: int) -> Samples:
    return by_cluster(Samples.of(instances(marks, copies)), "template")


BEFORE, AFTER = "1100010100", "1110011101"


def test_copies_of_problems_say_no_more_than_the_problems_themselves() -> None:
    [many] = compare({"a": clustered(BEFORE, 9), "b": clustered(AFTER, 9)})
    [few] = compare({"a": clustered(BEFORE, 2), "b": clustered(AFTER, 2)})
    [wrong] = compare({"a": alone(BEFORE, 9), "b": alone(AFTER, 9)})
    assert many.test == "sign-flip permutation by template"
    assert (many.p, many.low, many.high) == pytest.approx((few.p, few.low, few.high))
    assert many.p == pytest.approx(2 * 0.5**3)  # all three templates that changed were gained
    assert wrong.p < 1e-7


def test_instances_of_a_template_are_one_unit_everywhere_without_being_asked_for() -> None:
    records = instances(BEFORE, 9)
    [given] = compare({"a": records, "b": instances(AFTER, 9)})
    [asked] = compare({"a": clustered(BEFORE, 9), "b": clustered(AFTER, 9)})
    assert given == asked
    # ten templates, of which four are solved: as ten problems say it
    ours, few = summarize(records, tags=False), summarize(instances(BEFORE, 1), tags=False)
    assert (ours.low, ours.high) == pytest.approx(interval_of_ten(), abs=0.01)
    assert ours.shown().endswith("n = 90, 10 templates")
    assert few.shown().endswith("n = 10")
    wide = summarize(alone(BEFORE, 9), tags=False)
    assert wide.high - wide.low < (ours.high - ours.low) / 2
    assert units_lines(Samples.of(records))[0].startswith(
        "the units of intervals and tests are 10 clusters of the 90 problems, by template"
    )


def test_accuracy_of_unequal_numbers_of_samples_lies_in_its_interval() -> None:
    """One of 21 problems has a hundred right samples, the others a wrong one each."""
    records = [row("x", True, sample, tags={"topic": "a"}) for sample in range(100)]
    records += [row(f"y{i}", False, tags={"topic": "ab"[i % 2]}) for i in range(20)]
    for samples in (Samples.of(records), by_cluster(Samples.of(records), "topic")):
        one = summarize(samples, tags=False)
        assert one.accuracy == pytest.approx(1 / 21)
        assert one.low < one.accuracy < one.high


def interval_of_ten() -> tuple[float, float]:
    """Wilson's for the variance of ten values of which four are 1, with two more that count 0.2."""
    mean, squares = 0.4, 4 * 0.6**2 + 6 * 0.4**2 + 0.2 * (0.4**2 + 0.6**2)
    variance = squares / (10 - 1 + 0.4) / 10
    n = mean * (1 - mean) / variance * (1.959964 / 2.262157) ** 2
    z = 1.959964
    center, half = mean + z * z / (2 * n), z * (0.24 / n + (z / (2 * n)) ** 2) ** 0.5
    return (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)


def test_one_problem_of_each_template_changes_nothing() -> None:
    [each] = compare({"a": instances(BEFORE, 1), "b": instances(AFTER, 1)})
    [same] = compare({"a": clustered(BEFORE, 1), "b": clustered(AFTER, 1)})
    assert same == each


def test_the_design_effect_of_a_pilot_is_the_number_of_copies() -> None:
    assert pilot({"a": clustered(BEFORE, 5), "b": clustered(AFTER, 5)}).design == pytest.approx(
        5, rel=0.1
    )


def test_questions_about_one_image_are_one_unit() -> None:
    def asked(marks: str) -> Samples:
        own = [
            row(f"{i}", mark == "1", images=[{"source": "x.png", "hash": f"{i // 3}"}])
            for i, mark in enumerate(marks)
        ]
        return by_cluster(Samples.of([*own, row("text", True)]), "images")

    assert len(set(asked("111000").units.tolist())) == 3


def test_an_unknown_tag_is_refused_with_those_that_there_are() -> None:
    samples = Samples.of(instances("10", 2))
    with pytest.raises(ValueError, match=r"no problem has a tag topic .*; there are template"):
        by_cluster(samples, "topic")
