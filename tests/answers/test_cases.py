"""The labeled set: cases of all kinds of answers, each with its reason, by the seven rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slm_math.answers import extract, grade

FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
CASES = [
    (file.stem, number, case)
    for file in FILES
    for number, case in enumerate(yaml.load(file.read_text(), yaml.CSafeLoader))
]


def reply(case: dict[str, Any]) -> str:
    """The whole reply of a case; an answer stands in a box, and `@` for a repeated piece."""
    text = case["completion"] if "completion" in case else f"\\boxed{{{case['answer']}}}"
    repeat = case.get("repeat")
    return text.replace("@", repeat["text"] * repeat["times"]) if repeat else text


@pytest.mark.parametrize(
    ("file", "number", "case"), CASES, ids=[f"{f}-{c['class']}-{n}" for f, n, c in CASES]
)
def test_case(file: str, number: int, case: dict[str, Any]) -> None:
    text = reply(case)
    options = {
        name: case[name]
        for name in ("problem", "answer_type", "choices", "tolerance")
        if name in case
    }
    verdict = grade(text, case["gold"], **options, last_number=case.get("last_number", False))
    assert verdict.correct == case["correct"], f"{verdict.reason}; {case['why']}"
    if "extracted" in case:
        assert extract(text, case.get("last_number", False)).value == case["extracted"]


def test_there_are_enough_cases_of_both_kinds() -> None:
    assert len(CASES) >= 800
    assert 0.4 < sum(case["correct"] for _, _, case in CASES) / len(CASES) < 0.6
