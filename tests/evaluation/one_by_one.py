"""What tests of evaluations share: tasks, an engine that answers one request at a time, and a run
with what it leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_math.agents import Agent, SingleShot
from slm_math.engines.base import Engine, Request
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.metrics.summary import Summary
from slm_math.records.files import read_records
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, Reply, Sampling, Task

TASKS = [
    Task(Problem(f"p/{i}", f"What is {i} + 1?", tags={"level": str(i % 2)}), str(i + 1))
    for i in range(6)
]
GREEDY = {"default": Sampling(0.0)}


class OneByOne(Engine):
    """Answers one request a poll, in order, as `say` tells; `before` is called first, with how many
    are answered.
    """

    def __init__(
        self,
        say: Any = r"\boxed{1}",
        before: Callable[[int], None] = lambda n: None,
        model: str = "a",
    ) -> None:
        self.say, self.before, self.model = say, before, model
        self.requests: list[Request] = []
        self.open: dict[int, Request] = {}
        self.answered = 0

    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    def submit(self, request: Request) -> int:
        self.requests.append(request)
        self.open[len(self.requests)] = request
        return len(self.requests)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        if not self.open:
            return []
        self.before(self.answered)
        ticket = min(self.open)
        request = self.open.pop(ticket)
        reply = self.say(request) if callable(self.say) else self.say
        self.answered += 1
        return [(ticket, Reply(reply, counted=3) if isinstance(reply, str) else reply)]

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


def run(
    folder: Path,
    engine: Engine,
    agent: Agent | None = None,
    tasks: Sequence[Task] = TASKS,
    **options: Any,
) -> Summary:
    names = ("identity", "about", "set_aside")
    output = Output(folder, **{name: options.pop(name) for name in names if name in options})
    executors = Executors({"default": engine}, options.pop("sampling", GREEDY))
    progress = options.pop("progress", None)
    plan = Plan(agent or SingleShot(), tasks, **options)
    evaluation = evaluate(plan, executors, output, progress=progress)
    assert sorted(evaluation.records, key=lambda record: record.key) == sorted(
        read_records(folder / "records.jsonl"), key=lambda record: record.key
    )
    return evaluation.summary


def lines(folder: Path) -> list[bytes]:
    return (folder / "records.jsonl").read_bytes().splitlines(keepends=True)


def parts(folder: Path) -> tuple[dict[str, Any], ...]:
    """Manifest and summary."""
    return tuple(
        json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "summary")
    )
