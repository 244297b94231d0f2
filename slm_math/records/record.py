"""A graded trace as a typed value without tensors: what evaluations and training write down, and
what metrics are computed from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from slm_math.agents.coding import program
from slm_math.answers import Extracted, extract, grade_reply
from slm_math.answers.graded import GradedTrace
from slm_math.images import image_hash
from slm_math.types import AnswerType, Chat, Draft, Image, Note, Problem, Run, Trace, Turn

NOT_KEPT = "shows images, which records do not keep that an earlier version wrote: evaluate again"
GRADED = ("draft", "candidate", "choice")  # the kinds of notes whose text is an answer


class RecordedImage(NamedTuple):
    """An image as records keep it: the absolute path of its file (an address as it is, "" for a
    data URL), the hash of its content (`image_hash`), and whether it is `blank`: shown instead of
    the problem's own, in the blind control.
    """

    source: str
    hash: str
    blank: bool = False

    @property
    def image(self) -> Image:
        return Image(self.source, self.blank)


class ChatMessage(NamedTuple):
    """One message of a prompt: its text, and the images that come before it."""

    role: str
    content: str
    images: tuple[RecordedImage, ...] = ()

    @property
    def shown(self) -> str:
        """The text below a line for each image."""
        return "\n".join([*(f"[image: {each.source}]" for each in self.images), self.content])


@dataclass(frozen=True)
class TurnEvent:
    """A reply that a model generated. `program` says whether the reply contains a program; `finish`
    is "length" for a reply that hit the token limit, else "stop". `prompt_hash` is that of the
    prompt as the chat template rendered it, "" where a server does that. `model` is the one that
    a server says has answered. Of a cascade, `attempt` is the number of the try, and `plays` the
    role of the agent that `role` played.
    """

    role: str = ""
    prompt: tuple[ChatMessage, ...] = ()
    reply: str = ""
    program: bool = False
    finish: str = "stop"
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    prompt_hash: str = ""
    model: str = ""
    attempt: int = 0
    plays: str = ""

    @property
    def images(self) -> tuple[RecordedImage, ...]:
        """The images that the prompt showed."""
        return tuple(image for message in self.prompt for image in message.images)


@dataclass(frozen=True)
class RunEvent:
    """A program that ran after the `earlier` blocks of its session. `output` is what the model got
    to see.
    """

    code: str = ""
    earlier: tuple[str, ...] = ()
    ok: bool = False
    output: str = ""
    error_type: str = ""
    timed_out: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class NoteEvent:
    """A note of the agent (see `types.Note`). `correct` is the verdict on the answer of a draft,
    candidate or choice, None for other notes.
    """

    kind: str = ""
    text: str | None = None
    correct: bool | None = None
    value: float | None = None
    role: str = ""
    branch: tuple[int, ...] = ()


Event: TypeAlias = TurnEvent | RunEvent | NoteEvent


@dataclass(frozen=True)
class Record:
    """One sample of one problem: the task, the verdict on the agent's answer, and what happened.

    `images` are those of the problem, as the agent was shown them. `answer`, `correct` and
    `reason`: what the agent returned and the verdict on it. `method`: how the last reply that
    states this answer does so (see `extract`); "program" where no reply states it and programs ran.
    `hedged`: incorrect, and that reply names alternatives. `lenient`: correct, also when the agent
    has no answer and the last number of the final reply is accepted (the last reply of the role
    that spoke first). `error`: why the workflow broke, or with `skipped` why it did not begin: the
    problem does not fit into the model's context, which another attempt does not change.

    Training adds by role: the unweighted `parts` of the reward, `rewards` (NaN: not scored),
    `advantages`, and in `reward_errors` why a part could not be scored. `has_verdict` is False only
    for a record of another program that lacks `correct`.
    """

    id: str
    sample: int
    problem: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    gold: str = ""
    answer_type: AnswerType = "math"
    choices: tuple[str, ...] = ()
    images: tuple[RecordedImage, ...] = ()
    tolerance: float | str | None = None
    draft: Draft | None = None
    answer: str | None = None
    correct: bool = False
    reason: str = ""
    method: str = ""
    hedged: bool = False
    lenient: bool = False
    error: str | None = None
    skipped: bool = False
    seconds: float = 0.0
    events: tuple[Event, ...] = ()
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    advantages: Mapping[str, float] = field(default_factory=dict)
    reward_errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    has_verdict: bool = True

    @property
    def key(self) -> tuple[str, int]:
        """Problem id and sample number, which identify a record in an evaluation."""
        return self.id, self.sample

    @property
    def statement(self) -> str:
        """The problem's text with its choices, as agents are shown it."""
        return Problem(self.id, self.problem, choices=self.choices).statement

    @property
    def blind(self) -> bool:
        """Whether the images of the problem were blank, as they are in the blind control."""
        return any(image.blank for image in self.images)

    @property
    def broken(self) -> bool:
        """Whether the workflow broke; another attempt may come to its end."""
        return self.error is not None and not self.skipped

    @cached_property
    def turns(self) -> tuple[TurnEvent, ...]:
        return tuple([event for event in self.events if isinstance(event, TurnEvent)])

    @cached_property
    def runs(self) -> tuple[RunEvent, ...]:
        return tuple([event for event in self.events if isinstance(event, RunEvent)])

    @cached_property
    def notes(self) -> tuple[NoteEvent, ...]:
        return tuple([event for event in self.events if isinstance(event, NoteEvent)])

    @property
    def tokens(self) -> int:
        """Sampled tokens of all replies."""
        return sum(turn.tokens for turn in self.turns)

    @property
    def truncated(self) -> bool:
        """Whether any reply hit the token limit."""
        return any(turn.finish == "length" for turn in self.turns)

    def with_training(
        self,
        parts: Mapping[str, Mapping[str, float]],
        rewards: Mapping[str, float],
        advantages: Mapping[str, float] | None = None,
        errors: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Record:
        """The record with reward parts, rewards, advantages and errors of rewards by role."""
        return replace(
            self,
            parts=parts,
            rewards=rewards,
            advantages=advantages or {},
            reward_errors=errors or {},
        )

    def without_texts(self) -> Record:
        """The record without its long texts: metrics are the same, and it is cheap to send to
        another process.
        """
        events = tuple(map(_without_texts, self.events))
        return replace(self, problem="", draft=None, events=events)


def _without_texts(event: Event) -> Event:
    if isinstance(event, TurnEvent):
        # metrics ask which images were shown
        shown = tuple(each._replace(content="") for each in event.prompt if each.images)
        return replace(event, prompt=shown, reply="")
    if isinstance(event, RunEvent):
        return replace(event, code="", earlier=(), output="")
    return event


def record(graded: GradedTrace) -> Record:
    """The record of a graded trace; no answer is graded again."""
    task, trace, problem = graded.task, graded.trace, graded.task.problem
    has_rules = problem.answer_type != "math"  # a tolerance decides nothing else
    return Record(
        id=problem.id,
        sample=trace.sample,
        problem=problem.text,
        tags=dict(problem.tags),
        gold=task.gold,
        answer_type=problem.answer_type,
        choices=problem.choices,
        images=recorded_images(problem.images),
        tolerance=task.tolerance if has_rules else None,
        draft=problem.draft,
        error=trace.error,
        skipped=trace.skipped,
        seconds=round(trace.seconds, 4),
        events=tuple(_event(event, graded) for event in trace.events),
        **verdict_fields(graded),
    )


def verdict_fields(graded: GradedTrace) -> dict[str, Any]:
    """What a record says of the answer of a graded trace: `answer`, `correct`, `reason`, `method`,
    `hedged` and `lenient`.
    """
    task, trace = graded.task, graded.trace
    first_role = trace.turns[0].request.role if trace.turns else ""
    replies = [turn.reply.text for turn in trace.turns if turn.request.role == first_role]
    stated, method = _stated(trace, task.problem.answer_type)
    correct = graded.correct
    return {
        "answer": trace.answer,
        "correct": correct,
        "reason": graded.decision.reason,
        "method": method,
        "hedged": stated is not None and stated.hedged and not correct,
        "lenient": correct
        or (trace.answer is None and grade_reply(["", *replies][-1], task, True).correct),
    }


def _stated(trace: Trace, answer_type: AnswerType) -> tuple[Extracted | None, str]:
    """How the last reply that states the answer of a trace does so."""
    for turn in reversed(trace.turns if trace.answer is not None else ()):
        extracted = extract(turn.reply.text, answer_type=answer_type)
        if extracted.value == trace.answer:
            return extracted, extracted.method
    return None, "program" if trace.answer is not None and trace.runs else "none"


def _event(event: Turn | Run | Note, graded: GradedTrace) -> Event:
    if isinstance(event, Note):
        return NoteEvent(
            kind=event.kind,
            text=event.text,
            correct=graded.decide(event.text).equal if event.kind in GRADED else None,
            value=None if event.value is None else round(event.value, 4),
            role=event.role,
            branch=event.branch,
        )
    if isinstance(event, Run):
        result = event.result
        return RunEvent(
            code=event.code,
            earlier=event.earlier,
            ok=result.ok,
            output=result.text,
            error_type=result.error_type,
            timed_out=result.timed_out,
            seconds=round(result.seconds, 4),
        )
    return TurnEvent(
        role=event.request.role,
        prompt=chat_messages(event.request.chat),
        reply=event.reply.text,
        program=program(event.reply.text) is not None,
        finish=event.reply.finish,
        prompt_tokens=event.reply.prompt_tokens,
        tokens=event.reply.tokens,
        seconds=round(event.reply.seconds, 4),
        prompt_hash=event.reply.prompt,
        model=event.reply.model,
        attempt=event.request.attempt,
        plays=event.request.plays,
    )


def chat_messages(chat: Chat) -> tuple[ChatMessage, ...]:
    """A chat as records keep it."""
    return tuple(
        ChatMessage(
            message.role,
            message.text,
            recorded_images([part for part in message.content if isinstance(part, Image)]),
        )
        for message in chat
    )


def recorded_images(images: Sequence[Image]) -> tuple[RecordedImage, ...]:
    return tuple(
        RecordedImage(_place(image.source), image_hash(image.source), image.blank)
        for image in images
    )


def _place(source: str) -> str:
    if source.startswith("data:"):
        return ""
    return source if source.startswith(("http://", "https://")) else os.path.abspath(source)


def lost_images(record: Record) -> bool:
    """Whether its first prompt showed images that the record of an earlier version did not keep."""
    return not record.images and any(
        message.content.startswith("[image: ") and not message.images
        for turn in record.turns[:1]
        for message in turn.prompt
    )
