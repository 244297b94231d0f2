"""GRPO: groups -> rows -> signals -> updates -> log, readable top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from slm_math.agents import Agent, SingleShot
from slm_math.data.batches import ItemBatch
from slm_math.data.rows import Row
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.losses.advantages import Advantage
from slm_math.losses.logprobs import Wanted
from slm_math.losses.objective import Objective
from slm_math.losses.policy import policy_loss
from slm_math.modules import checks
from slm_math.modules.optim import Optim
from slm_math.modules.rollouts import RolloutModule
from slm_math.modules.step_metrics import StepMetrics, batch_sizes, step_metrics
from slm_math.modules.training_warnings import TrainingWarnings
from slm_math.policy.batches import Batch
from slm_math.policy.config import Policy
from slm_math.policy.ranks import gather_over_ranks, sum_over_ranks
from slm_math.policy.reference import reference_logprobs
from slm_math.ranges import check_whole
from slm_math.rewards import Correct, Reward
from slm_math.rollout.groups import Group
from slm_math.rollout.rows import training_rows
from slm_math.rollout.signals import (
    Signals,
    averaged_groups,
    charge,
    loss_totals,
    micro_batch_groups,
    old_logprobs,
    reward_table,
    rollout_advantages,
    token_advantages,
    token_weights,
    training_batches,
    training_records,
)
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Task


class GRPOModule(RolloutModule):
    """Group relative policy optimization (Shao et al. 2024) of the traces of `agent`.

    One batch of the data is one step: P problems, G samples of each, `passes` updates. A group is
    the samples of one problem for one role.

    Args:
        policy: the model.
        agent: the workflow that is rolled out.
        rewards: parts that are added up by their weights, per role; by default only Correct.
        optim: optimizer and schedule.
        objective: surrogate, averaging, clipping, KL, entropy, correction for the engine.
        advantage: baseline and scale.
        inference: how the policy samples; trained roles need a temperature above 0. With top_p,
            top_k or min_p all probabilities are those among the tokens that could be sampled.
        group_size: samples per problem (G), at least 2.
        passes: updates per batch of rollouts (mu); each sees all rows, with ratios to the policy
            that sampled.
        resample: None keeps groups whose rewards are all equal. A number drops them and samples
            further problems instead, at most so many batches of them a step, until P groups are
            left (dynamic sampling, Yu et al. 2025, eq. 11).
        mask_truncated: samples with a reply that hit the token limit count in the baseline, but are
            not trained on.
        reference_update: after every step the reference moves this share of the way to the policy
            (Gorbatovski et al. 2024, "Learn your reference model"); 0 keeps it where it started.
        train_roles: the roles that are trained.
        frozen: role -> "base" (the policy's base without an adapter) or an adapter folder of it,
            for roles that the policy serves and that are not trained.
        engines: role -> engine for roles that are not trained and served by another model.
        sandbox: runs the agent's programs; by default one with its default limits.
        tokens_per_batch: positions of one forward and backward pass.
        seed: of the sampling; by default the run's own (`--seed_everything`).
    """

    def __init__(
        self,
        policy: Policy,
        agent: Agent = SingleShot(),
        rewards: Sequence[Reward] | None = None,
        optim: Optim = Optim(lr=1e-6),
        objective: Objective = Objective(),
        advantage: Advantage = Advantage(),
        inference: Inference = Inference(),
        group_size: int = 8,
        passes: int = 1,
        resample: int | None = None,
        mask_truncated: bool = False,
        reference_update: float = 0.0,
        train_roles: Sequence[str] = ("solver",),
        frozen: dict[str, str] | None = None,
        engines: dict[str, Engine] | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        tokens_per_batch: int = 16384,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            policy,
            optim,
            agent=agent,
            # a default in the signature would be an object, which no config.yaml can hold
            rewards=(Correct(),) if rewards is None else rewards,
            inference=inference,
            group_size=group_size,
            resample=resample,
            train_roles=train_roles,
            frozen=frozen,
            engines=engines,
            sandbox=sandbox,
            tokens_per_batch=tokens_per_batch,
            seed=seed,
        )
        self.objective = objective
        self.advantage = advantage
        self.passes = passes
        self.mask_truncated = mask_truncated
        self.reference_update = reference_update
        self.updates_per_batch = passes
        self.needs_reference = objective.beta > 0
        self.moves_reference = self.needs_reference and reference_update > 0
        self.at_start = True  # nothing was trained yet: the policy is its reference
        self.warnings = TrainingWarnings(self.train_roles)
        check_whole("passes", passes)
        checks.check_objective(objective, advantage, reference_update, resample)

    def training_step(self, batch: ItemBatch[Task], batch_idx: int) -> None:
        sampled = self.sample_groups(batch.items, batch_idx)  # P groups of G rollouts
        rows = training_rows(sampled.groups, self.train_roles)  # frozen; signals stand beside them
        reference, kl = self.reference_logprobs(rows)
        advantages = self.assign_advantages(sampled.groups, rows, kl)
        signals = self.signals(sampled.groups, rows, advantages, reference)
        metrics, updates = self.updates(rows, signals)
        self.last_rollouts = sampled.rollouts
        self.last_records = training_records(sampled, advantages)
        self.log_step(metrics, updates)

    def reference_logprobs(self, rows: Sequence[Row]) -> tuple[Tensor | None, Tensor]:
        """The reference log-probabilities (M,), and a KL of each row for the reward, (N,) float64;
        (None, zeros) without a KL term.
        """
        logprobs, kl = None, torch.zeros(len(rows), dtype=torch.float64)
        if self.needs_reference:
            in_reward = self.objective.kl_in == "reward"
            logprobs, kl = reference_logprobs(
                self.loaded,
                rows,
                self.tokens_per_batch,
                kl=self.objective.kl if in_reward else None,
                progress=partial(self.progress, "reference"),
            )
        self.timer.end("reference")
        return logprobs, kl

    def assign_advantages(
        self, groups: Sequence[Group], rows: Sequence[Row], kl: Tensor
    ) -> dict[str, Tensor]:
        """role -> the advantages of this rank's rollouts, (rollouts,) float64; `kl` is (N,)."""
        rollouts = [rollout for group in groups for rollout in group]
        advantages = {}
        for role in self.train_roles:
            parts = [reward for reward in self.rewards if reward.role == role]
            rewards = reward_table(rollouts, role, [part.name for part in parts])
            charge(rewards, rows, role, self.objective.beta * kl)
            weights = [part.weight for part in parts]
            advantages[role] = rollout_advantages(rewards, weights, self.group_size, self.advantage)
        return advantages

    def signals(
        self,
        groups: Sequence[Group],
        rows: Sequence[Row],
        advantages: Mapping[str, Tensor],
        reference: Tensor | None,
    ) -> Signals:
        """The training signals of the rows: advantages, weights and log-probabilities by token."""
        rollouts = [rollout for group in groups for rollout in group]
        by_token = token_advantages(rows, advantages, [each.credits for each in rollouts])
        reduction = self.objective.reduction
        size = self.group_size if reduction == "group" else 1
        averaged = averaged_groups(rows, rollouts, size, self.mask_truncated)
        if self.objective.kind == "bnpo":  # averages over micro-batches
            averaged = micro_batch_groups(rows, averaged, self.tokens_per_batch)
        totals = loss_totals(rows, averaged, reduction, self.train_roles, device=self.device)
        budgets = {role: self.inference.sampling_of(role).max_new_tokens for role in totals}
        weights = token_weights(rows, averaged, reduction, totals=totals, budgets=budgets)
        return Signals(
            advantages=by_token.to(self.device),
            weights=weights.to(self.device),
            old=old_logprobs(rows, self.global_step).to(self.device),
            reference=reference,
        )

    def updates(
        self, rows: Sequence[Row], signals: Signals
    ) -> tuple[StepMetrics, dict[str, float | None]]:
        """`passes` optimizer steps over all rows; returns the metrics of tokens, and those of the
        optimizer.
        """
        batches = training_batches(
            rows,
            signals,
            needs_all_rows=self.objective.needs_all_rows,
            tokens=self.tokens_per_batch,
            device=self.device,
        )
        metrics, norm = StepMetrics(batch_sizes(batch for batch, _ in batches)), None
        rates = {each["role"]: each["lr"] for each in self.optimizers().param_groups}
        for number in range(self.passes):
            if not number or self.global_step != self.trainer.max_steps:
                batches, norm = self.update(batches, metrics)
        if self.moves_reference:
            self.loaded.move_reference(self.reference_update)
        self.timer.end("update")
        by_role = {f"{role}/lr": rate for role, rate in rates.items() if len(rates) > 1}
        return metrics, {"lr": next(iter(rates.values())), **by_role, "grad_norm": norm}

    def update(
        self, batches: Sequence[tuple[Batch, Signals]], metrics: StepMetrics
    ) -> tuple[list[tuple[Batch, Signals]], float | None]:
        """One optimizer step over all rows of all ranks; returns the batches for the next pass, and
        the gradient norm (None when nothing was trained on).

        Where the present policy sampled, this pass computes the old log-probabilities of the next.
        """
        after = list(batches)
        if not sum_over_ranks(len(batches), self.device):
            self.step_schedule(updated=False)
            return after, None
        entropy: Wanted = "gradient" if self.objective.entropy else "value"
        for number, (batch, signals) in enumerate(batches):
            # also while the backward pass recomputes activations
            with self.loaded.use(batch.role):
                logprobs, entropies, _ = self.loaded.logprobs(batch, entropy=entropy)
                if self.at_start and self.global_step == 0 and signals.reference is not None:
                    checks.check_reference(logprobs, signals.reference, str(self.trainer.precision))
                old = torch.where(signals.old.isnan(), logprobs.detach(), signals.old)
                after[number] = batch, replace(signals, old=old)
                loss, tokens = policy_loss(
                    logprobs,
                    old,
                    advantages=signals.advantages,
                    weights=signals.weights,
                    row=batch.row,
                    objective=self.objective,
                    sampling=batch.sampling,
                    reference=signals.reference,
                    entropy=entropies,
                )
                loss.backward()
            metrics.add(tokens)
            self.progress("update", number + 1, len(batches))
        self.at_start = False
        return after, self.step_optimizer()

    def log_step(self, metrics: StepMetrics, updates: Mapping[str, float | None]) -> None:
        """Logs the step: the same metrics on every rank, over all ranks."""
        own = [each.without_texts() for each in self.last_records]
        records = [each for ranks in gather_over_ranks(own) for each in ranks]
        values = step_metrics(
            records,
            metrics.summed(),
            group_size=self.group_size,
            roles=self.train_roles,
            passes=self.passes,
            seconds=self.timer.seconds,
            device=self.device,
            parameters=self.loaded.size,
        )
        self.log_scalars(values | updates, len(records), shown=("reward", "kl"))
        if self.trainer.is_global_zero:
            step = self.trainer.fit_loop.epoch_loop.total_batch_idx
            for line in self.warnings.of_step(step, records, self.last_rollouts):
                print(line)
