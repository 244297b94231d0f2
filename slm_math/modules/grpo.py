"""GRPO: groups -> rows -> signals -> updates -> log, readable top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

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
from slm_math.modules.step_metrics import StepMetrics, batch_sizes, step_metrics
from slm_math.modules.taught import TaughtModule
from slm_math.modules.teacher import Teacher
from slm_math.modules.turns import Turns, check_turns
from slm_math.policy.batches import Batch
from slm_math.policy.config import Policy
from slm_math.policy.loaded import batch_logprobs, loss_states
from slm_math.policy.ranks import gather_over_ranks, sum_over_ranks
from slm_math.policy.reference import reference_logprobs
from slm_math.policy.teacher import TeacherScores
from slm_math.ranges import check_whole
from slm_math.rewards import Correct, Reward, part_names
from slm_math.rollout.groups import Group
from slm_math.rollout.rows import training_rows
from slm_math.rollout.signals import (
    Signals,
    ages,
    charge,
    given_credits,
    old_logprobs,
    reward_table,
    rollout_advantages,
    token_advantages,
    token_betas,
    training_records,
    untaught,
)
from slm_math.rollout.updates import Prepared, training_batches
from slm_math.rollout.weights import (
    averaged_groups,
    loss_totals,
    micro_batch_groups,
    token_weights,
    without_signal,
)
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Task


class GRPOModule(TaughtModule):
    """Group relative policy optimization (Shao et al. 2024) of the traces of `agent`.

    One batch of the data is one step: P problems, G samples of each, `passes` updates. A group is
    the samples of one problem for one role.

    Args:
        policy: the model.
        agent: the workflow that is rolled out.
        rewards: parts that are added up by their weights, per role; by default only Correct, or
            none with a teacher.
        optim: optimizer and schedule.
        objective: surrogate, averaging, clipping, KL, entropy, correction for the engine.
        advantage: baseline and scale.
        inference: how the policy samples; trained roles need a temperature above 0. With top_p,
            top_k or min_p all probabilities are those among the tokens that could be sampled.
        group_size: samples per problem (G), at least 2 where there are rewards to compare.
        passes: updates per batch of rollouts (mu); each sees all rows, with ratios to the policy
            that sampled.
        resample: None keeps groups whose rewards are all equal. A number drops them and samples
            further problems instead, at most so many batches of them a step, until P groups are
            left (dynamic sampling, Yu et al. 2025, eq. 11).
        ahead: 1 samples a batch while the one before it is trained, so with weights that are one
            step older; `objective.mismatch` corrects for the difference. It needs vLLM servers, and
            a run that is resumed no longer repeats itself bit for bit.
        mask_truncated: samples with a reply that hit the token limit count in the baseline, but are
            not trained on.
        reference_update: after every step the reference moves this share of the way to the policy
            (Gorbatovski et al. 2024, "Learn your reference model"); 0 keeps it where it started.
        train_roles: the roles that are trained.
        alternate: None trains all of them in every step. A number trains one at a time: the turn
            passes to the next one after so many steps. The weights, moments, reference and learning
            rate of a role that waits do not change. It needs an adapter for each role.
        frozen: role -> "base" (the policy's base without an adapter) or an adapter folder of it,
            for roles that the policy serves and that are not trained.
        engines: role -> engine for roles that are not trained and served by another model.
        teacher: scores each token that trained roles sample, for on-policy distillation, in
            addition to rewards or without any.
        sandbox: runs the agent's programs; by default one with its default limits.
        tokens_per_batch: the most positions of one forward and backward pass.
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
        ahead: int = 0,
        mask_truncated: bool = False,
        reference_update: float = 0.0,
        train_roles: Sequence[str] = ("solver",),
        alternate: int | None = None,
        frozen: dict[str, str] | None = None,
        engines: dict[str, Engine] | None = None,
        teacher: Teacher | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        tokens_per_batch: int = 16384,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            policy,
            optim,
            agent=agent,
            # a default in the signature would be an object, which no config.yaml can hold
            rewards=(() if teacher else (Correct(),)) if rewards is None else rewards,
            inference=inference,
            group_size=group_size,
            resample=resample,
            ahead=ahead,
            train_roles=train_roles,
            frozen=frozen,
            engines=engines,
            sandbox=sandbox,
            tokens_per_batch=tokens_per_batch,
            seed=seed,
            teacher=teacher,
        )
        self.objective = objective
        self.advantage = advantage
        self.passes = passes
        self.mask_truncated = mask_truncated
        self.reference_update = reference_update
        self.turns = Turns(self.train_roles, alternate)
        self.updates_per_batch = passes
        self.needs_reference = objective.needs_reference or self.reference_teaches
        self.moves_reference = self.needs_reference and reference_update > 0
        self.at_start = True  # nothing was trained yet: the policy is its reference
        self.corrects_age = ahead > 0 and objective.mismatch != "none"
        check_whole("passes", passes)
        check_turns(self.turns, policy)
        checks.check_objective(
            objective, advantage, reference_update, resample, needs_reference=self.needs_reference
        )

    @property
    def learning_roles(self) -> tuple[str, ...]:
        if self.turns.every is None:
            return self.train_roles
        return self.turns.at(self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def updates_of(self, role: str, updates: int) -> int:
        return self.turns.updates_of(role, updates, self.passes)

    def training_step(self, batch: ItemBatch[Task], batch_idx: int) -> None:
        sampled = self.sample_groups(batch.items, batch_idx)  # P groups of G rollouts
        rows = training_rows(sampled.groups, self.learning_roles)  # signals stand beside them
        reference, kl = self.reference_logprobs(rows)
        advantages = self.assign_advantages(sampled.groups, rows, kl)
        teacher = self.teacher_scores(sampled.groups, rows)
        signals = self.signals(sampled.groups, rows, advantages, reference, teacher=teacher)
        self.last_rollouts = sampled.rollouts
        self.last_records = training_records(sampled, advantages)
        self.log_step(*self.updates(rows, signals))

    def reference_logprobs(self, rows: Sequence[Row]) -> tuple[Tensor | None, Tensor]:
        """The reference log-probabilities (M,), and a KL of each row for the reward, (N,) float64;
        (None, zeros) without a KL term.
        """
        logprobs, kl = None, torch.zeros(len(rows), dtype=torch.float64)
        if self.objective.needs_reference:
            logprobs, kl = reference_logprobs(
                self.loaded,
                rows,
                self.tokens_per_batch,
                kl=self.objective.kl if self.objective.kl_in == "reward" else None,
                progress=partial(self.progress, "reference"),
            )
        self.timer.end("reference")
        return logprobs, kl

    def assign_advantages(
        self, groups: Sequence[Group], rows: Sequence[Row], kl: Tensor
    ) -> dict[str, Tensor]:
        """Rewarded role -> the advantages of its rollouts, float64; `kl` is (N,). They are
        (rollouts, 1), or (rollouts, K): what each of K parts adds (see `rollout_advantages`).
        """
        rollouts = [rollout for group in groups for rollout in group]
        advantages = {}
        for role in (role for role in self.learning_roles if role in self.rewarded):
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
        teacher: TeacherScores | None = None,
    ) -> Signals:
        """The training signals of the rows: advantages, weights and log-probabilities by token."""
        rollouts = [rollout for group in groups for rollout in group]
        parts = part_names(self.rewards, self.train_roles) if self.advantage.per_part else None
        reduction = self.objective.reduction
        size = self.group_size if reduction == "group" else 1
        averaged = averaged_groups(rows, rollouts, size, self.mask_truncated)
        if teacher is not None:  # nobody says anything of some
            averaged = without_signal(rows, averaged, teacher.logprobs, self.rewarded)
        if self.objective.kind == "bnpo":  # averages over micro-batches
            tokens, reading = self.tokens_per_batch, self.loaded.reading
            averaged = micro_batch_groups(rows, averaged, tokens, reading)
        totals = loss_totals(rows, averaged, reduction, self.learning_roles, device=self.device)
        budgets = {role: self.inference.sampling_of(role).max_new_tokens for role in totals}
        weights = token_weights(rows, averaged, reduction, totals=totals, budgets=budgets)
        return Signals(
            advantages=token_advantages(rows, advantages, given_credits(rollouts, parts)),
            weights=weights,
            old=old_logprobs(rows, self.global_step, proximal=self.corrects_age),
            reference=reference,
            betas=token_betas(rows, rollouts, self.objective),
            teacher=teacher,
        ).to(self.device)

    def updates(
        self, rows: Sequence[Row], signals: Signals
    ) -> tuple[StepMetrics, dict[str, float | None]]:
        """`passes` optimizer steps over all rows; returns metrics of tokens and the optimizer."""
        batches = training_batches(
            rows,
            signals,
            needs_all_rows=self.objective.needs_all_rows or self.teaching is not None,
            tokens=self.tokens_per_batch,
            device=self.device,
            reading=self.loaded.reading,
            exchanges=self.objective.kind != "bnpo",  # which averages over micro-batches
        )
        metrics, norm = StepMetrics(), None
        if self.ahead:
            metrics.add(ages(rows, self.global_step, self.passes))
        if self.teaching and signals.teacher is not None:
            metrics.add(untaught(rows, signals.teacher.logprobs, self.teaching.roles))
        rates = {each["role"]: each["lr"] for each in self.optimizers().param_groups}
        for number in range(self.passes):
            if not number or self.global_step != self.trainer.max_steps:
                batches, norm = self.update(batches, metrics)
        metrics.add(batch_sizes(batch for batch, _ in batches))
        if self.moves_reference:
            self.loaded.move_reference(self.reference_update, self.learning_roles)
        if self.teaching:
            self.teaching.rest()
        self.timer.end("update")
        by_role = {f"{role}/lr": rate for role, rate in rates.items() if len(rates) > 1}
        by_role |= self.turns.metrics(self.learning_roles)
        return metrics, {"lr": next(iter(rates.values())), **by_role, "grad_norm": norm}

    def update(self, batches: Prepared, metrics: StepMetrics) -> tuple[Prepared, float | None]:
        """One optimizer step over all rows of all ranks; returns the batches for the next pass, and
        the gradient norm (None when nothing was trained on).

        Where the present policy sampled, this pass computes the old log-probabilities of the next.
        """
        after: list[tuple[Batch, Signals]] = []
        if not sum_over_ranks(len(batches), self.device):
            self.step_schedule(updated=False)
            return after, None
        for batch, signals in self.loaded.evened(batches):
            # also while the backward pass recomputes activations
            with self.loaded.use(batch.role) as model:
                loss, old, tokens = self.loaded.run(model, self.batch_loss, batch, signals)
                self.update_backward(loss, last=len(after) == len(batches) - 1)
            after.append((batch, replace(signals, old=old)))
            metrics.add(tokens)
            self.progress("update", len(after), len(batches))
            self.advance_rollouts()
        self.at_start = False
        return after, self.step_optimizer()

    def batch_loss(
        self, model: Any, batch: Batch, signals: Signals
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch, the log-probabilities (M,) of the policy that sampled, and the
        metrics of the tokens.
        """
        states = loss_states(model, batch)
        entropy: Wanted = "gradient" if self.objective.entropy else "value"
        logprobs, entropies, _ = batch_logprobs(model, batch, states, entropy, hits=False)
        if self.at_start and self.global_step == 0 and signals.reference is not None:
            checks.check_reference(logprobs, signals.reference, str(self.trainer.precision))
        old = torch.where(signals.old.isnan(), logprobs.detach(), signals.old)
        taught = self.teaching.advantages(signals, old) if self.teaching else 0.0
        loss, tokens = policy_loss(
            logprobs,
            old,
            advantages=signals.advantages + taught,
            weights=signals.weights,
            row=batch.row,
            objective=self.objective,
            sampling=batch.sampling,
            reference=signals.reference,
            entropy=entropies,
            betas=signals.betas,
        )
        added, said = self.teacher_loss(model, states, batch, signals=signals, old=old)
        return loss + added, old, tokens | said | {"loss": (loss + added).detach()}

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
        self.log_scalars(values | updates, len(records), shown=("reward", "kl", "teacher_kl"))
        if self.teaching:
            self.teaching.tell_if_equal(values, self.trainer.is_global_zero)
        if self.trainer.is_global_zero:
            step = self.trainer.fit_loop.epoch_loop.total_batch_idx
            for line in self.warnings.of_step(step, records, self.last_rollouts):
                print(line)
