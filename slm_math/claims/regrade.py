"""Grades the records of a claim again, from the texts that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slm_math.agents.coding import program
from slm_math.answers import UNDECIDED, grade_reply
from slm_math.answers.graded import grade_trace
from slm_math.data.attempts import problem_of
from slm_math.records.record import (
    GRADED,
    Event,
    NoteEvent,
    Record,
    RunEvent,
    TurnEvent,
    verdict_fields,
)
from slm_math.types import (
    Generate,
    Image,
    Message,
    Note,
    Reply,
    Run,
    RunResult,
    Task,
    Text,
    Trace,
    Turn,
)


@dataclass(frozen=True)
class RecordedResult(RunResult):
    """The result of a program as a record keeps it: `shown` is what a model saw."""

    shown: str = ""

    @property
    def text(self) -> str:
        return self.shown


def task_of(record: Record) -> Task:
    """The task of a record, whose images are names: no file is opened."""
    return Task(problem_of(record), record.gold, tolerance=record.tolerance)


def trace_of_record(record: Record) -> Trace:
    """The trace of a record, as far as the record has it."""
    return Trace(
        problem_of(record),
        record.sample,
        events=tuple(map(_event, record.events)),
        answer=record.answer,
        error=record.error,
        seconds=record.seconds,
        skipped=record.skipped,
    )


def _event(event: Event) -> Turn | Run | Note:
    if isinstance(event, NoteEvent):
        note: Note = Note(
            kind=event.kind,  # pyright: ignore[reportArgumentType]
            text=event.text,
            value=event.value,
            role=event.role,
            branch=event.branch,
        )
        return note
    if isinstance(event, RunEvent):
        return Run(event.code, result_of(event), event.earlier)
    chat = tuple(
        Message(
            message.role,  # pyright: ignore[reportArgumentType]
            (*(Image(each.source, each.blank) for each in message.images), Text(message.content)),
        )
        for message in event.prompt
    )
    request = Generate(chat, role=event.role, attempt=event.attempt, plays=event.plays)
    return Turn(request, reply_of(event))


def reply_of(event: TurnEvent) -> Reply:
    return Reply(
        event.reply,
        finish=event.finish,  # pyright: ignore[reportArgumentType]
        seconds=event.seconds,
        counted=event.tokens,
        asked=event.prompt_tokens,
        prompt=event.prompt_hash,
        model=event.model,
    )


def result_of(event: RunEvent, lines_of_value: int = 0, out_of_memory: bool = False) -> RunResult:
    """The result of a program, of which a record keeps output and value as one text: its last
    `lines_of_value` lines count as the value.
    """
    lines = event.output.split("\n")
    cut = len(lines) - lines_of_value if event.ok else len(lines)
    return RecordedResult(
        ok=event.ok,
        stdout="\n".join(lines[:cut]) if event.ok else "",
        value="\n".join(lines[cut:]),
        error="" if event.ok else event.output,
        timed_out=event.timed_out,
        output_overflow=event.error_type == "OutputError",
        out_of_memory=out_of_memory,
        error_type=event.error_type,
        seconds=event.seconds,
        shown=event.output,
    )


@dataclass(frozen=True)
class SavedCompletions:
    """Completions that another tool saved: no agent runs again, and each answer has to be the one
    that its only reply states. `last_number` is whether the last number counted as one.
    """

    last_number: bool

    def moved(self, record: Record) -> Iterator[str]:
        """What a record says otherwise than the grader does now, a line each."""
        turns = record.turns
        if len(turns) != 1 or len(record.events) != 1:
            yield f"it has {len(record.events)} events, and a saved completion is one reply"
            return
        task, reply = task_of(record), turns[0].reply
        graded = grade_reply(reply, task, self.last_number)
        more = graded.answer is None and not self.last_number
        ours = {
            "answer": graded.answer,
            "correct": graded.correct,
            "reason": graded.reason,
            "method": graded.method,
            "hedged": graded.reason == "hedged",
            "lenient": graded.correct or (more and grade_reply(reply, task, True).correct),
        }
        yield from _differing(record, ours)
        if turns[0].program != (program(reply) is not None):
            yield f"a turn says program {turns[0].program}, and its reply has another"


def _differing(record: Record, ours: Mapping[str, Any]) -> Iterator[str]:
    for name, value in ours.items():
        stored = getattr(record, name)
        if stored != value:
            if name == "reason" and {stored, value} & set(UNDECIDED):
                continue  # how long a decision may take depends on the machine; the verdict counts
            yield f"{name} is {stored!r:.60}, graded again {value!r:.60}"


def moved(record: Record) -> Iterator[str]:
    """What a record says otherwise than the grader does now, a line each."""
    graded = grade_trace(task_of(record), trace_of_record(record))
    yield from _differing(record, verdict_fields(graded))
    for event in record.events:
        if isinstance(event, NoteEvent) and event.kind in GRADED:
            right = graded.decide(event.text).equal
            if event.correct != right:
                yield f"{event.kind} {event.text!r:.60} is {event.correct}, graded again {right}"
        elif isinstance(event, TurnEvent) and event.program != (program(event.reply) is not None):
            yield f"a turn says program {event.program}, and its reply has another"
