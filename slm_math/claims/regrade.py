"""Grades the records of a claim again, from the texts that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slm_math.agents.coding import program, stated_answer
from slm_math.answers import UNDECIDED, grade_answer, grade_reply, pool
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
        if record.error is not None or record.skipped:
            yield f"it broke or was skipped ({record.error!r:.60}), and its reply is there"
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
        yield from _differing(record, task, ours)
        if turns[0].program != (program(reply) is not None):
            yield f"a turn says program {turns[0].program}, and its reply has another"


def _differing(record: Record, task: Task, ours: Mapping[str, Any]) -> Iterator[str]:
    for name, value in ours.items():
        stored = getattr(record, name)
        if stored != value:
            undecided = name == "reason" and {stored, value} & UNDECIDED
            if undecided and _takes_algebra(record.answer, task):
                continue  # how long a decision may take depends on the machine; the verdict counts
            yield f"{name} is {stored!r:.60}, graded again {value!r:.60}"


def _takes_algebra(answer: str | None, task: Task) -> bool:
    """Whether the algebra process compares an answer with its reference, or nothing decides it
    here. All other comparisons give the same reason on every machine.
    """
    with pool.budget():  # what the process is known to reply costs steps, too
        before = pool.steps_left(), pool.query_count()
        reason = grade_answer(answer, task).reason
        return reason in UNDECIDED or (pool.steps_left(), pool.query_count()) != before


def moved(record: Record) -> Iterator[str]:
    """What a record says otherwise than the grader does now, a line each."""
    task = task_of(record)
    graded = grade_trace(task, trace_of_record(record))
    if record.error is not None and record.answer is not None:
        yield "a workflow that broke has an answer"
    if record.skipped and record.error is None:
        yield "it is skipped, and does not say why"
    yield from _differing(record, task, verdict_fields(graded))
    for event in record.events:
        if isinstance(event, NoteEvent) and event.kind in GRADED:
            right = graded.decide(event.text).equal
            if event.correct != right:
                yield f"{event.kind} {event.text!r:.60} is {event.correct}, graded again {right}"
        elif isinstance(event, TurnEvent) and event.program != (program(event.reply) is not None):
            yield f"a turn says program {event.program}, and its reply has another"


def stands_nowhere(record: Record) -> bool:
    """Whether a record has an answer that none of its replies states, and that no program of it
    printed as a line. `method` only names a reply that states the answer, which grading again
    confirms; it is "program" wherever a program ran.
    """
    if record.answer is None or record.method not in ("none", "program"):
        return False
    lines = (line for run in record.runs if run.ok for line in run.output.splitlines())
    return not any(record.answer in (line.strip(), stated_answer(line)) for line in lines)
