"""The base of SFT and GRPO: a policy, manual optimization, checkpoints of the trained weights, and
an engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
from torch import nn

from slm_math.checkpoint_files import use_checkpoint_files
from slm_math.collection import collect_again
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.modules.identity import check_identity, check_trained, policy_identity
from slm_math.modules.idle import IdleBatches
from slm_math.modules.optim import Optim, RoleSchedule
from slm_math.modules.position import Resumption
from slm_math.modules.roles import (
    check_frozen,
    check_rates,
    check_tokenizers,
    check_trained_roles,
    tell_unasked,
)
from slm_math.modules.saved_policy import policy_settings, present_names
from slm_math.modules.serving import Serving
from slm_math.modules.several_ranks import RankedModule
from slm_math.modules.trainer_checks import (
    PlainPrecision,
    check_callbacks,
    check_end,
    check_masters,
    check_shared,
    check_trainer,
)
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.masters import PRECISION
from slm_math.ranges import check_whole
from slm_math.starting import starting
from slm_math.types import Sampling


def unseen(phase: str, done: int, total: int) -> None:
    """Progress that nobody displays; a function with a name, since spawned processes get a copy."""


class PolicyModule(RankedModule):
    """A policy under training. Subclasses implement `training_step` and call `step_optimizer` once
    per update.

    Optimization is manual so that a loss is normalized over the whole optimizer step, for any
    split into micro-batches of `tokens_per_batch` positions and over ranks.

    Args:
        policy: the model.
        optim: optimizer and schedule.
        tokens_per_batch: the most positions of one forward and backward pass; bounds memory.
        train_roles: the roles whose turns are trained on.
        inference: how rollouts and evaluations sample from the policy.
        frozen: role -> "base" or an adapter folder, for roles that speak with the policy's base
            without an adapter, or with an adapter of it that is never trained.
    """

    updates_per_batch = 1
    needs_reference = False
    sampled_for = "evaluations"  # what the policy is sampled for
    validation_metrics: tuple[str, ...] = ()  # what the validation loop logs by itself
    moves_reference = False
    ahead = 0  # batches that are sampled before the present one is trained
    own_teacher: str | None = None  # the option that names a teacher in this process

    def __init__(
        self,
        policy: Policy,
        optim: Optim,
        tokens_per_batch: int = 16384,
        train_roles: Sequence[str] = ("solver",),
        inference: Inference = Inference(sampling=Sampling(max_new_tokens=2048)),
        frozen: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(optim, train_roles)
        check_whole("tokens_per_batch", tokens_per_batch)
        self.policy = policy
        self.tokens_per_batch = tokens_per_batch
        self.frozen = check_frozen(policy, frozen or {})
        self.train_roles = check_trained_roles(policy, train_roles, self.frozen)
        check_rates(policy, optim, self.train_roles)
        self.other_engines: dict[str, Engine] = {}  # of roles that another model serves
        self.inference = inference
        self.strict_loading = False  # checkpoints hold what is trained, not the frozen rest
        self._chat: ChatFormat | None = None
        self.serving = Serving(self)
        self._resumption = Resumption()
        self._identity: dict[str, Any] | None = None  # of the policy before training
        self.run: str | None = None  # the identity of the training run, once it has begun
        self.idle = IdleBatches()
        # set by progress displays
        self.on_progress: Callable[[str, int, int], None] = unseen
        # what is under way, and how much of it is done
        self.phase: tuple[str, int, int] = ("start", 0, 0)
        self.heartbeats = 0  # grows whenever anything moves

    def progress(self, phase: str, done: int, total: int) -> None:
        """Reports that `done` of `total` things of a phase are over, to people and to the
        watchdog.
        """
        self.heartbeat()
        self.phase = (phase, done, total)
        self.on_progress(phase, done, total)

    def heartbeat(self) -> None:
        """Reports that something moved, such as a token."""
        self.heartbeats += 1

    # the policy

    @property
    def chat(self) -> ChatFormat:
        """The chat format; loads the tokenizer, not the model."""
        if self._chat is None:
            self._chat = self.policy.chat()
        return self._chat

    def configure_callbacks(self) -> list[L.Callback]:
        """Adds none, but refuses some: Lightning calls this first, and averaging callbacks load the
        model in their own `setup`.
        """
        check_callbacks(self.trainer)
        if self.trainer.state.fn == "fit":
            check_end(self.trainer, self.optim)
        return []

    def setup(self, stage: str) -> None:
        check_trainer(self.trainer)
        check_shared(self.trainer, self)
        if self.trainer.precision == PRECISION:
            check_masters(self.policy.quantize, self.moves_reference)
            self.trainer.strategy.precision_plugin = PlainPrecision()
        check_tokenizers(self.policy, self.frozen)
        use_checkpoint_files(self.trainer)
        self.serving.announce()
        tell_unasked(self, self.trainer)

    def teardown(self, stage: str) -> None:
        self.serving.close()

    def configure_model(self) -> None:
        loaded = self._load()
        self.find_owners(loaded)
        if self.trainer.precision == PRECISION:
            self.round_all(loaded)
        elif self.masters.names:
            raise ValueError(
                f"the policy was loaded with trainer.precision {PRECISION}, and is to be used "
                f"with {self.trainer.precision}: make a new module"
            )

    def _load(self) -> LoadedPolicy:
        # a slice of the weights could not be copied later
        begins = self.trainer.state.fn == "fit" or self.shares_out
        reference = self.needs_reference and begins
        if self.loaded is not None:
            # evaluated first, and trained now
            if reference and self.loaded.reference_model is None:
                self.policy.keep_reference(self.loaded, self.moves_reference)
            return self.loaded
        starting("loading the model")
        self.loaded = self.policy.load(self.train_roles, self.frozen, self.chat.sight)
        if reference:
            self.policy.keep_reference(self.loaded, self.moves_reference)
        self.model = self.loaded.model  # registers the weights
        if self.trainer.state.fn == "fit":  # now, since the files may change while training runs
            self._identity = self.identity(self.loaded)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding):
                module.weight.is_embedding = True  # type: ignore[assignment]
        return self.loaded

    def identity(self, loaded: LoadedPolicy) -> dict[str, Any]:
        """What the run starts from, see `policy_identity`."""
        return policy_identity(self.policy, loaded, self.chat, frozen=self.frozen)

    def engines(self) -> dict[str, Engine]:
        """role -> engine for the roles that the policy serves, trained or frozen, with its weights
        as they are now. Roles that share weights share an engine.
        """
        return self.serving.engines()

    @property
    def ends(self) -> frozenset[int]:
        """Every token that ends a turn."""
        return self.chat.ends(self.model.config, getattr(self.model, "generation_config", None))

    @contextmanager
    def forward_context(self, role: str) -> Iterator[None]:
        """What every forward pass of a role's engine runs in: the trainer's precision, the role's
        adapter.
        """
        assert self.loaded is not None
        with self.trainer.precision_plugin.forward_context(), self.loaded.use(role):
            yield

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        # batches, or max_steps, which counts updates; a rate without an end is constant (check_end)
        steps = min(self.trainer.estimated_stepping_batches, sys.maxsize)
        if self.trainer.max_steps == -1 or steps < self.trainer.max_steps:
            steps *= self.updates_per_batch
        if self.trainer.max_steps != -1:
            steps = min(steps, self.trainer.max_steps)
        factors = {
            role: self.optim.factor(max(self.updates_of(role, int(steps)), 1))
            for role in self.train_roles
        }
        return {"optimizer": optimizer, "lr_scheduler": RoleSchedule(optimizer, factors)}

    def updates_of(self, role: str, updates: int) -> int:
        """In how many of the first `updates` optimizer steps of a run a role learns."""
        return updates

    # checkpoints

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Trainable weights only, or their masters: a LoRA checkpoint has the size of its
        adapters.
        """
        state = super().state_dict(*args, **kwargs)
        if self.loaded is None:
            return state
        keep = {f"model.{name}" for name in self.loaded.trainable}
        masters = {f"model.{name}": value for name, value in self.masters.state().items()}
        return {name: value for name, value in state.items() if name in keep} | masters

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumption.save(self.trainer, checkpoint)
        self.save_owned(checkpoint)
        checkpoint["run"] = self.run
        checkpoint["identity"] = self._identity
        checkpoint["precision"] = str(self.trainer.precision)
        checkpoint["policy"] = policy_settings(self.policy, self.frozen)
        checkpoint["train_roles"] = list(self.train_roles)
        checkpoint["skipped"] = [self.skipped, self._skipped_in_a_row]
        checkpoint["idle"] = self.idle.state()
        # one that stands still is loaded from where it came
        if self.moves_reference and self.loaded is not None:
            checkpoint["reference"] = self.loaded.reference_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.serving.changed()
        self.keep_owned(checkpoint)
        if self.trainer.state.fn == "fit":
            self.run = checkpoint.get("run")
            self._resumption.load(checkpoint, self.global_rank)
        if self.loaded is not None:
            checkpoint["state_dict"] = present_names(checkpoint["state_dict"], self.loaded)
            check_trained(checkpoint["state_dict"], self.loaded)
            self.masters.load(
                {n.removeprefix("model."): value for n, value in checkpoint["state_dict"].items()}
            )
            identity = self._identity or self.identity(self.loaded)
            purpose = "train" if self.trainer.state.fn == "fit" else "evaluate"
            check_identity(checkpoint.get("identity"), identity, purpose)
            trained = tuple(checkpoint.get("train_roles", self.train_roles))
            if trained != self.train_roles:  # the optimizer knows its groups by their order alone
                raise ValueError(
                    f"the checkpoint's train_roles are {', '.join(trained)}, in this order: set "
                    f"them so"
                )
            if self.moves_reference and self.trainer.state.fn == "fit":
                if "reference" not in checkpoint:
                    raise ValueError(
                        "the checkpoint has no moving reference: set reference_update to what it "
                        "was then"
                    )
                self.loaded.load_reference(checkpoint["reference"])
        self.skipped, self._skipped_in_a_row = checkpoint.get("skipped", (0, 0))
        self.idle.load(checkpoint.get("idle", [0, self.trainer.global_step]))

    def on_fit_start(self) -> None:
        collect_again()

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def on_train_start(self) -> None:
        self.release_masters()
        self._resumption.begin(self.trainer)
        schedule: Any = self.lr_schedulers()
        schedule.set_rates()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._resumption.step(self.trainer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.idle.batch_ended(self.trainer)

    # evaluation is the business of callbacks: these steps only let the loops run

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        return None

    def test_step(self, batch: Any, batch_idx: int) -> None:
        return None

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        return None

    def log_scalars(
        self, values: Mapping[str, float | None], rows: int, shown: Sequence[str] = ()
    ) -> None:
        """Logs numbers of one training step as `train/<name>`, those in `shown` also on the
        progress bar.

        `rows` weighs them where Lightning averages over an epoch. None says that there is nothing
        to log; NaN is logged: a run that diverges must not look like its last good step.
        """
        for name, value in (
            *values.items(),
            ("skipped_updates", self.skipped),
            ("engine_gap", self.serving.gap),
        ):
            if value is not None:
                self.log(
                    f"train/{name}", float(value), prog_bar=name in shown, batch_size=max(rows, 1)
                )
