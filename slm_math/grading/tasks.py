"""What a saved completion is graded against: the reference answer and the rules of its row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_args

from slm_math.answers import grade_answer
from slm_math.data.golds import read_gold
from slm_math.data.json_lines import RowError
from slm_math.evaluation.plain import plain
from slm_math.foreign.joining import JOINED
from slm_math.foreign.paths import MISSING, first_of, lookup
from slm_math.foreign.shapes import Shape
from slm_math.foreign.texts import problem_text
from slm_math.grading.fields import GOLD, PROBLEM, AmbiguousRow, Fields, NoField, there
from slm_math.grading.roles import gold_field
from slm_math.grading.texts import as_text, kind_of
from slm_math.types import AnswerType, Problem, Task

_KINDS = get_args(AnswerType)


def gold_of(
    row: Mapping[str, Any], fields: Fields, completion: str, shape: Shape | None = None
) -> str:
    """The reference answer: the one that was joined to the row, that of its shape, or that in a
    usual field. Raises AmbiguousRow if the usual fields hold different ones.
    """
    kind = fields.answer_type or row.get("answer_type")
    joined = row.get(JOINED)
    if fields.gold is None and isinstance(joined, dict):
        return _gold_text("gold", joined["gold"], kind or joined.get("answer_type"))
    if fields.gold is None and shape is not None and shape.gold:
        name, value = first_of(row, shape.gold)
        if not name:
            raise NoField("gold", f"no gold: the row of {shape.name} has no {shape.gold[0]!r}")
        return _gold_text(name, value, kind)
    first, value = gold_field(row, fields.gold, completion)
    gold = _gold_text(first, value, kind)
    for other in () if fields.gold else there(row, GOLD):
        another = lookup(row, other)
        if other in (first, completion, "solution") or another is None or another is MISSING:
            continue
        try:
            second = _gold_text(other, another, kind)
        except RowError:
            continue
        if second != gold and not grade_answer(second, Task(Problem("", ""), gold)).equal:
            raise AmbiguousRow(
                f"fields {first!r} ({plain(gold, 40)}) and {other!r} ({plain(second, 40)}) differ: "
                f"say which is the reference with --gold {first} or --gold {other}"
            )
    return gold


def _gold_text(name: str, value: Any, kind: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = as_text(value)
    if text is None:
        raise RowError(f"field {name!r} (the gold) is {kind_of(value)}, not text or a number")
    try:
        return _read_gold(text, kind if kind in _KINDS else "math")
    except ValueError as error:
        raise RowError(f"field {name!r} (the gold) {error}") from error


@lru_cache(maxsize=1024)  # the samples of a problem have the same one
def _read_gold(text: str, kind: AnswerType) -> str:
    return read_gold(text, Problem("", "", kind))


def task_of(row: Mapping[str, Any], gold: str, fields: Fields, shape: Shape | None = None) -> Task:
    rules = row | row[JOINED] if isinstance(row.get(JOINED), dict) else row
    chosen_from = None if shape is None else first_of(row, shape.choices)[1]
    kind = fields.answer_type or rules.get("answer_type") or ("mc" if chosen_from else "math")
    if kind not in _KINDS:
        raise RowError(
            f"field 'answer_type' must be one of {', '.join(_KINDS)}, got {plain(kind, 40)}"
        )
    tolerance = fields.tolerance if fields.tolerance is not None else rules.get("tolerance")
    if kind != "num":
        tolerance = None
    elif isinstance(tolerance, bool) or not isinstance(tolerance, str | int | float | None):
        raise RowError(
            f"field 'tolerance' is {kind_of(tolerance)}, not a number or a text such as 1%"
        )
    choices = _choices(rules, fields.choices) if kind == "mc" else ()
    problem = _problem(row, fields.problem, shape)
    return _new_task(problem, kind, choices=choices, gold=gold, tolerance=tolerance)


@lru_cache(maxsize=64, typed=True)  # the samples of a problem are often neighbors
def _new_task(
    problem: str,
    kind: AnswerType,
    choices: tuple[str, ...],
    gold: str,
    tolerance: float | str | None,
) -> Task:
    return Task(Problem("", problem, kind, choices), gold, tolerance=tolerance)


def _problem(row: Mapping[str, Any], name: str | None, shape: Shape | None) -> str:
    if name is None and shape is not None:
        text = problem_text(first_of(row, shape.problem)[1])
        joined = row.get(JOINED)
        return joined["problem"] if isinstance(joined, dict) and joined["problem"] else text
    for path in (name,) if name else there(row, PROBLEM):
        value = lookup(row, path)
        if isinstance(value, str):
            return value
        if name:
            problem = "is missing" if value is MISSING else "is not text"
            raise RowError(f"field {name!r} (the problem) {problem}")
    return ""


def _choices(row: Mapping[str, Any], name: str | None) -> tuple[str, ...]:
    value = lookup(row, name or "choices")
    if name is None and (value is MISSING or value is None):
        return ()
    texts = [as_text(item) for item in value] if isinstance(value, list) else [None]
    if None in texts:
        raise RowError(f"field {name or 'choices'!r} must be a list of texts, the choices in order")
    return tuple(text for text in texts if text is not None)
