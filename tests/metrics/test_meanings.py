"""Every metric that is logged has a meaning."""

from __future__ import annotations

import pytest

from slm_math.metrics.meanings import GROUPS, meaning


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pass@4", "any of k samples"),
        ("pass@4_low", "lower end"),
        ("level/Level 3/accuracy", "value of a tag"),
        ("round_2/accuracy", "stopped after round r"),
        ("solver/reward/correct", "one part"),
        ("checker/verdict_unclear/wrong", "UNCLEAR on wrong"),
        ("length/verifier", "several roles"),
        ("seconds/generate", "phase"),
        ("program_errors/NameError", "this error"),
    ],
)
def test_names_with_values_are_found(name: str, words: str) -> None:
    assert words in (meaning(name) or "")


@pytest.mark.parametrize("name", ["accurracy", "pass@", "pass@x", "solver/nothing", "reward_"])
def test_other_names_have_none(name: str) -> None:
    assert meaning(name) is None


def test_meanings_are_sentences() -> None:
    for _, meanings in GROUPS.values():
        for name, text in meanings.items():
            assert text.endswith("."), name
