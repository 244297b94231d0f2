"""A teacher model behind an HTTP server, whose answers a test can compute; and the command that
asks it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from engines.endpoint import ChatServer, completion

PROBLEMS = 24
PLAN = [
    {"role": "primary", "temperature": 0.7},
    {"role": "primary", "temperature": 0.5},
    {"role": "backup", "temperature": 0.9, "effort": "high"},
]


def problems_at(folder: Path) -> Path:
    """GSM8K in small: problem i asks for 2 i."""
    folder.mkdir(exist_ok=True)
    rows = [{"question": f"Add {i} and {i}.", "answer": f"#### {2 * i}"} for i in range(PROBLEMS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def number_of(body: dict[str, Any]) -> int:
    return int(re.findall(r"Add (\d+)", body["messages"][0]["content"])[0])


def right_at(number: int) -> int:
    """The try at which the teacher is right about a problem: 1, 2, 3, or 4 for never."""
    return number % 4 + 1


def teach(body: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request, which depends on nothing else."""
    number, temperature = number_of(body), body["temperature"]
    attempt = [each["temperature"] for each in PLAN].index(temperature) + 1
    value = 2 * number if attempt == right_at(number) else -1
    text = f"{number}+{number}={value}\n```python\nprint({value})\n```\nSo \\boxed{{{value}}}."
    reply = completion(text, reasoning_content=f"try {attempt}")
    usage = {"prompt_tokens": 10 + number, "completion_tokens": 20 + attempt}
    return reply | {"usage": usage, "model": f"{body['model']}-2026"}


def answers(number: int, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
    """A script for `ChatServer`."""
    return 200, teach(body), {}


def repeated(server: ChatServer) -> list[str]:
    """The requests that the server saw more than once."""
    counts = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    return [body for body, count in counts.items() if count > 1]


def command(folder: Path, server: ChatServer, *more: str, out: str = "out") -> list[str]:
    """The arguments of a run; options in `more` win."""
    engines = {
        role: {
            "class_path": "OpenAIEngine",
            "init_args": {"base_url": server.url, "model": model, "retries": 0, "backoff": 0.0},
        }
        for role, model in (("primary", "small"), ("backup", "big"))
    }
    source = {"class_path": "GSM8K", "init_args": {"path": str(folder / "data"), "validation": 0.0}}
    prices = {"primary": {"input": 1.0, "output": 2.0}, "backup": {"input": 10.0, "output": 20.0}}
    config = {
        "agent": "SingleShot",
        "source": source,
        "plan": PLAN,
        "accept": "Right",
        "engines": engines,
        "prices": prices,
        "out": str(folder / out),
    }
    problems_at(folder / "data")
    file = folder / "cot.yaml"
    file.write_text(json.dumps(config))
    return ["generate-cot", f"--config={file}", *more]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
