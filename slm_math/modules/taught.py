"""The base of modules that learn from rollouts, and from a teacher that scores their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from slm_math.data.rows import Row
from slm_math.engines.settings import Inference
from slm_math.modules import checks
from slm_math.modules.optim import Optim
from slm_math.modules.rollouts import RolloutModule
from slm_math.modules.teacher import Teacher
from slm_math.modules.teaching import Teaching
from slm_math.modules.training_warnings import TrainingWarnings
from slm_math.policy.batches import Batch
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.teacher import TeacherScores
from slm_math.rollout.groups import Group
from slm_math.rollout.signals import Signals


class TaughtModule(RolloutModule):
    """A `RolloutModule` with or without a teacher.

    Args: see `GRPOModule`.
    """

    def __init__(
        self,
        policy: Policy,
        optim: Optim,
        *,
        inference: Inference,
        train_roles: Sequence[str],
        teacher: Teacher | None,
        **options: Any,
    ) -> None:
        super().__init__(
            policy,
            optim,
            inference=inference,
            train_roles=train_roles,
            taught=teacher.taught(train_roles) if teacher else (),
            **options,
        )
        self.teaching = teacher and Teaching(teacher, self.train_roles, policy, inference)
        self.reference_teaches = bool(teacher and teacher.itself == "reference")
        if teacher and not teacher.servers:
            self.own_teacher = "teacher.itself" if teacher.itself else "teacher.path"
        taught = self.teaching.roles if self.teaching else ()
        self.untaught_roles = [role for role in self.train_roles if role not in taught]
        self.warnings = TrainingWarnings(self.untaught_roles)

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.teaching:  # before a model is loaded
            tasks = getattr(self.trainer.datamodule, "tasks", ())
            self.teaching.check(self.chat, tasks, self.agent)
        super().setup(stage)

    def configure_model(self) -> None:
        super().configure_model()
        if self.teaching and self.trainer.state.fn == "fit" and not self.teaching.local:
            self.teaching.load(self.loaded)
            checks.without_dropout(self.model)  # in an adapter that teaches, too

    def identity(self, loaded: LoadedPolicy) -> dict[str, Any]:
        return super().identity(loaded) | (self.teaching.identity() if self.teaching else {})

    def teacher_scores(self, groups: Sequence[Group], rows: Sequence[Row]) -> TeacherScores | None:
        """What the teacher says of the rows' M loss tokens; None without a teacher."""
        if self.teaching is None:
            return None
        scores = self.teaching.scores(
            rows,
            [rollout for group in groups for rollout in group],
            self.chat,
            tokens=self.tokens_per_batch,
            progress=partial(self.progress, "teacher"),
        )
        self.timer.end("teacher")
        return scores.to(self.device)

    def teacher_loss(
        self, model: Any, states: Tensor, batch: Batch, signals: Signals, old: Tensor
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What the teacher adds to the loss of a micro-batch, and its metrics; see
        `Teaching.loss`.
        """
        if self.teaching is None:
            return 0.0, {}
        return self.teaching.loss(model, states, batch, signals=signals, old=old)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["drift"] = self.warnings.drift.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.warnings.drift.load(checkpoint.get("drift", {}))
