"""From traces to training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slm_math.data.rows import Row
from slm_math.images import chat_images
from slm_math.rollout.groups import Rollout
from slm_math.types import Image, Reply, Trace


def training_rows(groups: Sequence[Sequence[Rollout]], roles: Sequence[str]) -> list[Row]:
    """The rows of all trained roles in P groups of G rollouts; `row.rollout` counts over all
    groups. Rows without a loss token are left out.
    """
    rollouts = [rollout for group in groups for rollout in group]
    return [
        row
        for number, rollout in enumerate(rollouts)
        for role in roles
        for row in trace_rows(rollout.trace, role, number)
        if len(row.loss_positions)
    ]


def trace_rows(trace: Trace, role: str, rollout: int = 0) -> list[Row]:
    """The rows of one role in a trace: turns whose prompt extends prompt + reply of an earlier turn
    share a row.

    Equality is checked on token ids and images, so what is trained on is exactly what was sampled.
    Tool output and user turns are context. A turn at another temperature, or of another version of
    the weights, starts a row of its own. Empty replies and greedy turns (which are no samples of
    the policy) make no row.
    """
    drafts: list[_Draft] = []
    for number, turn in enumerate(trace.turns):
        reply, request = turn.reply, turn.request
        # the agent's own wish for a greedy reply: the reply's temperature is 1 then
        if request.role != role or not reply.token_ids or request.temperature == 0:
            continue
        images = chat_images(request.chat)
        draft = next((draft for draft in reversed(drafts) if draft.extends(reply, images)), None)
        if draft is None:
            draft = _Draft(reply.temperature, reply.version)
            drafts.append(draft)
        draft.add(reply, images, number)
    return [draft.row(role, rollout) for draft in drafts]


@dataclass
class _Draft:
    """A row in the making."""

    temperature: float
    version: int
    ids: list[int] = field(default_factory=list)
    mask: list[float] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    support: list[bytes] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    images: tuple[Image, ...] = ()

    def extends(self, reply: Reply, images: tuple[Image, ...]) -> bool:
        """Whether the prompt of a reply begins with this row."""
        return (
            (self.temperature, self.version) == (reply.temperature, reply.version)
            and list(reply.prompt_ids[: len(self.ids)]) == self.ids
            and images[: len(self.images)] == self.images
        )

    def add(self, reply: Reply, images: tuple[Image, ...], turn: int) -> None:
        """Appends what is new of a prompt as context, and the reply as loss tokens."""
        context, sampled = len(reply.prompt_ids) - len(self.ids), len(reply.token_ids)
        self.ids += [*reply.prompt_ids[len(self.ids) :], *reply.token_ids]
        self.mask += [0.0] * context + [1.0] * sampled
        self.logprobs += [0.0] * context + list(reply.logprobs or [float("nan")] * sampled)
        self.support += [b""] * context + list(reply.support or [b""] * sampled)
        self.turns += [-1] * context + [turn] * sampled
        self.images = images

    def row(self, role: str, rollout: int) -> Row:
        return Row(
            ids=tuple(self.ids),
            mask=tuple(self.mask),
            logprobs=tuple(self.logprobs),
            support=tuple(self.support),
            turns=tuple(self.turns),
            temperature=self.temperature,
            version=self.version,
            images=self.images,
            role=role,
            rollout=rollout,
        )
