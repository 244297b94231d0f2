"""Which problems a name, a file or a folder stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slm_math.data.problems import problems_of


def test_rows_of_any_shape_are_problems(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "Four?"}]},
    ]
    shapes = [
        {"problem": "One?", "id": "mine"},
        {"instruction": "Two?", "input": "Two"},
        {"prompt": [{"role": "user", "content": "Three?"}]},
    ]
    lines = "".join(json.dumps(shape) + "\n" for shape in [*shapes, {"messages": chat}])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/some.jsonl").write_text(lines)
    for side in (tmp_path, tmp_path / "sub/some.jsonl"):
        found = problems_of(str(side))
        assert [problem.text for problem in found] == ["One?", "Two?\nTwo", "Three?", "Four?"]
        assert [problem.id for problem in found][:2] == ["mine", "some.jsonl, line 2"]


def test_a_source_by_name_split_and_path(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        json.dumps({"question": "One and one?", "answer": "#### 2"})
    )
    [problem] = problems_of(f"GSM8K:test={tmp_path}")
    assert (problem.id, problem.text) == ("gsm8k/test/0", "One and one?")
    assert problems_of(f"slm_math.data.sources.GSM8K:test={tmp_path}") == [problem]


@pytest.mark.parametrize(
    ("side", "told"),
    [
        ("/nowhere/x.jsonl", "is neither a file, a folder, nor a data set and its split"),
        (
            "GSM8:test",
            "GSM8 is not a data set: did you mean GSM8K? (known: Arithmetic, CLEVRMath, Chats",
        ),
        ("Source:test", "Source is not a data set"),
        ("nowhere.Own:test", "cannot import nowhere"),
        ("CoT:train", "give its data as CoT:<split>=PATH"),
        ("MATH500:train", "it has no train split"),
    ],
)
def test_errors_say_what_to_name(side: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        problems_of(side)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": {"a": 3}}', "field 'text' must be text"),
        ('{"solution": "x"}', "line 1: none of the fields problem, .*; the row has solution"),
        (
            '{"messages": [{"role": "assistant", "content": "x"}]}',
            "field 'messages' has no user message",
        ),
    ],
)
def test_a_row_without_a_problem_is_named(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(ValueError, match=told):
        problems_of(str(tmp_path))
