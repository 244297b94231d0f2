"""Explain a verdict step by step, for people."""

from __future__ import annotations

import time

from slm_math.answers import pool, values
from slm_math.answers.choices import Choices
from slm_math.answers.equivalence import MAX_ANSWER
from slm_math.answers.expressions import spell
from slm_math.answers.extract import METHODS, extract
from slm_math.answers.grade import grade
from slm_math.answers.hard import UNDECIDED
from slm_math.answers.latex import normalize
from slm_math.answers.spoken import spoken
from slm_math.answers.structures import parse
from slm_math.types import AnswerType

Step = tuple[str, str]
_MEANING = {
    "equal": "the answer is equivalent to the reference",
    "different": "the answer is not equivalent to the reference",
    "no answer": "the reply states no final answer",
    "hedged": "the reply offers several alternatives",
    "unevaluated": "the answer leaves arithmetic undone that the reference has carried out",
    "copied": "the answer copies an operation from the problem that the reference has carried out",
    "other unit": "answer and reference name different units",
    "empty": "the answer or the reference is empty",
    "too complex": "the answer or the reference is too long, too deep or too large to compare",
    "timeout": "the algebra process ran out of time",
    "died": "the algebra process ended before it replied",
    "unread": "the algebra process cannot read the answer or the reference",
}
_SHOWN = 160


def explain(
    completion: str,
    gold: str,
    problem: str | None = None,
    answer_type: AnswerType = "math",
    choices: Choices = None,
    tolerance: float | str | None = None,
    last_number: bool = False,
) -> list[Step]:
    """The steps of `grade` for one reply, as (step, what happened).

    The arguments are those of `grade`.
    """
    steps = _extraction(completion, last_number, answer_type)
    extracted = extract(completion, last_number, answer_type)
    for name, text, is_gold in (("answer", extracted.value, False), ("reference", gold, True)):
        if text is not None and len(text) <= MAX_ANSWER:
            spelled = normalize(text)
            structure = "an option" if answer_type == "mc" else _short(described(spelled, is_gold))
            steps.append((f"{name} spelled", _short(spelled)))
            steps.append((f"{name} read as", structure))
    queries_before, began = pool.query_count(), time.perf_counter()
    verdict = grade(
        completion=completion,
        gold=gold,
        problem=problem,
        answer_type=answer_type,
        choices=choices,
        tolerance=tolerance,
        last_number=last_number,
    )
    seconds = time.perf_counter() - began
    queries = pool.query_count() - queries_before
    by_algebra = f"by the algebra process ({queries} questions)"
    steps.append(("compared", by_algebra if queries else "exactly, in process"))
    outcome = "right" if verdict.correct else "wrong"
    if verdict.reason in UNDECIDED:
        outcome = "undecided, so not right"
    steps.append(("verdict", f"{outcome}: {verdict.reason}; {_MEANING[verdict.reason]}"))
    steps.append(("cost", f"{1000 * seconds:.1f} ms, grader {verdict.grader_version}"))
    return steps


def _extraction(completion: str, last_number: bool, answer_type: AnswerType) -> list[Step]:
    """The part of the reply that is searched, what each method finds there, and the answer."""
    start, end = spoken(completion)
    steps = [("reads", _reads(completion, start, end))]
    for find in METHODS if last_number else METHODS[:-1]:
        match = find(completion, start, end)
        if match.value is not None:
            step = "finds" if len(steps) == 1 else "passes over"
            steps.append((step, f"{match.method}: {_short(match.value)} at {_span(match.span)}"))
    answer = extract(completion, last_number, answer_type)
    taken = "nothing: no answer is stated" if answer.value is None else _short(answer.value)
    steps.append(("takes", taken))
    if answer.hedged:
        steps.append(
            ("hedged", "several alternatives are offered: wrong unless the reference has them, too")
        )
    return steps


def described(spelled: str, gold: bool = False) -> str:
    """The structure that the grader reads in a normalized answer, in words."""
    try:
        return _describe(parse(spelled, gold))
    except RecursionError:
        return "too deep to be read"


def _describe(value: values.Value) -> str:
    match value:
        case values.Scalar():
            names = ", ".join(sorted(value.tree.names))
            kind = f"expression in {names}" if names else "number"
            marks = " ".join(filter(None, ["percent" if value.percent else "", value.unit]))
            return f"{kind} {spell(value.tree)}" + (f" [{marks}]" if marks else "")
        case values.Words():
            return f"text {value.text!r}"
        case values.Based():
            return f"digits {value.digits} in base {value.base}"
        case values.Bag():
            return f"{value.kind} of {len(value.items)}: " + "; ".join(
                _describe(item) for item in value.items
            )
        case values.Bracketed():
            bound = f" for {value.variable}" if value.variable else ""
            inside = "; ".join(_describe(item) for item in value.items)
            return f"ordered, {value.opening} {inside} {value.closing}{bound}"
        case values.Matrix():
            return f"matrix of {len(value.rows)} rows: " + " | ".join(
                "; ".join(map(_describe, row)) for row in value.rows
            )
        case values.Relation():
            named = f"assignment to {value.name}" if value.name else "relation"
            return f"{named}: {f' {value.operators[0]} '.join(value.sides)}"
        case values.Opaque():
            return "not readable in process: left to the algebra process"


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
