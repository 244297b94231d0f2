"""Metrics of a selector: does it choose a correct candidate where there is one to choose, and what
would a majority vote over the same candidates have won?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slm_math.answers import classes
from slm_math.records.record import NoteEvent, Record


class Selection(NamedTuple):
    """Of a sample with candidates. `oracle`: one is correct. `majority`: that of the candidates is,
    None if nobody found out. `mixed`: some are correct, and some are not. `asked`: the selector
    was, and `chose` a candidate, which is `right`.
    """

    oracle: bool = False
    majority: bool | None = False
    mixed: bool = False
    asked: bool = False
    chose: bool = False
    right: bool = False


def selection(record: Record, always: bool = False) -> Selection:
    """What candidates, their majority and the selector were worth. To find the majority of answers
    of which some are correct takes a while: without a choice only if `always`.
    """
    candidates = [note for note in record.notes if note.kind == "candidate"]
    choice = next((note for note in record.notes if note.kind == "choice"), None)
    correct = {bool(note.correct) for note in candidates if note.text is not None}
    known = always or choice is not None or len(correct) < 2
    return Selection(
        oracle=True in correct,
        majority=majority_is_correct(candidates, record) if known else None,
        mixed=len(correct) == 2,
        asked=choice is not None,
        chose=choice is not None and choice.text is not None,
        right=choice is not None and bool(choice.correct),
    )


def majority_is_correct(candidates: Sequence[NoteEvent], record: Record) -> bool:
    """Whether the largest class of equal answers is correct; of equally large ones the first."""
    answered = [note for note in candidates if note.text is not None]
    if len({note.correct for note in answered}) < 2:
        return bool(answered) and bool(answered[0].correct)
    answers = [note.text or "" for note in answered]
    largest = max(classes(answers, record.answer_type, record.choices), key=len)
    return bool(answered[largest[0]].correct)
