"""Rows to grade, and files of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
FIVE = [
    {"id": "a", "completion": r"so \boxed{5}", "answer": "2 + 3 #### 5", "finish_reason": "stop"},
    {"id": "b", "completion": "we count up to 5 and", "answer": "5", "finish_reason": "length"},
    {"id": "c", "completion": r"\boxed{5 \text{ or } 6}", "answer": "5", "finish_reason": "stop"},
    {"id": "d", "completion": "#### 7", "answer": "5", "finish_reason": "stop"},
    {
        "id": "e",
        "completion": [{"role": "assistant", "content": "#### 5"}],
        "answer": 5,
        "finish_reason": "stop",
    },
]


def write(file: Path, rows: Rows) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def load(file: Path) -> Rows:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
