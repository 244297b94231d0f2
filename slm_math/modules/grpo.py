"""GRPO: roll out -> score -> reference -> advantages -> rows -> updates, readable top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slm_math.agents import Agent, SingleShot
from slm_math.data.modules import Items, run_seed
from slm_math.engines.base import Engine
from slm_math.losses.advantages import Advantage, advantages, part_advantages, spread
from slm_math.losses.policy import Objective, kl_estimate, policy_loss, row_weights
from slm_math.modules.base import PolicyModule
from slm_math.modules.checks import check_prompts, check_reference, check_roles, without_dropout
from slm_math.modules.optim import Optim
from slm_math.modules.policy import Policy
from slm_math.modules.stats import Clock, Notices, Sums, cost, step_figures
from slm_math.rewards import Correct, Reward, check, score, total
from slm_math.rollout.record import Rollout, light, record
from slm_math.rollout.rows import Batch, Row, collate, micro_batches, trace_rows
from slm_math.rollout.scheduler import Rollouts
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Sampling, Task, Trace


class GRPOModule(PolicyModule):
    """Group relative policy optimisation (Shao et al. 2024) of whatever `agent` does.

    Solver, verifier and code-feedback training differ in `agent`, `rewards` and `train_roles` only. One batch of the
    data is one step: P problems, G samples of each, `passes` updates. A group is the samples of one problem for one
    role.

    Args:
        policy: the model.
        agent: the workflow that is rolled out.
        rewards: parts that are added up by their weights, per role.
        optim: optimiser and schedule.
        objective: surrogate, averaging, clipping, KL, entropy, correction for the engine.
        advantage: baseline and scale.
        sampling: how trained roles sample; temperature > 0. With top_p, top_k or min_p probabilities are taken among
            the tokens that could be sampled, as recorded by the engine, here and in the reference.
        group_size: samples per problem (G), at least 2.
        passes: updates per batch of rollouts (mu); each sees all rows, with ratios to the policy that sampled.
        resample: None keeps groups whose rewards are all equal. A number drops them and samples further problems
            instead, at most so many batches of them a step, until P groups are left (dynamic sampling, Yu et al. 2025,
            eq. 11).
        mask_truncated: samples with a reply that was cut off count in the baseline, but are not learnt.
        reference_update: after every step the reference moves this share of the way to the policy (Gorbatovski et al.
            2024, "Learn your reference model"); 0 leaves it where training started.
        train_roles: the roles that learn.
        engines: role -> engine for roles that do not learn and are served by another model.
        sandbox: runs the agent's programs; one with its default limits when left out.
        tokens_per_batch: positions of one forward and backward pass.
        slots: requests decoded at once.
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
        seed: int | None = None,
    ) -> None:
        super().__init__(policy, optim, tokens_per_batch, train_roles, slots)
        if group_size < 2:
            raise ValueError(f"group_size must be at least 2 (advantages compare samples), got {group_size}")
        if passes < 1 or (resample is not None and resample < 0) or not 0 <= reference_update <= 1:
            raise ValueError(
                "passes must be at least 1, resample at least 0 and reference_update in [0, 1], "
                f"got {passes}, {resample}, {reference_update}"
            )
        if sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 makes all samples of a group equal: set it above 0")
        if advantage.per_part and objective.beta and objective.kl_in == "reward":
            raise ValueError("advantage.per_part and objective.kl_in reward exclude each other: use kl_in loss")
        check_roles(self.train_roles, agent, engines or {})
        check(rewards, self.train_roles)
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
        self.notices = Notices(self.train_roles)
        self.last: list[Rollout] = []  # the rollouts of the step, for display

    def setup(self, stage: str) -> None:
        if stage == "fit":  # before a model is loaded
            tasks = getattr(self.trainer.datamodule, "tasks", ())
            check_prompts(self.agent, tasks, self.chat, self.policy.context())
        if self.agent.uses_python:
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

    # -- one step ------------------------------------------------------------------------------------------------

    def training_step(self, batch: Items[Task], batch_idx: int) -> None:
        self.clock, self.last = Clock(), []
        groups = self.groups(batch.items, batch_idx)
        rows = self.rows(groups)
        self.refer(rows)
        self.credit(groups, rows)
        parts = self.parts(rows)
        olds: list[Tensor | None] = [None] * len(parts)
        sums, norm = Sums(), None
        for _ in range(self.passes):
            norm = self.update(parts, olds, sums)
        if self.moves_reference:
            self.loaded.move_reference(self.reference_update)
        self.clock.lap("update")
        self.report(parts, sums, norm)

    def groups(self, tasks: Sequence[Task], batch_idx: int) -> list[list[Rollout]]:
        """P problems -> P lists of G scored rollouts; with `resample`, of problems whose rewards differ."""
        if self.resample is None:
            return self.rollouts(tasks, (batch_idx, 0))
        wanted = int(self.over_ranks(len(tasks)))
        kept: dict[tuple[int, int], list[Rollout]] = {}  # by (round, place in the batch of all ranks)
        for draw in range(self.resample + 1):
            if draw:
                tasks = self.trainer.datamodule.more().items
            for i, group in enumerate(self.rollouts(tasks, (batch_idx, draw))):
                if spread(torch.tensor([[r.rewards[role] for r in group] for role in self.train_roles])).any():
                    kept[draw, i * self.trainer.world_size + self.global_rank] = group
            if self.over_ranks(len(kept)) >= wanted:
                break
        first = sorted(place for places in self.gathered(list(kept)) for place in places)[:wanted]
        return [kept[place] for place in first if place in kept]

    def rollouts(self, tasks: Sequence[Task], key: tuple[int, int]) -> list[list[Rollout]]:
        """P problems -> P lists of G finished workflows with their rewards; `key` tells batches and draws apart."""
        key = ("train", self.seed, self.current_epoch, *key)
        engines = self.engines() | self.other_engines
        rollouts = Rollouts(self.agent, engines, {"default": self.sampling}, self.sandbox, key, support=True)
        found: dict[tuple[str, int], Trace] = {}
        for trace in rollouts.run((task.problem, g) for task in tasks for g in range(self.group_size)):
            found[trace.problem.id, trace.sample] = trace
            self.watch("rollouts", len(found), len(tasks) * self.group_size)
        self.clock.lap("generate")
        groups = []
        for task in tasks:
            self.watch("rewards", len(groups), len(tasks))
            groups.append([self.score(task, found[task.problem.id, g]) for g in range(self.group_size)])
        self.last += [rollout for group in groups for rollout in group]
        self.clock.lap("reward")
        return groups

    def score(self, task: Task, trace: Trace) -> Rollout:
        parts = {role: score(self.rewards, task, trace, role) for role in self.train_roles}
        rewards = {role: total(self.rewards, parts[role], role) for role in self.train_roles}
        return Rollout(task, trace, record(task, trace), parts, rewards)

    def rows(self, groups: Sequence[Sequence[Rollout]]) -> list[Row]:
        """The rows of all trained roles. `row.sample` counts over all groups."""
        rows = []
        for p, group in enumerate(groups):
            for g, rollout in enumerate(group):
                for role in self.train_roles:
                    cut = any(t.reply.finish == "length" for t in rollout.trace.turns if t.request.role == role)
                    if self.mask_truncated and cut:
                        continue
                    for row in (row for row in trace_rows(rollout.trace, role) if row.loss_tokens):
                        row.group, row.sample = p, p * self.group_size + g
                        rows.append(row)
        return rows

    def refer(self, rows: Sequence[Row]) -> None:
        """Writes the reference's log-probabilities into the rows; nothing without a KL term."""
        chunks = list(micro_batches(rows, self.tokens_per_batch)) if self.needs_reference else []
        for done, chunk in enumerate(chunks):
            logps = iter(self.loaded.logprobs(collate(chunk, self.device), reference=True)[0].tolist())
            for row in chunk:
                row.reference = [0.0] * len(row.ids)
                for t in row.learnt:
                    row.reference[t] = next(logps)
            self.watch("reference", done + 1, len(chunks))
        self.clock.lap("reference")

    def credit(self, groups: Sequence[Sequence[Rollout]], rows: Sequence[Row]) -> None:
        """Gives rows and rollouts their advantages; statistics are over all ranks."""
        flat = [rollout for group in groups for rollout in group]
        for role in self.train_roles:
            own, rewards = [row for row in rows if row.role == role], [r for r in self.rewards if r.role == role]
            table = torch.tensor([[r.rewards[role], *(r.parts[role][p.name] for p in rewards)] for r in flat]).double()
            table = table.reshape(len(flat), 1 + len(rewards))
            if self.needs_reference and self.objective.kl_in == "reward":
                for row in own:  # summed over tokens, at the policy that sampled
                    old, reference = torch.tensor([[row.logps[t], row.reference[t]] for t in row.learnt]).unbind(1)
                    penalty = kl_estimate(old, reference, self.objective.kl).sum().item()
                    table[row.sample, 0] -= self.objective.beta * penalty
            tables = self.gathered(table)
            whole = torch.cat(tables).view(-1, self.group_size, 1 + len(rewards))
            if self.advantage.per_part:
                weights = torch.tensor([reward.weight for reward in rewards]).double()
                found = part_advantages(whole[..., 1:].movedim(-1, 0), weights, self.advantage)
            else:
                found = advantages(whole[..., 0], self.advantage)
            mine = found.flatten()[sum(map(len, tables[: self.global_rank])) :].tolist()
            for row in own:
                row.advantage = mine[row.sample]
            for rollout, value in zip(flat, mine):
                rollout.advantages[role] = value

    def parts(self, rows: Sequence[Row]) -> list[Batch]:
        """The micro-batches of an update. Rows of advantage 0 count in averages; they are computed if they matter."""
        needed = [row for row in rows if row.advantage or self.objective.dense]
        chunks = list(micro_batches(needed, self.tokens_per_batch))
        if self.objective.kind == "bnpo":  # averages over micro-batches instead of groups
            for number, chunk in enumerate(chunks):
                for row in chunk:
                    row.group = number
        for role in self.train_roles:
            own = [row for row in rows if row.role == role]
            sizes = {"token": sum(row.loss_tokens for row in own), "group": len({row.group for row in own})}
            size = self.over_ranks(float(sizes.get(self.objective.reduction, len(own))))
            facts = torch.tensor([[row.loss_tokens, row.group] for row in own], dtype=torch.long)
            lengths, group = facts.reshape(len(own), 2).unbind(1)
            weights = row_weights(lengths, self.objective.reduction, size, group, self.sampling.max_new_tokens)
            for row, weight in zip(own, weights.tolist()):
                row.weight = weight
        return [collate(chunk, self.device) for chunk in chunks]

    def update(self, parts: Sequence[Batch], olds: list[Tensor | None], sums: Sums) -> float | None:
        """One optimiser step over all rows of all ranks; returns the gradient norm (None when nothing was learnt).

        `olds` are the log-probabilities of the policy that sampled. The first pass *is* that policy: it fills them in,
        and they need no pass of their own.
        """
        if not self.over_ranks(len(parts)):
            self.lr_schedulers().step()
            return None
        wanted = "gradient" if self.objective.entropy else "value"
        for k, part in enumerate(parts):
            with self.loaded.use(part.role):  # also while the backward pass recomputes activations
                logps, entropy, _ = self.loaded.logprobs(part, entropy=wanted)
                if self.global_step == 0 and part.reference is not None:
                    check_reference(logps, part.reference, str(self.trainer.precision))
                old = logps.detach() if olds[k] is None else olds[k]
                olds[k] = old
                given = (part.advantage, part.weight, part.row, self.objective, part.logps, part.reference, entropy)
                loss, found = policy_loss(logps, old, *given)
                loss.backward()
            sums.add(found)
            self.watch("update", k + 1, len(parts))
        return self.step_optimizer()

    def report(self, parts: Sequence[Batch], sums: Sums, norm: float | None) -> None:
        """Logs the step: the same figures on every rank, over all ranks."""
        rows = [row for rows in self.gathered([light(rollout.data()) for rollout in self.last]) for row in rows]
        whole = Sums()
        for found in self.gathered(sums.values):
            whole.add(found)
        filled = self.over_ranks(sum(part.attention.sum().item() for part in parts))
        size = self.over_ranks(sum(part.ids.numel() for part in parts))
        sampled = sum(event.get("tokens", 0) for row in rows for event in row["events"])
        values = step_figures(rows, self.group_size, self.train_roles) | whole.means(self.passes)
        values |= cost(self.clock.laps, sampled, self.passes * filled, self.loaded.size, self.device)
        values |= {"grad_norm": norm, "lr": self.optimizers().param_groups[-1]["lr"]}
        values["padding"] = 1 - filled / max(size, 1)
        self.log_scalars(values, len(rows), shown=("reward", "kl"))
        if self.trainer.is_global_zero:
            for line in self.notices.step(self.trainer.fit_loop.epoch_loop.total_batch_idx, self.last):
                print(line)
