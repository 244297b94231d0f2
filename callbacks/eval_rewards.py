"""The rewards of training, in the records of an evaluation during training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slm_math.answers.graded import GradedTrace
from slm_math.evaluation.evaluate import Recorder
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.records.record import Record, record
from slm_math.rollout.executors import Executors
from slm_math.rollout.scoring import score_traces


class TrainingRewards(Recorder):
    """Adds the rewards of a GRPO module to the records of an evaluation; other modules have none.

    Rewards that ask a model or run programs are computed together after the last workflow, because
    their requests would interfere with those of the agents. The others go into each record when it
    is written. Samples that an interrupted evaluation left without rewards are run again.

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

    def record(self, graded: GradedTrace) -> Record:
        if self.asks:
            self.waiting.append(graded)
            return record(graded)
        return self._scored([graded])[0]

    def is_complete(self, record: Record) -> bool:
        return not self.asks or (bool(record.rewards) and not record.reward_errors)

    def complete(self, records: Sequence[Record]) -> Iterable[Record]:
        if not self.waiting:
            return records
        scored = {one.key: one for one in self._scored(self.waiting)}
        return (scored.get(one.key, one) for one in records)

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
            record(one).with_training(score.parts, score.totals, errors=score.errors)
            for one, score in zip(graded, scores)
        ]
