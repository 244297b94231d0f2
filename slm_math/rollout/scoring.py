"""The rewards of many traces at once, those that ask a model included."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from slm_math.agents.base import owner_name, work_name
from slm_math.answers.graded import GradedTrace
from slm_math.rewards import Reward, Scores
from slm_math.rewards.scores import Key, assembled, called
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Job, Scheduler


def score_traces(
    rewards: Sequence[Reward],
    graded: Sequence[GradedTrace],
    roles: Sequence[str],
    executors: Executors,
    key: tuple[int | str, ...] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scores]:
    """(N,) graded traces -> (N,) scores of `roles`.

    Plain rewards are computed at once. Workflows of all rewards and traces run side by side, and
    their requests are decoded together. An engine that cannot answer leaves a part without a score;
    `Scores.errors` says why.

    Args:
        executors: serve the roles that rewards ask.
        key: the first parts of every random key: purpose, seed, step. "reward" goes before them, so
            that no draw of an agent depends on the rewards; role and name of the reward, problem
            id, sample and the number of the request follow.
        progress: called with (traces done, all traces) before the first reward, after every trace
            and after every workflow.

    Raises ValueError for a missing engine or sandbox, a score that is infinite or no number, and a
    credit that does not fit the turns of its role.
    """
    for reward in rewards:
        executors.check(owner_name(reward), reward.roles, reward.uses_python)
    values: list[dict[Key, Any]] = []
    errors: list[dict[Key, str]] = [{} for _ in graded]
    waiting: list[int] = []  # workflows of each trace that have not ended
    done = 0
    progress(done, len(graded))
    for trace in graded:
        values.append(called(rewards, trace, roles, key))
        waiting.append(sum(isinstance(value, Generator) for value in values[-1].values()))
        done += waiting[-1] == 0
        progress(done, len(graded))
    for finished in Scheduler(executors).run(_jobs(rewards, graded, values, ("reward", *key))):
        place, reward_key = finished.job.subject
        values[place][reward_key] = finished.value
        if finished.error is not None:
            errors[place][reward_key] = finished.error
        waiting[place] -= 1
        done += waiting[place] == 0
        progress(done, len(graded))
    return [
        assembled(rewards, trace, roles, values=own, errors=broken)
        for trace, own, broken in zip(graded, values, errors)
    ]


def _jobs(
    rewards: Sequence[Reward],
    graded: Sequence[GradedTrace],
    values: Sequence[dict[Key, Any]],
    key: tuple[int | str, ...],
) -> Iterator[Job[Any]]:
    by_key = {(reward.role, reward.name): reward for reward in rewards}
    for place, (trace, own) in enumerate(zip(graded, values)):
        problem, sample = trace.task.problem, trace.trace.sample
        for (role, name), value in list(own.items()):
            if not isinstance(value, Generator):
                continue
            reward = by_key[role, name]
            yield Job(
                workflow=value,
                owner=owner_name(reward),
                about=work_name(problem, sample),
                key=(*key, role, name, problem.id, sample),
                roles=tuple(reward.roles),
                uses_python=reward.uses_python,
                subject=(place, (role, name)),
            )
