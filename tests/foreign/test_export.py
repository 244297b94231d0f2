"""Exported samples state the answer that was graded, whoever decided on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation.one_by_one import OneByOne, run

from slm_math.agents import MajorityVote, SingleShot
from slm_math.answers import extract
from slm_math.foreign.export import inspect_sample, lm_eval_row
from slm_math.records.files import read_records
from slm_math.types import Problem, Task

TASK = Task(Problem("p/1", "What is 1 + 1?"), "2")


def voted(folder: Path) -> list[str]:
    """Of three votes the last one is another than the majority's."""
    replies = iter([r"It is \boxed{2}.", r"So \boxed{2}.", r"Hence \boxed{3}."])
    run(folder, OneByOne(lambda request: next(replies)), MajorityVote(k=3), [TASK])
    [record] = read_records(folder / "records.jsonl")
    assert (record.answer, record.correct) == ("2", True)
    row, sample = lm_eval_row([record], 0), inspect_sample(record, "m")
    return [row["resps"][0][0], sample["output"]["completion"], json.dumps(row)]


def test_the_answer_of_a_vote_follows_its_last_reply_in_a_box(tmp_path: Path) -> None:
    for text in voted(tmp_path)[:2]:
        assert text == "Hence \\boxed{3}.\n\n\\boxed{2}"
        assert extract(text).value == "2"


@pytest.mark.parametrize("reply", [r"It is \boxed{3}.", "no idea", ""])
def test_a_reply_that_states_the_answer_stays_as_it_is(tmp_path: Path, reply: str) -> None:
    run(tmp_path / "one", OneByOne(reply), SingleShot(), [TASK])
    [record] = read_records(tmp_path / "one" / "records.jsonl")
    assert lm_eval_row([record], 0)["resps"] == [[reply]]
