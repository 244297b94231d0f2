"""The memorization gap in every evaluation of training, and twins that are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from agent_eval import Keep, Ones, fitted, judge, records

from slm_math.data.base import Split
from slm_math.types import Task


class WithTwins(Ones):
    """Problems whose answer is 1, and whose twins' answer is 0; `leak` makes training problems of
    the first twins.
    """

    def __init__(self, leak: int = 0) -> None:
        super().__init__()
        self.trained = leak

    def tasks(self, split: Split) -> list[Task]:
        tasks = super().tasks(split)
        if split == "train" and self.trained:
            twins = super().twins("validation")[: self.trained]
            tasks += [replace(t, problem=replace(t.problem, id=f"leak/{t.gold}")) for t in twins]
        return tasks

    def twins(self, split: Split) -> list[Task]:
        return [replace(task, gold="0") for task in super().twins(split)]


def test_the_gap_is_logged_in_every_epoch(tmp_path: Path) -> None:
    keep = Keep()
    fitted(tmp_path, judge(twins=True), keep, source=WithTwins(), max_epochs=2)
    for epoch, found in enumerate(keep.epochs):
        own = records(tmp_path, f"epoch-{epoch}")
        twins = records(tmp_path, f"epoch-{epoch}", "odd.twins")
        assert {one.tags["twin_of"] for one in twins} == {one.id for one in own}
        right = [sum(one.correct for one in some) / 28 for some in (own, twins)]
        assert found["eval/odd/twin_accuracy"] == pytest.approx(right[1])
        assert found["eval/odd/gap"] == pytest.approx(right[0] - right[1])
        assert found["eval/odd/gap_low"] <= found["eval/odd/gap"] <= found["eval/odd/gap_high"]
        assert found["eval/odd/gap_problems"] == 28


def test_a_twin_among_the_training_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of the 56 problems of .* are among the training"):
        fitted(tmp_path, judge(twins=True), source=WithTwins(leak=1))


def test_a_source_without_twins_is_refused(tmp_path: Path) -> None:
    class Bare(Ones):
        def twins(self, split: Split) -> list[Task]:
            return []

    with pytest.raises(ValueError, match="ones/validation has none of the 28 problems"):
        fitted(tmp_path, judge(twins=True), source=Bare())
