"""An agent, data and runs that tests of AgentEval share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from tiny import Worked, sft, trainer, with_inference

from slm_math.agents import Agent
from slm_math.callbacks import AgentEval
from slm_math.data.base import Split
from slm_math.data.chat_data import ChatData
from slm_math.prompts import render
from slm_math.records.files import read_records
from slm_math.records.record import NoteEvent, Record
from slm_math.types import Generate, Problem, Sampling, Task, Workflow, user


class Parity(Agent):
    """Answers 1 when its reply has an odd number of characters: any model is right now and then."""

    roles = ("solver",)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(user(render("solve_plain", problem=problem.text)))]
        return str(len(reply.text) % 2)


class Ones(Worked):
    """Problems whose answer is 1; `leak` puts so many training problems into the
    validation split.
    """

    def __init__(self, name: str = "ones", leak: int = 0, seed: int = 0) -> None:
        super().__init__(seed=seed, train=84, validation=28, test=14)
        self.name, self.leak = name, leak

    def tasks(self, split: Split) -> list[Task]:
        tasks = [replace(task, gold="1") for task in super().tasks(split)]
        if split == "validation" and self.leak:
            train = super().tasks("train")[: self.leak]
            copies = [
                (i, task.problem.text.replace(" ", "  ").upper()) for i, task in enumerate(train)
            ]
            tasks += [Task(Problem(f"copy/{i}", text, "num"), "1") for i, text in copies]
        return tasks


def judge(**options: Any) -> AgentEval:
    defaults: dict[str, Any] = {"limit": None, "sampling": Sampling(0.0, max_new_tokens=6)}
    return AgentEval({"odd": Parity()}, **with_inference(defaults | options))


def data(source: Any = None, batch_size: int = 8) -> ChatData:
    return ChatData(source or Ones(), batch_size=batch_size, prompt="solve_plain", seed=0)


def fitted(
    root: Path, *callbacks: L.Callback, module: Any = None, source: Any = None, **options: Any
) -> L.Trainer:
    run = trainer(root, callbacks=list(callbacks), **({"limit_train_batches": 2} | options))
    run.fit(module or sft(), data(source), ckpt_path=options.get("ckpt"))
    return run


def logged(run: L.Trainer) -> dict[str, float]:
    found = {name: value.item() for name, value in run.callback_metrics.items()}
    return {name: value for name, value in found.items() if name.startswith("eval/")}


def records(root: Path, name: str, agent: str = "odd") -> list[Record]:
    return read_records(root / "eval" / name / agent / "records.jsonl")


def untimed(records: list[Record]) -> list[Record]:
    return [
        replace(
            record,
            seconds=0.0,
            events=tuple(
                event if isinstance(event, NoteEvent) else replace(event, seconds=0.0)
                for event in record.events
            ),
        )
        for record in sorted(records, key=lambda record: record.key)
    ]


class Keep(L.Callback):
    """What was logged at the end of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append(logged(trainer))
