"""Records: what counts as the same evaluation, and what a rerun does."""

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.agents import SingleShot
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.evaluation.evaluate import evaluate
from slm_math.records.files import read_records
from slm_math.types import Problem, Reply, Sampling, Task

TASKS = [Task(Problem(f"p/{i}", f"What is {i} + 1?"), str(i + 1)) for i in range(4)]


class Endpoint(Engine):
    """Answers at once; `down` names problems that it cannot answer."""

    def __init__(self, model: str = "a", down: str = "") -> None:
        self.model, self.down, self.asked, self.open = model, down, 0, {}

    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    def submit(self, request: Request) -> int:
        self.asked += 1
        self.open[self.asked] = request.chat[0].text
        return self.asked

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        done, self.open = self.open, {}
        broken = EngineError("connection refused")
        return [
            (t, broken if self.down and self.down in text else Reply(r"\boxed{1}"))
            for t, text in done.items()
        ]

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


def run(folder: Path, engine: Engine, prompt: str = "solve") -> Any:
    return evaluate(
        SingleShot(prompt), TASKS, {"default": engine}, {"default": Sampling(0.0)}, folder
    )


def test_finished_records_are_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, Endpoint())
    before = (tmp_path / "records.jsonl").read_bytes()
    second = Endpoint()
    assert run(tmp_path, second).accuracy == 0.25
    assert second.asked == 0
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_another_model_or_prompt_text_is_another_evaluation(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("A {problem}")
    run(tmp_path / "out", Endpoint(), str(prompt))
    with pytest.raises(ValueError, match=r"engines\.default\.model differ"):
        run(tmp_path / "out", Endpoint("b"), str(prompt))
    prompt.write_text("B {problem}")
    from slm_math.prompts import load

    load.cache_clear()
    with pytest.raises(ValueError, match=r"agent\.prompt_hash differ"):
        run(tmp_path / "out", Endpoint(), str(prompt))


def test_broken_samples_are_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path, Endpoint(down="2 + 1")).errors == 1
    again = Endpoint()
    summary = run(tmp_path, again)
    assert (again.asked, summary.errors, summary.n) == (1, 0, 4)
    assert [row["error"] for row in read_records(tmp_path / "records.jsonl")] == [None] * 4
    assert json.loads((tmp_path / "manifest.json").read_text())["partial"] is False
