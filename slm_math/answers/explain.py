"""How a verdict came about, step by step, for people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from slm_math.answers import pool
from slm_math.answers.equivalence import MAX_ANSWER, UNDECIDED
from slm_math.answers.expressions import spell
from slm_math.answers.extract import METHODS, extract
from slm_math.answers.grade import grade
from slm_math.answers.latex import normalise
from slm_math.answers.spoken import spoken
from slm_math.answers.structures import parse
from slm_math.answers.values import Bag, Based, Matrix, Opaque, Relation, Row, Scalar, Value, Words
from slm_math.types import AnswerType

Step = tuple[str, str]
_MEANING = {
    "equal": "the answer says what the reference says",
    "different": "the answer says something else",
    "no answer": "none is stated where an answer counts",
    "hedged": "one of several alternatives does not answer",
    "unevaluated": "arithmetic that the reference has carried out is left undone",
    "copied": "it stands in the problem, with an operation that the reference has carried out",
    "other unit": "both name a unit, and not the same one",
    "empty": "there is nothing to compare",
    "too complex": "too long, too deep or too large to be compared",
    "timeout": "the algebra process ran out of time",
    "died": "the algebra process broke off",
    "unread": "not even the algebra process can read it",
}
_SHOWN = 160


def explain(
    completion: str,
    gold: str,
    problem: str | None = None,
    answer_type: AnswerType = "math",
    choices: Sequence[str] | None = None,
    tolerance: float | str | None = None,
    last_number: bool = False,
) -> list[Step]:
    """The steps of `grade` for one case, as (step, what happened). The arguments are those of
    `grade`.
    """
    start, end = spoken(completion)
    steps = [("reads", _reads(completion, start, end))]
    for find in METHODS if last_number else METHODS[:-1]:
        found = find(completion, start, end)
        if found.value is not None:
            step = "finds" if len(steps) == 1 else "passes over"
            steps.append((step, f"{found.method}: {_short(found.value)} at {_span(found.span)}"))
    found = extract(completion, last_number)
    steps.append(
        ("takes", "nothing: no answer is stated" if found.value is None else _short(found.value))
    )
    if found.hedged:
        steps.append(
            ("hedged", "several alternatives are offered: wrong unless the reference has them, too")
        )
    for name, text, is_gold in (("answer", found.value, False), ("reference", gold, True)):
        if text is not None and len(text) <= MAX_ANSWER:
            spelled = normalise(text)
            steps.append((f"{name} spelled", _short(spelled)))
            steps.append(
                (
                    f"{name} read as",
                    "an option" if answer_type == "mc" else _short(described(spelled, is_gold)),
                )
            )
    asked, began = pool.asked(), time.perf_counter()
    verdict = grade(
        completion, gold, problem, answer_type, choices, tolerance, last_number=last_number
    )
    seconds = time.perf_counter() - began
    questions = pool.asked() - asked
    steps.append(
        (
            "compared",
            f"by the algebra process ({questions} questions)"
            if questions
            else "exactly, in process",
        )
    )
    outcome = (
        "right"
        if verdict.correct
        else "undecided, so not right"
        if verdict.reason in UNDECIDED
        else "wrong"
    )
    steps.append(("verdict", f"{outcome}: {verdict.reason}; {_MEANING[verdict.reason]}"))
    steps.append(("cost", f"{1000 * seconds:.1f} ms, grader {verdict.grader_version}"))
    return steps


def described(spelled: str, gold: bool = False) -> str:
    """The structure that the grader sees in a normalised answer, in words."""
    try:
        return _describe(parse(spelled, gold))
    except RecursionError:
        return "too deep to be read"


def _describe(value: Value) -> str:
    match value:
        case Scalar():
            kind = (
                "expression in " + ", ".join(sorted(value.tree.names))
                if value.tree.names
                else "number"
            )
            marks = " ".join(filter(None, ["percent" if value.percent else "", value.unit]))
            return f"{kind} {spell(value.tree)}" + (f" [{marks}]" if marks else "")
        case Words():
            return f"text {value.text!r}"
        case Based():
            return f"digits {value.digits} in base {value.base}"
        case Bag():
            return f"{value.kind} of {len(value.items)}: " + "; ".join(
                _describe(item) for item in value.items
            )
        case Row():
            bound = f" for {value.variable}" if value.variable else ""
            inside = "; ".join(_describe(item) for item in value.items)
            return f"ordered, {value.opening} {inside} {value.closing}{bound}"
        case Matrix():
            return f"matrix of {len(value.rows)} rows: " + " | ".join(
                "; ".join(map(_describe, r)) for r in value.rows
            )
        case Relation():
            named = f"assignment to {value.name}" if value.name else "relation"
            return f"{named}: {f' {value.operators[0]} '.join(value.sides)}"
        case Opaque():
            return "not readable in process: for the algebra process"


def _reads(text: str, start: int, end: int) -> str:
    parts = []
    if start:
        parts.append(f"skips {start} characters of thinking")
    if end < len(text):
        parts.append(f"stops at character {end}, before {_short(text[end : end + 40])}")
    return "; ".join(parts) or f"all {len(text)} characters"


def _span(span: tuple[int, int] | None) -> str:
    return f"{span[0]}-{span[1]}" if span else "-"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
