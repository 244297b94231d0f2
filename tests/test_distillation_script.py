"""What scripts/compare_distillation.py counts and writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.data.cot import CoT

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_distillation.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("compare_distillation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(number: int, tokens: int) -> dict[str, Any]:
    turn = {
        "kind": "turn",
        "reply": f"{number}+1={number + 1}\n#### {number + 1}",
        "tokens": tokens,
    }
    return {"problem": f"{number} + 1?", "gold": str(number + 1), "events": [turn]}


def test_teacher_writes_until_it_has_as_many_tokens(script: Any, tmp_path: Path) -> None:
    records = [record(number, tokens=10) for number in range(9)]
    assert script.sampled_tokens(records) == [10] * 9
    assert script.write_texts(records, 25, tmp_path / "texts.jsonl") == 30
    lines = (tmp_path / "texts.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["0 + 1?", "1 + 1?", "2 + 1?"]
    tasks = CoT(str(tmp_path / "texts.jsonl"), validation=0.0).tasks("train")
    assert [task.solution for task in tasks] == [f"{n}+1={n + 1}\n#### {n + 1}" for n in range(3)]
