"""Records of traces that may have no reference answer."""

from __future__ import annotations

from dataclasses import replace

from slm_math.answers.decisions import Decision
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.records.record import NoteEvent, Record, record
from slm_math.types import Task, Trace


def record_of(trace: Trace, gold: str = "") -> Record:
    """The record of a trace, as an evaluation writes it. Without a reference answer it has no
    verdicts.
    """
    task = Task(trace.problem, gold)
    if gold:
        return record(grade_trace(task, trace))
    answers = {trace.answer, *(note.text for note in trace.notes)}
    open = Decision(False, "no gold")
    made = record(GradedTrace(task, trace, open, dict.fromkeys(answers, open)))
    events = tuple(
        replace(event, correct=None) if isinstance(event, NoteEvent) else event
        for event in made.events
    )
    return replace(made, events=events, has_verdict=False, lenient=False)
