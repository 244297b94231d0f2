r"""What math-verify says of an answer, as a second opinion; no verdict depends on it.

math-verify reads LaTeX with a grammar (`latex2sympy2_extended`), and plain expressions with
sympy's `parse_expr`, which evaluates text as a program. So only its LaTeX reader is used: an answer
is put into a box, as replies state it. It runs in the algebra process (`algebra`), which may not
write, use the network or start programs, and ends at limits of steps, time and memory.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from slm_math.answers import pool
from slm_math.types import Task

LONGEST = 1000  # characters of an answer that it is asked about
SHOWN = 80  # characters of a reading


class Opinion(NamedTuple):
    """Whether math-verify takes an answer for correct (None: it has no opinion), and what it reads:
    the answer and the reference as sympy writes them.
    """

    correct: bool | None
    answer: str = ""
    gold: str = ""


NONE = Opinion(None)


def second_opinion(answer: str | None, task: Task) -> Opinion:
    """What math-verify says of an answer that was extracted already.

    It has an opinion on answers of the type "math", or "num" without a tolerance; on none that it
    cannot read, or that takes it too long.
    """
    kind = task.problem.answer_type
    if answer is None or not (kind == "math" or (kind == "num" and task.tolerance is None)):
        return NONE
    if max(len(answer), len(task.gold)) > LONGEST:
        return NONE
    with pool.budget():
        try:
            text = pool.query("opinion", answer, task.gold)
        except pool.BudgetSpent:
            return NONE
    if not text.startswith("%"):
        return NONE
    return Opinion(*json.loads(unquote(text)))


def by_math_verify(answer: str, gold: str) -> str | None:
    """An `Opinion` as one word, for the pipe of the algebra process; None if math-verify cannot
    read one of the two. Only the algebra process calls it.
    """
    from math_verify import verify

    readings = _read(answer), _read(gold)
    if not all(readings):
        return None
    # the defaults of math-verify, but for its timers, which the process has of its own
    correct = verify(readings[1], readings[0], timeout_seconds=None)
    shown = [_shown(reading[0]) for reading in readings]
    return quote(json.dumps([bool(correct), *shown]), safe="")


def _read(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    return parse(rf"\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None)  # pyright: ignore


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."
