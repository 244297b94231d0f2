"""From a row of saved completions, or an evaluation record, to cases to grade."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from slm_math.answers import grade_answer
from slm_math.data.golds import read_gold
from slm_math.data.json_lines import RowError
from slm_math.evaluation.plain import plain
from slm_math.grading.fields import (
    FINISH,
    GOLD,
    ID,
    MISSING,
    PROBLEM,
    SAMPLE,
    VERDICT,
    AmbiguousRow,
    Fields,
    NoField,
    find_field,
    lookup,
    there,
)
from slm_math.grading.roles import completion_field, gold_field
from slm_math.grading.texts import as_text, kind_of, sample_texts
from slm_math.records.encoding import check_schema
from slm_math.types import AnswerType, Problem, Task

_KINDS = get_args(AnswerType)
ENDED = (*FINISH, "truncated")
TOKEN_LIMIT = ("length", "max_tokens")  # finish reasons of a completion that hit the token limit
_VERDICT_TEXTS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
RECORD = frozenset({"id", "sample", "problem", "gold", "answer", "correct", "reason", "events"})


class Case(NamedTuple):
    """One completion to grade, or the answer of an evaluation record, which is `extracted` already.

    `truncated`: whether the completion hit the token limit; None if the row does not say. `stored`:
    the verdict that the row carries. `broken`: why an evaluation has no answer. `repeat`: what
    tells the rows of one problem apart, if the row says. `filter`: the filter of lm-eval that the
    row belongs to; its files hold the rows of each problem once per filter.
    """

    line: int
    sample: int
    id: str | int | None
    completion: str | None
    task: Task
    truncated: bool | None = None
    stored: bool | None = None
    extracted: bool = False
    broken: str | None = None
    repeat: str | int | None = None
    filter: str | None = None


def is_record(row: Mapping[str, Any]) -> bool:
    """Whether a row is an evaluation record of this project."""
    return row.keys() >= RECORD


def cases(row: Mapping[str, Any], line: int, fields: Fields) -> list[Case]:
    """The cases of a row, one per sample.

    Raises RowError, or AmbiguousRow for a row that can be understood in two ways.
    """
    if fields.records:
        return [_record_case(row, line, fields)]
    name, completion = completion_field(row, fields.completion)
    if name == "solution" and fields.reference:
        raise RowError("no completion: the row has only 'solution', the reference of other rows")
    gold = _gold(row, fields, name)
    try:
        texts = sample_texts(completion)
    except RowError as error:
        raise RowError(f"field {name!r} {error}") from error
    task = _task(row, gold, fields)
    stored = _verdicts(row, fields.verdict, len(texts)) if fields.stored else [None] * len(texts)
    id = _number_or_name(row, ID)
    repeat = _number_or_name(row, SAMPLE)
    kind = row.get("filter") if "doc_id" in row else None
    truncated = _truncated(row, name, len(texts))
    return [
        Case(
            line=line,
            sample=sample,
            id=id,
            completion=text,
            task=task,
            truncated=truncated[sample],
            stored=stored[sample],
            repeat=repeat,
            filter=kind if isinstance(kind, str) else None,
        )
        for sample, text in enumerate(texts)
    ]


def _record_case(row: Mapping[str, Any], line: int, fields: Fields) -> Case:
    """The case of an evaluation record: its answer is graded as it is.

    The row stays plain data, since each of its fields is checked, and a bad record is reported.
    """
    try:
        check_schema(row)
    except ValueError as error:
        raise RowError(str(error)) from error
    for key, kind in (
        ("id", str),
        ("sample", int),
        ("gold", str),
        ("correct", bool),
        ("events", list),
    ):
        if not isinstance(row.get(key), kind):
            raise RowError(
                f"field {key!r} of an evaluation record is missing or not {kind.__name__}"
            )
    answer, error = row.get("answer"), row.get("error")
    if not isinstance(answer, str | None) or not isinstance(error, str | None):
        raise RowError("field 'answer' or 'error' of an evaluation record is not text")
    return Case(
        line=line,
        sample=row["sample"],
        id=row["id"],
        completion=answer,
        task=_task(row, row["gold"], fields),
        truncated=any(
            isinstance(event, dict) and event.get("finish") == "length" for event in row["events"]
        ),
        stored=row["correct"],
        extracted=True,
        broken=error,
    )


def _number_or_name(row: Mapping[str, Any], names: tuple[str, ...]) -> str | int | None:
    for name in there(row, names):
        value = lookup(row, name)
        if isinstance(value, (str, int)):
            return value
    return None


def _gold(row: Mapping[str, Any], fields: Fields, completion: str) -> str:
    """The reference answer. Raises AmbiguousRow if the usual fields hold different ones."""
    first, value = gold_field(row, fields.gold, completion)
    kind = fields.answer_type or row.get("answer_type")
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


def _task(row: Mapping[str, Any], gold: str, fields: Fields) -> Task:
    kind = fields.answer_type or row.get("answer_type") or "math"
    if kind not in _KINDS:
        raise RowError(
            f"field 'answer_type' must be one of {', '.join(_KINDS)}, got {plain(kind, 40)}"
        )
    tolerance = fields.tolerance if fields.tolerance is not None else row.get("tolerance")
    if kind != "num":
        tolerance = None
    elif isinstance(tolerance, bool) or not isinstance(tolerance, str | int | float | None):
        raise RowError(
            f"field 'tolerance' is {kind_of(tolerance)}, not a number or a text such as 1%"
        )
    choices = _choices(row, fields.choices) if kind == "mc" else ()
    problem = _problem(row, fields.problem)
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


def _problem(row: Mapping[str, Any], name: str | None) -> str:
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


def _verdicts(row: Mapping[str, Any], name: str | None, samples: int) -> list[bool | None]:
    """The verdicts that a row carries, one per sample; None for a missing one."""
    try:
        key, value = find_field(row, name, VERDICT, "verdict")
    except NoField:
        return [None] * samples
    values = [
        _VERDICT_TEXTS.get(item.lower(), item) if isinstance(item, str) else item
        for item in (value if isinstance(value, list) else [value])
    ]
    if any(item not in (None, True, False) for item in values):
        raise RowError(f"field {key!r} (the verdict) is neither true nor false")
    if len(values) > samples:
        raise RowError(f"field {key!r} holds {len(values)} verdicts for {samples} samples")
    verdicts = [None if item is None else bool(item) for item in values]
    return verdicts + [None] * (samples - len(verdicts))


def _truncated(row: Mapping[str, Any], path: str, samples: int) -> list[bool | None]:
    """Whether each sample hit the token limit, from a field of the row or of an object around the
    completion; None if there is no such field.
    """
    holders: list[Any] = [row]
    while "." in path:
        path = path.rpartition(".")[0]
        holders.insert(-1, lookup(row, path))
    for holder in holders:
        for name in there(holder, ENDED) if isinstance(holder, dict) else ():
            if name not in holder:
                continue
            value = holder[name]
            values = value if isinstance(value, list) else [value]
            kind = bool if name == "truncated" else str
            if len(values) == samples and all(isinstance(item, kind) for item in values):
                return [
                    item if isinstance(item, bool) else str(item).lower() in TOKEN_LIMIT
                    for item in values
                ]
    return [None] * samples
