"""A verifier that comes to approve of wrong drafts is told of, and one that does not is not."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable

import pytest

from slm_math.modules.drift import Block, DriftWatch
from slm_math.records.record import NoteEvent, Record


def judged(problem: str, verdict: str, correct: bool = False, role: str = "verifier") -> Record:
    draft = NoteEvent("draft", "8", correct=correct)
    return Record(problem, 0, gold="7", events=(draft, NoteEvent("verdict", verdict, role=role)))


def run(
    share: Callable[[int], float],
    seed: int = 0,
    steps: int = 60,
    watch: DriftWatch | None = None,
    alike: float = 0.0,
) -> list[tuple[int, str]]:
    """The warnings of a run with 8 problems of 4 wrong drafts a step, and their steps.

    Args:
        share: step -> P(CORRECT | wrong draft).
        alike: how often all drafts of a problem get the same verdict.
    """
    draw, watch, lines = random.Random(seed), watch or DriftWatch(), []
    for step in range(steps):
        records = []
        for problem in range(8):
            same = draw.random() < alike
            first = draw.random() < share(step)
            for _ in range(4):
                approves = first if same else draw.random() < share(step)
                word = "CORRECT" if approves else draw.choice(["INCORRECT", "UNCLEAR"])
                records.append(judged(f"p/{step}/{problem}", word))
                records.append(judged(f"p/{step}/{problem}", "CORRECT", correct=True))
        lines += [(step, line) for line in watch.of_step(records)]
    return lines


@pytest.mark.parametrize("seed", range(3))
def test_rise_is_told_once_with_what_to_do(seed: int) -> None:
    [(step, line)] = run(lambda step: 0.2 if step < 20 else 0.6, seed)
    assert 20 <= step < 32
    for words in ("'verifier'", "at the start", "VerifierApproval", "checkpoint", "frozen"):
        assert words in line


def test_slow_rise_is_told_too() -> None:
    assert len(run(lambda step: 0.1 + 0.006 * step, steps=100)) == 1


@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_noise_is_no_rise(alike: float) -> None:
    """12 runs at a constant share, of which at most one in a hundred may be warned of."""
    told = sum(len(run(lambda step: 0.3, seed, alike=alike)) for seed in range(12))
    assert told <= 1


@pytest.mark.parametrize("share", [lambda step: 0.6 - 0.005 * step, lambda step: 0.0])
def test_fewer_approvals_and_none_are_no_rise(share: Callable[[int], float]) -> None:
    assert run(share) == []


def test_a_few_verdicts_are_no_start() -> None:
    assert run(lambda step: 0.0 if step < 2 else 1.0, steps=3) == []


def test_resumed_run_is_compared_with_its_own_start() -> None:
    first, again = DriftWatch(), DriftWatch()
    run(lambda step: 0.2, watch=first, steps=10)
    again.load(copy.deepcopy(first.state()))
    resumed = run(lambda step: 0.6, seed=1, watch=again, steps=10)
    assert resumed == run(lambda step: 0.6, seed=1, watch=first, steps=10) != []
    assert run(lambda step: 0.6, seed=1, watch=DriftWatch(), steps=10) == []


def test_roles_are_watched_apart() -> None:
    watch = DriftWatch(verdicts=4, problems=2)

    def step(words: dict[str, str]) -> list[str]:
        records = [
            judged(f"p/{n}", word, role=role) for role, word in words.items() for n in range(40)
        ]
        return list(watch.of_step(records))

    assert step({"verifier": "INCORRECT", "checker": "INCORRECT"}) == []
    [line] = step({"verifier": "INCORRECT", "checker": "CORRECT"})
    assert "role 'checker' calls 100 % of wrong drafts" in line


def test_variance_is_that_of_problems_not_of_verdicts() -> None:
    block = Block()
    for problem, (approved, n) in enumerate([(4, 4), (0, 4), (4, 4), (0, 4)]):
        for number in range(n):
            block.add(f"p/{problem}", number < approved)
    share, variance = block.estimate()
    assert share == 0.5
    assert variance == pytest.approx(4 / 3 * 4 * 2**2 / 16**2)  # residuals of 2 in 4 problems
    assert math.sqrt(variance) > 2 * math.sqrt(0.25 / 16) - 1e-9
