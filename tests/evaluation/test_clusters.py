"""Problems that belong together count as one unit."""

from __future__ import annotations

import pytest
from evaluation.test_compare import row

from slm_math.evaluation.clusters import by_cluster
from slm_math.evaluation.compare import compare
from slm_math.evaluation.pilot import pilot
from slm_math.metrics.columns import Samples
from slm_math.records.record import Record


def instances(marks: str, copies: int, tag: str = "template") -> list[Record]:
    """Problems of several templates: all instances of one are solved, or none."""
    return [
        row(f"{i}/{j}", mark == "1", tags={tag: str(i)})
        for i, mark in enumerate(marks)
        for j in range(copies)
    ]


def clustered(marks: str, copies: int) -> Samples:
    return by_cluster(Samples.of(instances(marks, copies)), "template")


BEFORE, AFTER = "1100010100", "1110011101"


def test_copies_of_problems_say_no_more_than_the_problems_themselves() -> None:
    [many] = compare({"a": clustered(BEFORE, 9), "b": clustered(AFTER, 9)}, "template")
    [few] = compare({"a": clustered(BEFORE, 2), "b": clustered(AFTER, 2)}, "template")
    [wrong] = compare({"a": instances(BEFORE, 9), "b": instances(AFTER, 9)})
    assert many.test == "sign-flip permutation by template"
    assert (many.p, many.low, many.high) == pytest.approx((few.p, few.low, few.high))
    assert many.p == pytest.approx(2 * 0.5**3)  # all three templates that changed were gained
    assert wrong.p < 1e-7


def test_one_problem_of_each_template_changes_nothing() -> None:
    [alone] = compare({"a": instances(BEFORE, 1), "b": instances(AFTER, 1)})
    [same] = compare({"a": clustered(BEFORE, 1), "b": clustered(AFTER, 1)}, "template")
    assert same == alone


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
