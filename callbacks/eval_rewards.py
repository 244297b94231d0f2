"""The rewards of training, in the records of an evaluation during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slm_math.answers.graded import GradedTrace
from slm_math.evaluation.evaluate import Evaluation
from slm_math.metrics.summary import summarize
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.records.files import write_json, write_records
from slm_math.records.record import Record, record
from slm_math.rollout.scheduler import Executors
from slm_math.rollout.scoring import score_traces


class TrainingRewards:
    """Adds the rewards of a GRPO module to the records of an evaluation; other modules have none.

    Rewards that ask a model or run programs are computed together when the evaluation is finished,
    because their requests would interfere with those of the agents. The others go into each record
    when it is written. Records that an interrupted evaluation left keep the rewards that they have.

    Args:
        module: the module under training.
        seed: of the requests of rewards.
    """

    def __init__(self, module: PolicyModule, seed: int) -> None:
        self.module = module if isinstance(module, GRPOModule) else None
        self.seed = seed
        asking = self.module.rewards if self.module is not None else ()
        self.asks = any(reward.roles or reward.uses_python for reward in asking)
        self.waiting: list[GradedTrace] = []

    def to_record(self, graded: GradedTrace) -> Record:
        """The record of a graded trace, with the rewards that need no requests."""
        if self.asks:
            self.waiting.append(graded)
            return record(graded)
        return self._scored([graded])[0]

    def complete(self, evaluation: Evaluation, folder: Path) -> Evaluation:
        """The evaluation with all rewards; rewrites its files if some were missing."""
        if not self.waiting:
            return evaluation
        scored = {one.key: one for one in self._scored(self.waiting)}
        records = tuple(scored.get(one.key, one) for one in evaluation.records)
        summary = summarize(records, evaluation.summary.expected)
        write_records(folder / "records.jsonl", records)
        write_json(folder / "summary.json", summary.to_json() | {"partial": False})
        return replace(evaluation, records=records, summary=summary)

    def _scored(self, graded: Sequence[GradedTrace]) -> list[Record]:
        if self.module is None:
            return list(map(record, graded))
        scores = score_traces(
            self.module.rewards,
            graded,
            self.module.train_roles,
            self.module.executors() if self.asks else Executors({}, {}),
            key=("eval", self.seed),
        )
        return [
            record(one).with_training(score.parts, score.totals)
            for one, score in zip(graded, scores)
        ]
