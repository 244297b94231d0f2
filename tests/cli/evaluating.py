"""What tests of `slm-math eval` and of what reads its results share: small models, small data, a
way to ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slm_math.cli import run
from slm_math.records.encoding import to_json
from slm_math.records.files import read_records

Said = Callable[..., tuple[int, str, str]]


def ask(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Runs a command: exit status, stdout, stderr."""
    capsys.readouterr()
    status = 0
    try:
        run(list(map(str, arguments)))
    except SystemExit as stop:
        status = int(stop.code or 0)
    return (status, *capsys.readouterr())


def ours(error: str) -> str:
    """What this project said on stderr, where libraries may have said something before."""
    start = error.find("slm-math: error:")
    return error[start:] if start >= 0 else ""


def data_at(folder: Path) -> Path:
    """GSM8K and MATH-500 in small."""
    for split, n in (("train", 40), ("test", 12)):
        rows = [
            {"question": f"{split}: {i} and {i}?", "answer": f"{i}+{i}\n#### {2 * i}"}
            for i in range(n)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    math = [
        {
            "problem": f"Find {i}.",
            "answer": str(i),
            "level": 1 + i % 5,
            "subject": ("Algebra", "Geometry")[i % 2],
        }
        for i in range(20)
    ]
    (folder / "math").mkdir()
    (folder / "math" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in math))
    return folder


def gsm8k(data: Path) -> str:
    return f"--source={{class_path: GSM8K, init_args: {{path: {data}, validation: 0.1}}}}"


def math500(data: Path) -> str:
    return f"--source={{class_path: MATH500, init_args: {{path: {data / 'math'}}}}}"


ONE = "--agents={one: {class_path: SingleShot, init_args: {prompt: solve_plain}}}"
LONG = [
    "--inference.sampling={temperature: 0.0, max_new_tokens: 120}",
    "--torch_threads=1",
    "--inference.slots=1",
]
SHORT = [
    "--inference.sampling={temperature: 0.0, max_new_tokens: 4}",
    "--torch_threads=1",
    "--inference.slots=4",
]


def rows(out: Path, agent: str = "one") -> list[dict[str, Any]]:
    return [to_json(record) for record in read_records(out / agent / "records.jsonl")]


def manifest(out: Path, agent: str = "one") -> dict[str, Any]:
    return json.loads((out / agent / "manifest.json").read_text())
