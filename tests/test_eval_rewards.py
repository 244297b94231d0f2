"""Rewards that ask a model, in evaluations during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import SOURCE, Endpoint, grpo, problems, trainer

from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import AgentEval
from slm_math.engines.base import Engine, EngineError
from slm_math.engines.settings import Inference
from slm_math.evaluation.evaluate import Output, Plan, Recorder, evaluate
from slm_math.records.files import read_manifest, read_records
from slm_math.records.record import Record
from slm_math.rewards import Reward
from slm_math.rollout.executors import Executors
from slm_math.types import Generate, Sampling, Workflow, user


class Asked(Reward):
    """The length of a judge's reply."""

    roles = ("judge",)

    def __call__(self, graded: GradedTrace) -> Workflow[float]:
        [reply] = yield [Generate(user(graded.task.problem.text), "judge")]
        return float(len(reply.text))


class Killed(Endpoint):
    """A judge during whose first answer the run ends."""

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        raise KeyboardInterrupt

    def cancel(self, ticket: int) -> None:
        self.open.remove(ticket)


def validate(root: Path, judge: Endpoint) -> None:
    agents = AgentEval(
        {"one": SingleShot("solve_plain")},
        limit=4,
        samples=2,
        inference=Inference(sampling=Sampling(max_new_tokens=4)),
    )
    module = grpo(rewards=[Asked()], engines={"judge": judge})
    trainer(root, callbacks=[agents]).validate(module, problems(), verbose=False)


def served_by(engine: Engine) -> Executors:
    return Executors({"default": engine}, {"default": Sampling()})


def rewards(root: Path) -> dict[tuple[str, int], Any]:
    records: list[Record] = read_records(root / "eval/validate/one/records.jsonl")
    return {record.key: (record.answer, record.rewards, record.parts) for record in records}


def test_a_record_without_rewards_stays_where_its_sample_breaks_now(tmp_path: Path) -> None:
    class Late(Recorder):
        def is_complete(self, record: Record) -> bool:
            return bool(record.rewards)

        def complete(self, records: Sequence[Record]) -> Sequence[Record]:
            raise KeyboardInterrupt

    class Service(Endpoint):
        down = False

        def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
            error = EngineError("down") if self.down else None
            return [(ticket, error or reply) for ticket, reply in super().poll(timeout)]

    service = Service()
    plan = Plan(SingleShot("solve_plain"), SOURCE.tasks("test")[:3])
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, served_by(service), Output(tmp_path), recorder=Late())
    before = read_records(tmp_path / "records.jsonl")
    service.down = True
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, served_by(service), Output(tmp_path), recorder=Late())
    assert read_records(tmp_path / "records.jsonl") == before
    assert [record.error for record in before] == [None] * 3


def test_an_evaluation_without_its_rewards_is_not_finished(tmp_path: Path) -> None:
    validate(tmp_path / "whole", Endpoint())
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        validate(tmp_path / "killed", Killed())
    assert read_manifest(tmp_path / "killed/eval/validate/one")["partial"]
    assert not any(scores for _, scores, _ in rewards(tmp_path / "killed").values())
    validate(tmp_path / "killed", Endpoint())
    assert not read_manifest(tmp_path / "killed/eval/validate/one")["partial"]
    assert rewards(tmp_path / "killed") == rewards(tmp_path / "whole")
    assert all(scores == {"solver": 3.0} for _, scores, _ in rewards(tmp_path / "whole").values())
