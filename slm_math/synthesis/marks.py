"""Which replies of an attempt are wrong, so that they are context and nothing to imitate."""

from __future__ import annotations

from slm_math.agents.replies import stated_answer
from slm_math.answers.verdicts import verdict
from slm_math.data.conversations import turns_of_runs
from slm_math.records.record import GRADED, NoteEvent, Record, TurnEvent


def wrong_replies(record: Record) -> set[int]:
    """The `id` of every turn whose program failed, that stated a wrong draft or candidate or none,
    or whose verdict the grader does not agree with.
    """
    wrong = {id(turn) for turn, run in turns_of_runs(record) if turn is not None and not run.ok}
    turns: list[TurnEvent] = []
    right: bool | None = None  # whether the last draft is
    for event in record.events:
        if isinstance(event, TurnEvent):
            turns.append(event)
        elif isinstance(event, NoteEvent) and event.kind in GRADED and event.kind != "choice":
            right = bool(event.correct)
            turn = _author(turns, event, record)
            if turn is not None and not right:
                wrong.add(id(turn))
        elif isinstance(event, NoteEvent) and event.kind == "verdict" and not event.branch:
            judged = _judge(turns, event)
            agrees = right is None or event.text == ("CORRECT" if right else "INCORRECT")
            if judged is not None and not agrees:
                wrong.add(id(judged))
    return wrong


def _author(turns: list[TurnEvent], note: NoteEvent, record: Record) -> TurnEvent | None:
    """The reply whose answer a note is about: the last one that states it, else the last one of the
    role that writes drafts (its program computed the answer).
    """
    own = [turn for turn in turns if turn.role == record.turns[0].role]
    stating = [turn for turn in own if stated_answer(turn.reply, record.answer_type) == note.text]
    return (stating or own or [None])[-1]


def _judge(turns: list[TurnEvent], note: NoteEvent) -> TurnEvent | None:
    """The reply that gave a verdict."""
    own = [turn for turn in turns if turn.role == note.role]
    saying = [turn for turn in own if verdict(turn.reply) == note.text]
    return (saying or own or [None])[-1]
