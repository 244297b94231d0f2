"""The base of modules that learn from rollouts: an agent, its rewards, and groups of samples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from slm_math.agents import Agent
from slm_math.data.batches import run_seed
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.modules import checks
from slm_math.modules.base import PolicyModule
from slm_math.modules.optim import Optim
from slm_math.modules.roles import check_ranks
from slm_math.modules.step_metrics import PhaseTimer
from slm_math.modules.step_sampling import StepSampling
from slm_math.policy.config import Policy
from slm_math.records.record import Record
from slm_math.rewards import Reward, rewarded
from slm_math.rollout.ahead import Draw, GroupsAhead
from slm_math.rollout.collect import check_agents
from slm_math.rollout.executors import Executors
from slm_math.rollout.groups import (
    Group,
    GroupSource,
    Key,
    OnPolicyGroups,
    Rollout,
    SampledGroups,
)
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Task


class RolloutModule(PolicyModule):
    """A policy that learns from what an agent does with it. Subclasses implement `training_step`,
    which begins with `sample_groups`.

    Args: see `GRPOModule`; `taught` are the roles with a teacher.
    """

    sampled_for = "rollouts"

    def __init__(
        self,
        policy: Policy,
        optim: Optim,
        *,
        agent: Agent,
        rewards: Sequence[Reward],
        inference: Inference,
        group_size: int,
        resample: int | None,
        train_roles: Sequence[str],
        frozen: dict[str, str] | None,
        engines: dict[str, Engine] | None,
        sandbox: Sandbox | RemoteSandbox | None,
        tokens_per_batch: int,
        seed: int | None,
        ahead: int = 0,
        taught: Sequence[str] = (),
    ) -> None:
        super().__init__(
            policy, optim, tokens_per_batch, train_roles, inference=inference, frozen=frozen
        )
        self.agent = agent
        self.rewards = tuple(rewards)
        self.group_size = group_size
        self.resample = resample
        self.ahead = ahead
        self.source: GroupSource | None = None  # while it trains
        self.other_engines = engines or {}
        self.sandbox = sandbox
        self.seed = run_seed(seed)
        self.timer = PhaseTimer()  # of the step
        self.last_rollouts: list[Rollout] = []  # of the step, for display
        self.last_records: list[Record] = []  # their records, with rewards and advantages
        self.rewarded = rewarded(self.rewards)  # roles
        checks.check_roles(agent, self.rewards, self, self.other_engines, taught=taught)
        checks.check_sampling(
            inference, self.train_roles, group_size, resample, rewarded=self.rewarded
        )
        checks.check_ahead(ahead, inference, resample)

    def setup(self, stage: str) -> None:
        check_ranks(self.other_engines, self.trainer.world_size, "engines")
        if stage == "fit":  # before a model is loaded
            tasks = getattr(self.trainer.datamodule, "tasks", ())
            check_agents({type(self.agent).__name__: self.agent}, tasks)
            context = self.policy.context()
            long = checks.check_prompts(self.agent, tasks, self.chat, context)
            if long:
                self.trainer.datamodule.leave_out(
                    long, f"outgrow the model's context ({context} tokens) with their images"
                )
        if any(asker.uses_python for asker in (self.agent, *self.rewards)):
            self.sandbox = self.sandbox or Sandbox()
            self.sandbox.start()
        super().setup(stage)

    def teardown(self, stage: str) -> None:
        if isinstance(self.source, GroupsAhead):
            self.source.close()
        self.source = None
        super().teardown(stage)
        if self.sandbox is not None:
            self.sandbox.close()  # its settings stay: the next stage starts it again

    def configure_model(self) -> None:
        super().configure_model()
        # dropout would make the policy differ from the policy that sampled
        checks.without_dropout(self.model)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.ahead:
            self.source = GroupsAhead(self.begin_sampling, self.upcoming)
            return
        self.source = OnPolicyGroups(
            self.roll_out,
            self.resample,
            more=lambda: self.trainer.datamodule.draw_batch().items,
            device=self.device,
        )

    def upcoming(self) -> Draw | None:
        """The problems and the key of the step after this one, None after the last."""
        trainer, place = self.trainer, self.trainer.fit_loop.epoch_loop.batch_idx + 1
        updates = self.global_step + self.updates_per_batch
        epoch = self.current_epoch
        if place >= trainer.num_training_batches:
            epoch, place = epoch + 1, 0
        if epoch == trainer.max_epochs or 0 < trainer.max_steps <= updates:
            return None
        return trainer.datamodule.next_batch().items, self.draw_key(epoch, place)

    def draw_key(self, epoch: int, place: int) -> Key:
        return ("train", self.seed, epoch, place)

    def sample_groups(self, tasks: Sequence[Task], batch_idx: int) -> SampledGroups:
        """P problems -> P groups of G scored rollouts; all teach something with `resample`."""
        assert self.source is not None
        self.timer = PhaseTimer()
        key = self.draw_key(self.current_epoch, batch_idx)
        sampled = self.source.take(tasks, key, self.learning_roles)
        if not self.ahead:
            self.serving.release()
        return sampled

    def roll_out(self, tasks: Sequence[Task], key: Key) -> list[Group]:
        """P problems -> P groups of G finished workflows with their rewards."""
        with closing(self.begin_sampling(tasks, key)) as sampling:
            self.progress("rollouts", 0, len(sampling.jobs))
            while sampling.under_way:
                sampling.advance()
            return sampling.scored_groups()

    def begin_sampling(self, tasks: Sequence[Task], key: Key) -> StepSampling:
        """Begins to sample P problems with the weights of this moment."""
        sampling = StepSampling(self, tasks, key, self.executors())
        self.timer.end("sync")
        return sampling

    def advance_rollouts(self) -> None:
        """Between micro-batches: goes on with the workflows of the next step."""
        if isinstance(self.source, GroupsAhead):
            self.source.advance()

    def engines(self) -> dict[str, Engine]:
        if isinstance(self.source, GroupsAhead):  # the engines may get other weights now
            self.source.settle()
            self.trainer.strategy.barrier()
        return super().engines()

    def executors(self) -> Executors:
        """What answers the requests of agents and rewards, with the policy as it is now."""
        own = self.engines() | self.other_engines
        return Executors(own, self.inference.by_role(), self.sandbox, self.inference.deterministic)
