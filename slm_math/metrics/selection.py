"""Metrics of a selector: does it choose a correct candidate where there is one to choose, and what
would a majority vote over the same candidates have won?
"""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.answers import classes
from slm_math.metrics.intervals import Observations
from slm_math.metrics.verdicts import solved_problem
from slm_math.records.record import NoteEvent, Record


def selection_observations(records: Sequence[Record]) -> Observations:
    """What candidates, their majority and the selector were worth; {} without a choice in any
    record.

    A value per sample: `oracle` (a candidate is correct: pass@n of the candidates) and `majority`
    (the majority's answer is). A value per sample with a correct and an incorrect candidate:
    `selection_accuracy` (the choice is correct; no choice is not) and `selection_majority` (the
    majority's answer is). A value per sample in which the selector was asked: `selection_made` (it
    chose).
    """
    if not any(note.kind == "choice" for record in records for note in record.notes):
        return {}
    values: Observations = {"oracle": [], "majority": [], "selection_made": []}
    values |= {"selection_accuracy": [], "selection_majority": []}
    for record in records:
        candidates = [note for note in record.notes if note.kind == "candidate"]
        choice = next((note for note in record.notes if note.kind == "choice"), None)
        correct = {bool(note.correct) for note in candidates if note.text is not None}
        majority = majority_is_correct(candidates, record)
        row = {"oracle": True in correct, "majority": majority}
        if choice is not None:
            row["selection_made"] = choice.text is not None
            if len(correct) == 2:
                row["selection_accuracy"] = bool(choice.correct)
                row["selection_majority"] = majority
        for name, value in row.items():
            values[name].append((solved_problem(record), float(value)))
    return values


def majority_is_correct(candidates: Sequence[NoteEvent], record: Record) -> bool:
    """Whether the largest class of equal answers is correct; of equally large ones the first."""
    answered = [note for note in candidates if note.text is not None]
    if len({note.correct for note in answered}) < 2:
        return bool(answered) and bool(answered[0].correct)
    answers = [note.text or "" for note in answered]
    largest = max(classes(answers, record.answer_type, record.choices), key=len)
    return bool(answered[largest[0]].correct)
