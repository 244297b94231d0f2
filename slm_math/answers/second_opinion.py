r"""What math-verify says of an answer, as a second opinion; no verdict depends on it.

math-verify reads LaTeX with a grammar (`latex2sympy2_extended`), and plain expressions with
sympy's `parse_expr`, which evaluates text as a program. So only its LaTeX reader is used: an answer
is put into a box, as replies state it, and of a reply it sees what stands in formulas. It runs in
the algebra process (`algebra`), which may not write, use the network or start programs, and ends at
limits of steps, time and memory.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from slm_math.answers import pool
from slm_math.types import Task

LONGEST = 1000  # characters of an answer that it is asked about
LONGEST_REPLY = 50_000  # characters of a reply; of a longer one its end
SHOWN = 80  # characters of a reading


class Opinion(NamedTuple):
    """What math-verify says of a sample, twice: of the answer that was extracted here, and of the
    reply, in which it looks for the answer itself.

    `correct`, and `reply_correct` of the reply, say whether it takes it for correct (None: it has
    no opinion). `answer`, `found` (in the reply) and `gold` are what it reads, as sympy writes it.
    """

    correct: bool | None = None
    answer: str = ""
    gold: str = ""
    reply_correct: bool | None = None
    found: str = ""

    @property
    def verdicts(self) -> tuple[bool, ...]:
        """Those that it has at all."""
        return tuple(one for one in (self.correct, self.reply_correct) if one is not None)


NONE = Opinion()


def second_opinion(answer: str | None, task: Task, reply: str = "") -> Opinion:
    """What math-verify says of an answer that was extracted here, and of the reply that states it.

    In the reply it looks for boxes and for formulas after words such as "the answer is"; where no
    answer was found here, for any formula. It would take any formula for an answer by default, and
    the amounts of dollars between two signs for formulas, but prefers numbers after such words,
    which its reader of plain expressions finds.

    It has an opinion on answers of the type "math", and of "num" without a tolerance, unless it
    cannot read the answer or takes too long. An empty text means that there is no reply.
    """
    kind = task.problem.answer_type
    if not (kind == "math" or (kind == "num" and task.tolerance is None)):
        return NONE
    if len(task.gold) > LONGEST:
        return NONE
    of_answer = _asked("opinion", answer or "", task.gold) if _is_short(answer) else None
    kind = "any formula" if answer is None else "stated formula"
    of_reply = _asked(kind, reply[-LONGEST_REPLY:], task.gold) if _has_formula(reply) else None
    correct, read, gold = of_answer or (None, "", "")
    found_correct, found, gold_too = of_reply or (None, "", "")
    return Opinion(correct, read, gold or gold_too, reply_correct=found_correct, found=found)


def _is_short(answer: str | None) -> bool:
    return answer is not None and len(answer) <= LONGEST


def _has_formula(reply: str) -> bool:
    """Whether a text may have a formula in LaTeX; without one it finds nothing."""
    return "$" in reply or "\\" in reply


def _asked(kind: str, text: str, gold: str) -> tuple[bool, str, str] | None:
    """Whether a text has the reference as its answer, and both as they are read."""
    with pool.budget():
        try:
            reply = pool.query(kind, text, gold)
        except pool.BudgetSpent:
            return None
    return tuple(json.loads(unquote(reply))) if reply.startswith("%") else None


def by_math_verify(answer: str, gold: str) -> str | None:
    """Whether an answer is right and both readings, as one word, for the pipe of the algebra
    process; None if math-verify cannot read one of the two. Only the algebra process calls it.
    """
    return _verified(_boxed(answer), gold)


def stated_by_math_verify(reply: str, gold: str) -> str | None:
    """The same of a whole reply, in which math-verify finds the box or formula that is stated as
    the answer.
    """
    return _verified(reply, gold, anywhere=False)


def found_by_math_verify(reply: str, gold: str) -> str | None:
    """The same of a whole reply, in which it may take any formula."""
    return _verified(reply, gold)


def _verified(text: str, gold: str, anywhere: bool = True) -> str | None:
    from math_verify import verify

    readings = _read(text, anywhere), _read(_boxed(gold))
    if not all(readings):
        return None
    # the defaults of math-verify, but for its timers, which the process has of its own
    correct = verify(readings[1], readings[0], timeout_seconds=None)
    shown = [_shown(reading[0]) for reading in readings]
    return quote(json.dumps([bool(correct), *shown]), safe="")


def _boxed(answer: str) -> str:
    return rf"\boxed{{{answer}}}"


def _read(text: str, anywhere: bool = True) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(try_extract_without_anchor=anywhere)
    return parse(text, [config], parsing_timeout=None)  # pyright: ignore


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."
