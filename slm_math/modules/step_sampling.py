"""The groups of a training step while they are sampled, and their rewards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from slm_math.agents import Agent
from slm_math.answers.graded import GradedTrace
from slm_math.modules import checks
from slm_math.modules.step_metrics import PhaseTimer
from slm_math.rewards import Reward
from slm_math.rollout.collect import Collection, Draws
from slm_math.rollout.executors import Executors
from slm_math.rollout.groups import Group, Key, Rollout
from slm_math.rollout.scoring import score_traces
from slm_math.types import Task


class Sampler(Protocol):
    """What sampling needs of a module under training."""

    agent: Agent
    rewards: tuple[Reward, ...]
    train_roles: tuple[str, ...]
    group_size: int
    timer: PhaseTimer

    def progress(self, phase: str, done: int, total: int) -> None: ...

    def heartbeat(self) -> None: ...


class StepSampling:
    """The groups of a step while they are sampled; `advance` goes on with the workflows.

    Args:
        module: whose agent and rewards they are, and whose timer and progress are told.
        tasks: P problems.
        key: of the draws.
        executors: answer the requests; the weights are those that they have now.
    """

    def __init__(
        self, module: Sampler, tasks: Sequence[Task], key: Key, executors: Executors
    ) -> None:
        self.module, self.key, self.executors = module, key, executors
        self.jobs = [(task, sample) for task in tasks for sample in range(module.group_size)]
        self.graded: dict[tuple[str, int], GradedTrace] = {}
        draws = Draws(key, support=True)
        self.collection = Collection(
            module.agent, self.jobs, executors=executors, sink=self._take, draws=draws
        )
        self.advance(wait=False)  # the first requests are on their way

    @property
    def under_way(self) -> bool:
        return self.collection.under_way

    def advance(self, wait: bool = True) -> None:
        self.waits = wait
        self.collection.advance(wait)

    def _take(self, one: GradedTrace) -> None:
        self.graded[one.task.problem.id, one.trace.sample] = one
        if self.waits:
            self.module.progress("rollouts", len(self.graded), len(self.jobs))
        else:  # another phase is shown
            self.module.heartbeat()

    def scored_groups(self) -> list[Group]:
        module = self.module
        module.timer.end("generate")
        ordered = [self.graded[task.problem.id, sample] for task, sample in self.jobs]
        checks.check_traces(module.agent, (each.trace for each in ordered))
        scores = score_traces(
            module.rewards,
            ordered,
            module.train_roles,
            self.executors,
            key=self.key,
            progress=partial(module.progress, "rewards"),
        )
        rollouts = list(map(Rollout.of, ordered, scores))
        module.timer.end("reward")
        size = module.group_size
        return [rollouts[start : start + size] for start in range(0, len(rollouts), size)]

    def close(self) -> None:
        self.collection.close()
