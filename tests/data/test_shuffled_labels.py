"""Shuffled labels, the control of verifier training: training drafts exchange their labels."""

from pathlib import Path

import pytest
from data.drafts import row, tasks, written

from slm_math.data import Drafts


def test_shuffled_labels_say_nothing_about_the_draft(tmp_path: Path) -> None:
    rows = [row(n, n % 2 == 0, correct=n % 2 == 0) for n in range(400)]
    path = written(tmp_path / "d.jsonl", rows)
    true, dealt = (tasks(path, shuffle_labels=seed) for seed in (None, 7))
    assert [t.problem for t in true] == [t.problem for t in dealt]
    assert sorted(t.gold for t in true) == sorted(t.gold for t in dealt)
    agree = sum(a.gold == b.gold for a, b in zip(true, dealt))
    assert 160 < agree < 240  # 200 expected, 10 the standard deviation
    assert all(task.solution == f"VERDICT: {task.gold}" for task in dealt)
    assert dealt == tasks(path, shuffle_labels=7) != tasks(path, shuffle_labels=8)


def test_held_out_labels_are_never_shuffled(tmp_path: Path) -> None:
    rows = [row(n, n % 2 == 0, correct=n % 2 == 0) for n in range(100)]
    path = written(tmp_path / "d.jsonl", rows)
    options = {"validation": 0.5}
    assert tasks(path, "validation", **options) == tasks(
        path, "validation", shuffle_labels=7, **options
    )


def test_shuffled_labels_need_balanced_drafts(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, correct=True)])
    with pytest.raises(ValueError, match="shuffle_labels needs balance"):
        Drafts(path, balance=False, shuffle_labels=0)
