"""GRPO: roll out -> score -> reference -> advantages -> rows -> updates, readable top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from slm_math.agents import Agent, SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.data.modules import Items, run_seed
from slm_math.data.rows import Row
from slm_math.engines.base import Engine
from slm_math.losses.advantages import Advantage, advantages, part_advantages, spread
from slm_math.losses.policy import Objective, kl_estimate, policy_loss, row_weights
from slm_math.modules.base import PolicyModule
from slm_math.modules.checks import check_options, check_prompts, check_reference, without_dropout
from slm_math.modules.optim import Optim
from slm_math.modules.serving import EngineName, Vllm
from slm_math.modules.stats import Clock, Notices, Sums, cost, sizes, step_figures
from slm_math.policy.batches import Batch, collate, micro_batches
from slm_math.policy.config import Policy
from slm_math.records.record import Rollout, light, record
from slm_math.rewards import Correct, Reward
from slm_math.rollout.collect import Draws, collect
from slm_math.rollout.executors import Executors
from slm_math.rollout.rows import trace_rows
from slm_math.rollout.scoring import score_traces
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Sampling, Task


class GRPOModule(PolicyModule):
    """Group relative policy optimisation (Shao et al. 2024) of whatever `agent` does.

    Solver, verifier and code-feedback training differ in `agent`, `rewards` and `train_roles` only.
    One batch of the data is one step: P problems, G samples of each, `passes` updates. A group is
    the samples of one problem for one role.

    Args:
        policy: the model.
        agent: the workflow that is rolled out.
        rewards: parts that are added up by their weights, per role.
        optim: optimiser and schedule.
        objective: surrogate, averaging, clipping, KL, entropy, correction for the engine.
        advantage: baseline and scale.
        sampling: how trained roles sample; temperature > 0. With top_p, top_k or min_p
            probabilities are taken among the tokens that could be sampled, as recorded by the
            engine, here and in the reference.
        group_size: samples per problem (G), at least 2.
        passes: updates per batch of rollouts (mu); each sees all rows, with ratios to the policy
            that sampled.
        resample: None keeps groups whose rewards are all equal. A number drops them and samples
            further problems instead, at most so many batches of them a step, until P groups are
            left (dynamic sampling, Yu et al. 2025, eq. 11).
        mask_truncated: samples with a reply that was cut off count in the baseline, but are not
            learnt.
        reference_update: after every step the reference moves this share of the way to the policy
            (Gorbatovski et al. 2024, "Learn your reference model"); 0 leaves it where training
            started.
        train_roles: the roles that learn.
        engines: role -> engine for roles that do not learn and are served by another model.
        sandbox: runs the agent's programs; one with its default limits when left out.
        tokens_per_batch: positions of one forward and backward pass.
        slots: requests decoded at once.
        engine: what samples: transformers, vllm, or auto (see `PolicyModule`).
        vllm: settings of vLLM.
        seed: of the sampling; the run's own (`--seed_everything`) when left out.
    """

    def __init__(
        self,
        policy: Policy,
        agent: Agent = SingleShot(),
        rewards: Sequence[Reward] = (Correct(),),
        optim: Optim = Optim(lr=1e-6),
        objective: Objective = Objective(),
        advantage: Advantage = Advantage(),
        sampling: Sampling = Sampling(),
        group_size: int = 8,
        passes: int = 1,
        resample: int | None = None,
        mask_truncated: bool = False,
        reference_update: float = 0.0,
        train_roles: Sequence[str] = ("solver",),
        engines: dict[str, Engine] | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        tokens_per_batch: int = 16384,
        slots: int = 64,
        engine: EngineName = "auto",
        vllm: Vllm = Vllm(),
        seed: int | None = None,
    ) -> None:
        super().__init__(policy, optim, tokens_per_batch, train_roles, slots, engine, vllm)
        self.agent = agent
        self.rewards = tuple(rewards)
        self.objective = objective
        self.advantage = advantage
        self.sampling = sampling
        self.group_size = group_size
        self.passes = passes
        self.resample = resample
        self.mask_truncated = mask_truncated
        self.reference_update = reference_update
        self.other_engines = engines or {}
        self.sandbox = sandbox
        self.seed = run_seed(seed)
        self.updates_per_batch = passes
        self.needs_reference = objective.beta > 0
        self.moves_reference = self.needs_reference and reference_update > 0
        self.at_start = True  # nothing was learnt yet: the policy is its reference
        self.notices = Notices(self.train_roles)
        self.last: list[Rollout] = []  # the rollouts of the step, for display
        check_options(self)

    def setup(self, stage: str) -> None:
        if stage == "fit":  # before a model is loaded
            tasks = getattr(self.trainer.datamodule, "tasks", ())
            check_prompts(self.agent, tasks, self.chat, self.policy.context())
        if any(asker.uses_python for asker in (self.agent, *self.rewards)):
            self.sandbox = self.sandbox or Sandbox()
            self.sandbox.start()
        super().setup(stage)

    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        if self.sandbox is not None:
            self.sandbox.close()  # its settings stay: the next stage starts it again

    def configure_model(self) -> None:
        super().configure_model()
        without_dropout(self.model)  # it would make the policy differ from the policy that sampled

    def training_step(self, batch: Items[Task], batch_idx: int) -> None:
        self.clock, self.last = Clock(), []
        groups = self.groups(batch.items, batch_idx)
        self.serving.release()
        rows = self.rows(groups)
        self.refer(rows)
        self.credit(groups, rows)
        batches = self.batches([row for row in rows if not (self.mask_truncated and row.cut)])
        olds: list[Tensor | None] = [None] * len(batches)
        sums, norm = Sums(), None
        rates = {group["role"]: group["lr"] for group in self.optimizers().param_groups}
        for done in range(self.passes):
            if not done or self.global_step != self.trainer.max_steps:
                norm = self.update(batches, olds, sums)
        if self.moves_reference:
            self.loaded.move_reference(self.reference_update)
        self.clock.lap("update")
        self.report(batches, sums, norm, rates)

    def groups(self, tasks: Sequence[Task], batch_idx: int) -> list[list[Rollout]]:
        """P problems -> P lists of G scored rollouts; with `resample`, of problems whose rewards
        differ.
        """
        if self.resample is None:
            return self.rollouts(tasks, (batch_idx, 0))
        wanted = int(self.over_ranks(len(tasks)))
        # by (round, place in the batch of all ranks)
        kept: dict[tuple[int, int], list[Rollout]] = {}
        for draw in range(self.resample + 1):
            if draw:
                tasks = self.trainer.datamodule.more().items
            for i, group in enumerate(self.rollouts(tasks, (batch_idx, draw))):
                rewards = [
                    [rollout.rewards[role] for rollout in group] for role in self.train_roles
                ]
                if spread(torch.tensor(rewards, dtype=torch.float64)).any():
                    kept[draw, i * self.trainer.world_size + self.global_rank] = group
            if self.over_ranks(len(kept)) >= wanted:
                break
        first = sorted(place for places in self.gathered(list(kept)) for place in places)[:wanted]
        return [kept[place] for place in first if place in kept]

    def rollouts(self, tasks: Sequence[Task], key: tuple[int, int]) -> list[list[Rollout]]:
        """P problems -> P lists of G finished workflows with their rewards; `key` tells batches and
        draws apart.
        """
        key = ("train", self.seed, self.current_epoch, *key)
        engines = self.engines() | self.other_engines
        self.clock.lap("sync")
        executors = Executors(engines, {"default": self.sampling}, self.sandbox)
        jobs = [(task, g) for task in tasks for g in range(self.group_size)]
        found: dict[tuple[str, int], GradedTrace] = {}

        def keep(graded: GradedTrace) -> None:
            found[graded.task.problem.id, graded.trace.sample] = graded
            self.watch("rollouts", len(found), len(jobs))

        collect(self.agent, jobs, executors, keep, Draws(key, support=True))
        self.clock.lap("generate")
        traces = [found[task.problem.id, g] for task, g in jobs]
        scores = score_traces(
            self.rewards,
            traces,
            self.train_roles,
            executors,
            key=key,
            progress=partial(self.watch, "rewards"),
        )
        flat = [
            Rollout(t.task, t.trace, record(t.task, t.trace), own.parts, own.totals)
            for t, own in zip(traces, scores)
        ]
        groups = [flat[k : k + self.group_size] for k in range(0, len(flat), self.group_size)]
        self.last += [rollout for group in groups for rollout in group]
        self.clock.lap("reward")
        return groups

    def rows(self, groups: Sequence[Sequence[Rollout]]) -> list[Row]:
        """The rows of all trained roles. `row.sample` counts over all groups."""
        rows = []
        for p, group in enumerate(groups):
            for g, rollout in enumerate(group):
                for row in (
                    row for role in self.train_roles for row in trace_rows(rollout.trace, role)
                ):
                    row.group, row.sample = p, p * self.group_size + g
                    rows += [row] if row.loss_tokens else []
        return rows

    def refer(self, rows: Sequence[Row]) -> None:
        """Writes the reference's log-probabilities, and a KL for the reward, into the rows if there
        is a KL term.
        """
        chunks = list(micro_batches(rows, self.tokens_per_batch)) if self.needs_reference else []
        for done, chunk in enumerate(chunks):
            batch = collate(chunk, self.device)
            logps = self.loaded.logprobs(batch, reference=True)[0]
            kl = torch.zeros(len(chunk), device=self.device)
            # by the trainer on both sides: an engine's rounding is no divergence
            if self.objective.kl_in == "reward":
                with torch.no_grad():
                    old = self.loaded.logprobs(batch)[0]
                kl.index_add_(0, batch.row, kl_estimate(old, logps, self.objective.kl))
            values = iter(logps.tolist())
            for row, sum_of_kl in zip(chunk, kl.tolist()):
                row.kl, row.reference = sum_of_kl, [0.0] * len(row.ids)
                for t in row.learnt:
                    row.reference[t] = next(values)
            self.watch("reference", done + 1, len(chunks))
        self.clock.lap("reference")

    def credit(self, groups: Sequence[Sequence[Rollout]], rows: Sequence[Row]) -> None:
        """Gives rows and rollouts their advantages; statistics are over all ranks."""
        flat = [rollout for group in groups for rollout in group]
        for role in self.train_roles:
            own, rewards = (
                [row for row in rows if row.role == role],
                [r for r in self.rewards if r.role == role],
            )
            values = [[r.rewards[role], *(r.parts[role][p.name] for p in rewards)] for r in flat]
            table = torch.tensor(values, dtype=torch.float64).reshape(len(flat), 1 + len(rewards))
            for row in own:
                table[row.sample, 0] -= self.objective.beta * row.kl
            tables = self.gathered(table)
            whole = torch.cat(tables).view(-1, self.group_size, 1 + len(rewards))
            if self.advantage.per_part:
                weights = torch.tensor([reward.weight for reward in rewards], dtype=torch.float64)
                found = part_advantages(whole[..., 1:].movedim(-1, 0), weights, self.advantage)
            else:
                found = advantages(whole[..., 0], self.advantage)
            mine = found.flatten()[sum(map(len, tables[: self.global_rank])) :].tolist()
            for row in own:
                row.advantage = mine[row.sample]
            for rollout, value in zip(flat, mine):
                rollout.advantages[role] = value

    def batches(self, rows: Sequence[Row]) -> list[Batch]:
        """The micro-batches of an update. Rows of advantage 0 count in averages; they are computed
        if they matter.
        """
        needed = [row for row in rows if row.advantage or self.objective.dense]
        chunks = list(micro_batches(needed, self.tokens_per_batch))
        if self.objective.kind == "bnpo":  # averages over micro-batches instead of groups
            for number, chunk in enumerate(chunks):
                for row in chunk:
                    row.group = number
        for role in self.train_roles:
            own, reduction = [row for row in rows if row.role == role], self.objective.reduction
            # a sample may have several rows
            groups = [row.group if reduction == "group" else row.sample for row in own]
            lengths = torch.tensor([row.loss_tokens for row in own], dtype=torch.long)
            size = self.over_ranks(
                float(lengths.sum() if reduction == "token" else len(set(groups)))
            )
            budget, index = self.sampling.max_new_tokens, torch.tensor(groups, dtype=torch.long)
            weights = row_weights(lengths, reduction, size, index, budget)
            for row, weight in zip(own, weights.tolist()):
                row.weight = weight
        return [collate(chunk, self.device) for chunk in chunks]

    def update(
        self, batches: Sequence[Batch], olds: list[Tensor | None], sums: Sums
    ) -> float | None:
        """One optimiser step over all rows of all ranks; returns the gradient norm (None when
        nothing was learnt).

        `olds` are the log-probabilities of the policy that sampled. The first pass *is* that
        policy: it fills them in, and they need no pass of their own.
        """
        if not self.over_ranks(len(batches)):
            self.step_schedule(updated=False)
            return None
        wanted = "gradient" if self.objective.entropy else "value"
        for k, b in enumerate(batches):
            with self.loaded.use(b.role):  # also while the backward pass recomputes activations
                logps, entropy, _ = self.loaded.logprobs(b, entropy=wanted)
                if self.at_start and self.global_step == 0 and b.reference is not None:
                    check_reference(logps, b.reference, str(self.trainer.precision))
                old = olds[k] = logps.detach() if olds[k] is None else olds[k]
                given = (
                    b.advantage,
                    b.weight,
                    b.row,
                    self.objective,
                    b.logps,
                    b.reference,
                    entropy,
                )
                loss, found = policy_loss(logps, old, *given)
                loss.backward()
            sums.add(found)
            self.watch("update", k + 1, len(batches))
        self.at_start = False
        return self.step_optimizer()

    def report(
        self, batches: Sequence[Batch], sums: Sums, norm: float | None, rates: dict[str, float]
    ) -> None:
        """Logs the step: the same figures on every rank, over all ranks."""
        rows = [
            row
            for rows in self.gathered([light(rollout.data()) for rollout in self.last])
            for row in rows
        ]
        whole = Sums()
        for found in self.gathered(sums.values | sizes(batches)):
            whole.add(found)
        values = step_figures(rows, self.group_size, self.train_roles) | whole.means(self.passes)
        size, ranks = self.loaded.size, self.trainer.world_size
        values |= cost(self.clock.laps, rows, whole, self.passes, size, self.device, ranks)
        values |= {"grad_norm": norm, "lr": rates[next(iter(rates))]}
        values |= {f"{role}/lr": rate for role, rate in rates.items() if len(rates) > 1}
        self.log_scalars(values, len(rows), shown=("reward", "kl"))
        if self.trainer.is_global_zero:
            for line in self.notices.step(
                self.trainer.fit_loop.epoch_loop.total_batch_idx, rows, self.last
            ):
                print(line)
