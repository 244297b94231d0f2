"""GRPO: roll out -> score -> advantages -> rows -> updates, readable top to bottom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from slm_math.agents import Agent, SingleShot
from slm_math.answers import UNDECIDED, judge
from slm_math.data.modules import Items, run_seed
from slm_math.engines.base import Engine
from slm_math.losses.advantages import group_advantages, spread
from slm_math.losses.policy import Objective, policy_loss, token_weights
from slm_math.modules.base import PolicyModule
from slm_math.modules.optim import Optim
from slm_math.modules.policy import Policy
from slm_math.modules.stats import Clock, Notices, Sums, problems_of
from slm_math.rewards import Correct, Reward, Scores
from slm_math.rollout.programs import programs
from slm_math.rollout.rows import Batch, Row, collate, micro_batches, trace_rows
from slm_math.rollout.scheduler import Rollouts
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Sampling, Task, Trace


class GRPOModule(PolicyModule):
    """Group relative policy optimisation (Shao et al. 2024) of whatever `agent` does.

    Solver, verifier and code-feedback training differ in `agent`, `rewards` and `train_roles` only.

    Args:
        policy: the model.
        agent: the workflow that is rolled out.
        rewards: parts that are added up, per role.
        optim: optimiser and schedule.
        objective: clipping, KL weight, reduction.
        sampling: how trained roles sample; temperature > 0.
        group_size: samples per problem (G), at least 2.
        normalise: divide advantages by the group's standard deviation.
        passes: updates per batch of rollouts (mu); each sees all rows.
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
        sampling: Sampling = Sampling(),
        group_size: int = 8,
        normalise: bool = True,
        passes: int = 1,
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
        for role in self.train_roles:
            if role not in agent.roles:
                raise ValueError(f"train_roles names {role!r}; {type(agent).__name__} has {', '.join(agent.roles)}")
            refusal = (engines or {}).get(role) and engines[role].refuse_training(role)
            if (engines or {}).get(role):
                raise ValueError(refusal or f"role {role!r} is trained: it is served by the policy, not by engines")
        if sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 makes all samples of a group equal: set it above 0")
        if sampling.truncated:
            warnings.warn(
                "sampling.top_p < 1 or top_k > 0 in training: samples come from a truncated distribution, which biases "
                "the gradient; top_p 1 and top_k 0 do not",
                stacklevel=2,
            )
        self.agent = agent
        self.rewards = tuple(rewards)
        self.objective = objective
        self.sampling = sampling
        self.group_size = group_size
        self.normalise = normalise
        self.passes = passes
        self.other_engines = engines or {}
        self.sandbox = sandbox
        self.seed = run_seed(seed)
        self.updates_per_batch = passes
        self.needs_reference = objective.beta > 0
        self.notices = Notices(self.train_roles, sampling)
        self.last: list[tuple[Task, Trace, Scores, dict[str, float]]] = []  # the rollouts of the step, for display

    def setup(self, stage: str) -> None:
        if self.agent.uses_python:  # before a model is loaded
            self.sandbox = self.sandbox or Sandbox()
            self.sandbox.start()
        super().setup(stage)

    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        if self.sandbox is not None:
            self.sandbox.close()  # its settings stay: the next stage starts it again

    def configure_model(self) -> None:
        super().configure_model()
        for module in self.model.modules():  # dropout would make the policy differ from the policy that sampled
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0

    # -- one step ------------------------------------------------------------------------------------------------

    def training_step(self, batch: Items[Task], batch_idx: int) -> None:
        clock = Clock()
        traces = self.rollouts(batch.items, batch_idx)
        clock.lap("generate")
        rewards = self.score(batch.items, traces)
        rows = self.rows(traces, rewards)
        totals = self.totals(rows)
        clock.lap("reward")
        chunks = micro_batches(self.learnt(rows), self.tokens_per_batch)
        parts = [collate(chunk, self.device) for chunk in chunks]
        references = self.reference(parts)
        clock.lap("reference")
        stats = Sums()
        norm = None
        for done in range(self.passes):
            self.watch("update", done, self.passes)
            norm = self.update(parts, references, totals, stats)
        clock.lap("update")
        self.report(traces, rewards, parts, stats, norm, clock)

    def rollouts(self, tasks: Sequence[Task], batch_idx: int) -> list[list[Trace]]:
        """P problems -> P lists of G finished workflows."""
        sampling = {"default": self.sampling}
        key = ("train", self.seed, self.current_epoch, batch_idx)
        rollouts = Rollouts(self.agent, self.engines() | self.other_engines, sampling, self.sandbox, key)
        found: dict[tuple[str, int], Trace] = {}
        total = len(tasks) * self.group_size
        for trace in rollouts.run((task.problem, g) for task in tasks for g in range(self.group_size)):
            found[trace.problem.id, trace.sample] = trace
            self.watch("rollouts", len(found), total)
        return [[found[task.problem.id, g] for g in range(self.group_size)] for task in tasks]

    def score(self, tasks: Sequence[Task], traces: Sequence[Sequence[Trace]]) -> dict[str, Tensor]:
        """role -> rewards (P, G); NaN where a role has no reward (it did not speak, or the workflow broke)."""
        scores = [[self._parts(task, trace) for trace in group] for task, group in zip(tasks, traces)]
        rewards = {
            role: torch.tensor(
                [[sum(parts[role].values()) if role in parts else float("nan") for parts in group] for group in scores],
                dtype=torch.float64,
            )
            for role in self.train_roles
        }
        self.last = [
            (task, trace, parts, {role: rewards[role][p, g].item() for role in rewards})
            for p, (task, group) in enumerate(zip(tasks, traces))
            for g, (trace, parts) in enumerate(zip(group, scores[p]))
        ]
        return rewards

    def _parts(self, task: Task, trace: Trace) -> dict[str, dict[str, float]]:
        merged: dict[str, dict[str, float]] = {}
        for reward in self.rewards:
            for role, parts in reward(task, trace).items():
                scores = merged.setdefault(role, {})
                for name, value in parts.items():
                    scores[name] = scores.get(name, 0.0) + value
        return merged

    def rows(self, traces: Sequence[Sequence[Trace]], rewards: dict[str, Tensor]) -> list[Row]:
        """The rows of all trained roles with their advantages."""
        rows = []
        for role, values in rewards.items():
            advantages = group_advantages(values, self.normalise)
            for p, group in enumerate(traces):
                for g, trace in enumerate(group):
                    for row in trace_rows(trace, role):
                        row.advantage = advantages[p, g].item()
                        rows.append(row)
        return rows

    def learnt(self, rows: Sequence[Row]) -> list[Row]:
        """The rows to learn from: without a KL term, those with advantage 0 have no gradient and are left out."""
        return [row for row in rows if row.advantage or self.needs_reference]

    def totals(self, rows: Sequence[Row]) -> dict[str, float]:
        """role -> loss tokens ("token") or rows ("sequence") over all ranks, those with advantage 0 counted."""
        totals = {}
        for role in self.train_roles:
            own = [row for row in rows if row.role == role]
            size = sum(row.loss_tokens for row in own) if self.objective.reduction == "token" else len(own)
            totals[role] = self.over_ranks(size)
        return totals

    def reference(self, parts: Sequence[Batch]) -> list[Tensor | None]:
        """Reference log-probabilities (M,) of every part; None without a KL term."""
        if not self.needs_reference:
            return [None] * len(parts)
        references = []
        for done, part in enumerate(parts):
            self.watch("reference", done, len(parts))
            references.append(self.loaded.logprobs(part, reference=True)[0])
        return references

    def update(
        self,
        parts: Sequence[Batch],
        references: Sequence[Tensor | None],
        totals: dict[str, float],
        stats: Sums,
    ) -> float | None:
        """One optimiser step over all rows of all ranks; returns the gradient norm (None when nothing was learnt)."""
        if not self.over_ranks(len(parts)):
            self.lr_schedulers().step()
            return None
        for part, reference in zip(parts, references):
            with self.loaded.use(part.role):  # also while the backward pass recomputes activations
                logps, entropy, _ = self.loaded.logprobs(part, entropy=True)
                lengths = torch.zeros(len(part.ids), device=self.device).index_add(0, part.row, part.mask)
                weights = token_weights(part.row, part.mask, lengths, totals[part.role], self.objective.reduction)
                loss, sums = policy_loss(logps, part.logps, part.advantage, weights, self.objective, reference)
                if self.global_step == 0 and reference is not None:
                    self._check_reference(logps, reference)
                loss.backward()
            stats.add(sums, loss=loss.detach(), entropy_sum=entropy.sum(), tokens=len(part.targets))
        return self.step_optimizer()

    def _check_reference(self, logps: Tensor, reference: Tensor) -> None:
        """Before the first update the policy *is* its reference; anything else means that the wrong one was loaded."""
        gap = (logps.detach() - reference).abs().max().item() if len(logps) else 0.0
        if gap > (1e-3 if "32" in str(self.trainer.precision) else 0.1):
            raise RuntimeError(
                f"the reference policy differs from the policy before the first update, by {gap:.3g} nats"
            )

    # -- what people see -----------------------------------------------------------------------------------------

    def report(
        self,
        traces: Sequence[Sequence[Trace]],
        rewards: dict[str, Tensor],
        parts: Sequence[Batch],
        stats: Sums,
        norm: float | None,
        clock: Clock,
    ) -> None:
        replies = [turn.reply for group in traces for trace in group for turn in trace.turns]
        lengths = [len(reply.token_ids) for reply in replies if reply.token_ids] or [0]
        first = rewards[self.train_roles[0]]
        mean = first.nanmean().item()
        values: dict[str, float | None] = {"reward": None if first.isnan().all() else mean}
        for role, table in rewards.items():
            prefix = f"{role}/" if len(rewards) > 1 else ""
            alive = spread(table)
            scored = table[~table.isnan()]
            values[f"{prefix}reward_std"] = scored.std().item() if len(scored) > 1 else 0.0
            values[f"{prefix}dead_groups"] = 1 - alive.double().mean().item()
        generated = sum(lengths)
        trained = self.passes * sum(int(part.attention.sum()) for part in parts)
        values |= {
            "length": generated / len(lengths),
            "length_max": max(lengths),
            "truncated": sum(reply.finish == "length" for reply in replies) / max(len(replies), 1),
            "undecided": sum(
                trace.answer is not None and judge(trace.answer, task).reason in UNDECIDED
                for task, trace, _, _ in self.last
            ),
            "errors": sum(trace.error is not None for group in traces for trace in group),
            "grad_norm": norm,
            "lr": self.optimizers().param_groups[-1]["lr"],
            "generated_tokens_per_second": generated / max(clock.laps["generate"], 1e-9),
            "trained_tokens_per_second": trained / max(clock.laps["update"], 1e-9),
            "padding": sum(part.padding for part in parts) / max(len(parts), 1),
        }
        values |= programs(vars(run.result) for group in traces for trace in group for run in trace.runs).values()
        values |= stats.means(self.passes) | {f"seconds_{name}": seconds for name, seconds in clock.laps.items()}
        self.log_scalars(values, len(traces), shown=("reward", "kl"))
        if self.trainer.is_global_zero:
            self.notices.decoding(traces)
            self.notices.scoring([(trace, scores) for _, trace, scores, _ in self.last])
            for line in problems_of(self.trainer.fit_loop.epoch_loop.total_batch_idx, traces, rewards, mean):
                print(line)
