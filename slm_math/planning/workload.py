"""What a step of a run has to do, as far as the configuration and the data say it before the run:
rows, prompts, and the most tokens of replies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slm_math.agents import Agent
from slm_math.data.rows import Row
from slm_math.engines.prompting import extent_of
from slm_math.images import chat_images
from slm_math.modules.base import PolicyModule
from slm_math.modules.checks import first_requests
from slm_math.modules.rollouts import RolloutModule
from slm_math.policy.batches import Reading, micro_batches
from slm_math.types import Sampling, Task

SAMPLED = 512  # rows or problems whose lengths are looked at
ASSUMED = 256  # tokens of a prompt that nobody can look at


@dataclass(frozen=True)
class Decoded:
    """Requests that are decoded together.

    Args:
        prompts: the tokens of each distinct prompt.
        samples: replies to each.
        sampling: how; replies are taken to be as long as they may be.
        slots: requests at once; None is all.
    """

    prompts: tuple[int, ...]
    samples: int
    sampling: Sampling
    slots: int | None

    @property
    def requests(self) -> int:
        return len(self.prompts) * self.samples

    @property
    def rows(self) -> int:
        """Requests at once."""
        return min(self.requests, self.slots or self.requests)


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Args:
        rows: what it trains on; those of images are as long as the network reads them.
        sampled: what is decoded before the update, by role; () in fine-tuning.
    """

    rows: tuple[Row, ...]
    sampled: tuple[Decoded, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)

    def chunks(self, tokens: int, packs: bool) -> list[list[Row]]:
        """The micro-batches of at most so many positions, the largest first."""
        chunks = micro_batches(self.rows, tokens, Reading(packs=packs))
        made = [[self.rows[n] for n in chunk] for chunk in chunks]
        return sorted(made, key=lambda rows: -sum(len(row.ids) for row in rows))


@dataclass(frozen=True)
class Workload:
    """What a run does, by a sample of its steps.

    Args:
        steps: some steps, the one with the most tokens last.
        evaluated: what each evaluation of an agent decodes.
        notes: what was assumed.
    """

    steps: tuple[Step, ...]
    evaluated: tuple[Decoded, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> Step:
        return self.steps[-1]

    @property
    def tokens(self) -> float:
        """Of a step, in the mean."""
        return sum(step.tokens for step in self.steps) / len(self.steps)


def steps_of_rows(rows: Sequence[Row], size: int, by_length: bool) -> tuple[Step, ...]:
    """Steps of `size` rows of a sample of rows, the largest last; `by_length` says that rows of
    similar length share a step.
    """
    count = max(SAMPLED, 2 * size)
    places = range(len(rows))
    if len(rows) > count:
        places = sorted(random.Random(0).sample(places, count))
    chosen = [rows[n] for n in places]
    if by_length:
        chosen.sort(key=lambda row: len(row.ids))
    # from the end, so that the longest rows are in a whole step
    starts = range(len(chosen) - size, -1, -size) if len(chosen) > size else [0]
    steps = [Step(tuple(chosen[n : n + size])) for n in starts]
    return tuple(sorted(steps, key=lambda step: step.tokens))


def assumed_rows(length: int, count: int) -> list[Row]:
    """Rows of which nothing is known but their length; half of it is learned."""
    prompt = length // 2
    mask = (0.0,) * prompt + (1.0,) * (length - prompt)
    # no two of them begin alike
    return [Row((n % 100, *[1] * (length - 1)), mask) for n in range(count)]


def step_of_tasks(module: RolloutModule, tasks: Sequence[Task | None], slots: int | None) -> Step:
    """The step of GRPO on problems whose replies are as long as they may be: one turn of each
    trained role, with the role's own prompt if the agent begins with it. None is a problem of which
    nothing is known.
    """
    rows: list[Row] = []
    sampled: list[Decoded] = []
    for role in module.train_roles:
        sampling = module.inference.sampling_of(role)
        prompts = [prompt_of(module, module.agent, task, role) for task in tasks]
        for number, prompt in enumerate(prompts):
            rows += _replies(module, prompt, number, most=sampling.max_new_tokens, role=role)
        lengths = tuple(map(len, prompts))
        sampled.append(Decoded(lengths, module.group_size, sampling, slots))
    return Step(tuple(rows), tuple(sampled))


def _replies(
    module: RolloutModule, prompt: Sequence[int], number: int, most: int, role: str
) -> list[Row]:
    """The rows of a group; no two replies begin alike."""
    context = module.policy.context() or 1 << 30
    length = max(min(most, context - len(prompt)), 1)
    mask = (0.0,) * len(prompt) + (1.0,) * length
    return [
        Row((*prompt, n % 50, *[number % 50] * (length - 1)), mask, role=role)
        for n in range(module.group_size)
    ]


def prompt_of(module: PolicyModule, agent: Agent, task: Task | None, role: str) -> tuple[int, ...]:
    """The ids of the first prompt of a role, with as many more as its images take; assumed where
    the agent begins with another role.
    """
    requests = first_requests(agent, task.problem) if task is not None else []
    own = [each for each in requests if each.role == role] or requests
    if not own:
        return (1,) * ASSUMED
    ids, _ = module.chat.prompt(own[0].chat, own[0].resume)
    extra = extent_of(module.chat, chat_images(own[0].chat)).extra
    return (*[1] * extra, *ids)


def without_images(row: Row, sight: Any) -> Row:
    """The row with as many more tokens as its images take, and none of them."""
    extra = row.width(sight) - len(row.ids)
    ids, mask = (*[1] * extra, *row.ids), (*[0.0] * extra, *row.mask)
    return Row(ids, mask, role=row.role)
