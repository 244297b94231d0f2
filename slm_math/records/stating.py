"""Which reply of a record states its answer, if one does."""

from __future__ import annotations

from typing import cast

from slm_math.agents.replies import stated_answer
from slm_math.records.record import Record, TurnEvent
from slm_math.types import AnswerType


def final_turn(record: Record) -> TurnEvent | None:
    """The last turn of the role that spoke first, which is the one that answers."""
    own = [turn for turn in record.turns if turn.role == record.turns[0].role]
    return own[-1] if own else None


def stating_reply(record: Record) -> str | None:
    """The reply of this turn, if it states the answer of the record; None for another, such as of
    an agent whose answer is a program's or a vote's.
    """
    turn = final_turn(record)
    if turn is None:
        return None
    stated = stated_answer(turn.reply, cast(AnswerType, record.answer_type))
    return turn.reply if stated == record.answer else None
