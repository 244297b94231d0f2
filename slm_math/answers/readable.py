"""Whether the grader can read an answer."""

from __future__ import annotations

from slm_math.answers.choices import in_order, letters
from slm_math.answers.equivalence import MAX_ANSWER
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalize
from slm_math.answers.structures import parse
from slm_math.answers.values import Bag, Bracketed, Opaque, Relation, Value, real
from slm_math.answers.verdicts import DECISIONS
from slm_math.types import Problem


def readable(answer: str, problem: Problem) -> bool:
    """Whether an answer, correct or not, can be read as the problem's type requires.

    "mc" requires letters or the value of a choice, "num" a number, "verdict" CORRECT or INCORRECT,
    "math" mathematics or text.
    """
    if len(answer) > MAX_ANSWER:
        return False
    if problem.answer_type == "mc":
        return bool(letters(answer, in_order(problem.choices)))
    if problem.answer_type == "verdict":
        return answer in DECISIONS
    spelled = normalize(answer)
    if not spelled or deep(spelled):
        return False
    value = parse(spelled)
    if isinstance(value, Relation) and value.name:
        value = parse(value.sides[1])
    return not _opaque(value) if problem.answer_type == "math" else real(value) is not None


def _opaque(value: Value) -> bool:
    """Whether an answer or a member of it is neither mathematics nor text."""
    return isinstance(value, Opaque) or (
        isinstance(value, (Bag, Bracketed)) and any(map(_opaque, value.items))
    )
