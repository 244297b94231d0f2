"""Runs the agents of a claim again on the replies that its records hold: what they ask, note and
answer has to be what was recorded.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slm_math import agents
from slm_math.agents import Agent, FewShot
from slm_math.agents.base import MOST_EVENTS
from slm_math.claims.regrade import reply_of, result_of, task_of
from slm_math.evaluation.identity import describe
from slm_math.prompts import Prompt
from slm_math.records.record import ChatMessage, Event, NoteEvent, Record, RunEvent, TurnEvent
from slm_math.types import Chat, Effect, Generate, Image, Note, RunPython, RunResult

SPLITS = 64  # ways to tell output and value of programs apart that are tried
_AGENTS = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in vars(agents).values()
    if isinstance(kind, type) and issubclass(kind, Agent) and kind is not Agent
}


class Differs(Exception):
    """What an agent does otherwise than a record says."""


@dataclass(frozen=True)
class Replayed:
    """An agent of slm-math, made again of what a manifest says about it.

    `shown` is how many messages of worked examples stand before each chat of its solver; a manifest
    has only their hash, so that their texts are not compared.
    """

    agent: Agent
    shown: int = 0

    def difference(self, record: Record) -> str | None:
        """How a record differs from what the agent does with its replies; None if it does not."""
        try:
            self.results_of_programs(record)
        except Differs as error:
            return str(error)
        return None

    def results_of_programs(self, record: Record) -> list[RunResult]:
        """The results of the programs of a record, with which the agent does what was recorded.
        Raises Differs if it does otherwise with all that they may have been.
        """
        first: Differs | None = None
        for lines in itertools.islice(_splits(record), SPLITS):
            try:
                self._replay(record, lines)
            except Differs as error:
                first = first or error
            else:
                return [result_of(run, *split) for run, split in zip(record.runs, lines)]
        assert first is not None
        raise first

    def _replay(self, record: Record, lines: Sequence[tuple[int, bool]]) -> None:
        left, programs = deque(record.events), iter(lines)
        workflow = self.agent.solve(task_of(record).problem)
        results: list[Any] | None = None
        try:
            while True:
                effects = next(workflow) if results is None else workflow.send(results)
                if record.error is not None and len(left) < len(effects):
                    self._check_break(effects, left, record)
                    return
                results = []
                for effect in effects:
                    event = left.popleft() if left else None
                    self._check(effect, event)
                    results.append(_result(event, programs))
        except StopIteration as end:
            self._check_end(record, end.value, left)
        except Differs:
            raise
        except Exception as error:
            raise Differs(f"the agent cannot go on ({type(error).__name__}: {error})") from error
        finally:
            workflow.close()

    def _check_break(self, effects: Sequence[Effect], left: deque[Event], record: Record) -> None:
        """Raises Differs unless a workflow can have broken at these effects, of which the `left`
        events are those that were answered. Only engines break a workflow; one that was skipped
        had no reply before.
        """
        answered = len(left)
        for effect in effects:
            try:
                self._check(effect, left[0] if left else None)
                left.popleft()
            except Differs:
                if not isinstance(effect, Generate):
                    raise
        if left:
            raise Differs("the record of a workflow that broke has events that its agent has not")
        before = record.events[: len(record.events) - answered]
        if record.skipped and any(isinstance(event, TurnEvent) for event in before):
            raise Differs("the record says that the problem was skipped, and its agent has replies")

    def _check_end(self, record: Record, answer: str | None, left: deque[Event]) -> None:
        """Raises Differs unless a workflow ends as the record says."""
        if left:
            raise Differs("the agent ends before its last event")
        if record.error is not None:
            raise Differs(
                f"the recorded replies lead the agent to its end, with the answer {answer!r:.60}, "
                f"and the record says that the workflow broke ({record.error!r:.60})"
            )
        if answer != record.answer:
            raise Differs(f"the agent answers {answer!r:.60}, not {record.answer!r:.60}")

    def _check(self, effect: Effect, event: Event | None) -> None:
        """Raises Differs unless an event is that of an effect."""
        if isinstance(effect, Note) and isinstance(event, NoteEvent):
            value = None if effect.value is None else round(effect.value, 4)
            if (effect.kind, effect.text, value, effect.role, effect.branch) == (
                event.kind,
                event.text,
                event.value,
                event.role,
                event.branch,
            ):
                return
            raise Differs(f"the agent notes {effect.kind} {effect.text!r:.60}, not {event!r:.80}")
        if isinstance(effect, RunPython) and isinstance(event, RunEvent):
            if (effect.code, effect.earlier) == (event.code, event.earlier):
                return
            raise Differs("the agent runs another program than the recorded one")
        if isinstance(effect, Generate) and isinstance(event, TurnEvent):
            examples = self.shown if effect.role == self.agent.roles[0] else 0
            if effect.role == event.role and messages_of(effect.chat) == recorded_messages(
                event.prompt[examples:]
            ):
                return
            raise Differs(f"the agent asks {effect.role} with another prompt than the recorded one")
        is_there = "nothing" if event is None else type(event).__name__
        raise Differs(f"the agent wants {type(effect).__name__}, and the record has {is_there}")


def _result(event: Event | None, programs: Iterator[tuple[int, bool]]) -> Any:
    if isinstance(event, TurnEvent):
        return reply_of(event)
    if isinstance(event, RunEvent):
        lines, killed = next(programs)
        return result_of(event, lines, killed)
    return None


def _splits(record: Record) -> Iterator[tuple[tuple[int, bool], ...]]:
    """For every program, how many last lines of its output are the value of its last expression,
    and whether a MemoryError was the end of its process: records do not say, so all ways are tried.
    """
    return itertools.product(*map(_ways, record.runs))


def _ways(run: RunEvent) -> list[tuple[int, bool]]:
    if run.ok:
        return [(0, False), (1, False)] if run.output else [(0, False)]
    return [(0, False), (0, True)] if run.error_type == "MemoryError" else [(0, False)]


def messages_of(chat: Chat) -> list[tuple[str, str, int]]:
    """Role, text and number of images of each message of a chat."""
    return [
        (
            message.role,
            message.text,
            sum(isinstance(part, Image) for part in message.content),
        )
        for message in chat
    ]


def recorded_messages(prompt: Sequence[ChatMessage]) -> list[tuple[str, str, int]]:
    """The same of a recorded prompt."""
    return [(message.role, message.content, len(message.images)) for message in prompt]


def replayed(description: Mapping[str, Any]) -> Replayed | str:
    """The agent that a manifest describes; or why it cannot be run again: it is no agent of
    slm-math, its prompts are files or were changed since, or its settings cannot be read.
    """
    name = description.get("class")
    if _AGENTS.get(str(name)) is FewShot:
        inner, examples = description.get("agent"), description.get("examples")
        if not isinstance(inner, Mapping) or not isinstance(examples, Mapping):
            return "its worked examples are not described"
        found = replayed(inner)
        count = examples.get("count")
        if isinstance(found, str) or not isinstance(count, int):
            return found if isinstance(found, str) else "its worked examples are not counted"
        return Replayed(found.agent, found.shown + 2 * count)
    try:
        agent = _agent(description)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return str(error)
    ours = describe(agent)
    changed = [key for key, value in ours.items() if description.get(key) != value]
    changed = [key for key in changed if key != "code" and not _code_only(ours, description, key)]
    return f"its {', '.join(changed)} differ here" if changed else Replayed(agent)


def _code_only(ours: Mapping[str, Any], theirs: Mapping[str, Any], key: str) -> bool:
    """Whether agents inside an agent differ in nothing but their code."""
    one, other = ours[key], theirs.get(key)
    return (
        isinstance(one, dict)
        and isinstance(other, dict)
        and "class" in one
        and all(
            other.get(name) == value or name == "code" or _code_only(one, other, name)
            for name, value in one.items()
        )
    )


def _agent(description: Mapping[str, Any]) -> Agent:
    """An agent of slm-math with the described settings. Only classes of this list are made."""
    kind = _AGENTS.get(str(description.get("class")))
    if kind is None:
        raise ValueError(f"{description.get('class')!s:.80} is no agent of slm-math")
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        if not field.init or field.name.startswith("_") or field.name not in description:
            continue
        value = description[field.name]
        if isinstance(value, dict) and "class" in value:
            value = _agent(value)
        elif isinstance(value, dict):
            raise ValueError(f"its setting {field.name} cannot be read")
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, int | float) and not -MOST_EVENTS <= value <= MOST_EVENTS:
            raise ValueError(f"its {field.name} is {value!r:.40}")
        elif isinstance(value, str) and field.name.endswith("prompt"):
            if not value.replace("_", "").isalnum():
                raise ValueError(f"its {field.name} is a file, which the claim does not hold")
            default = field.default
            slots = default.slots if isinstance(default, Prompt) else ("problem",)
            value = Prompt(value, slots)
        settings[field.name] = value
    return kind(**settings)
