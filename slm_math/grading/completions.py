"""From a row of saved completions, or an evaluation record, to cases to grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from slm_math.data.json_lines import RowError
from slm_math.foreign.joining import JOINED
from slm_math.foreign.paths import first_of, lookup
from slm_math.foreign.shapes import shape_named
from slm_math.foreign.texts import LINE, TEXT, text_key
from slm_math.grading.fields import FINISH, ID, SAMPLE, Fields, there
from slm_math.grading.roles import completion_field, gold_field
from slm_math.grading.row_verdicts import row_verdicts
from slm_math.grading.tasks import gold_of, task_of
from slm_math.grading.texts import sample_texts
from slm_math.records.encoding import check_schema
from slm_math.types import Task

ENDED = (*FINISH, "truncated")
TOKEN_LIMIT = ("length", "max_tokens")  # finish reasons of a completion that hit the token limit
TAGS = ("level", "subject", "type", "category")
RECORD = frozenset({"id", "sample", "problem", "gold", "answer", "correct", "reason", "events"})


class Case(NamedTuple):
    """One completion to grade, or the answer of an evaluation record, which is `extracted` already.

    `truncated`: whether the completion hit the token limit; None if the row does not say.
    `verdicts`: those that the row carries, by the name of the field or metric, and `theirs`: the
    answer that its tool extracted. `broken`: why an evaluation has no answer. `repeat`: what
    tells the rows of one problem apart, if the row says. `filter`: the filter of lm-eval that the
    row belongs to; its files hold the rows of each problem once per filter. `tags`: of the problem.
    """

    line: int
    sample: int
    id: str | int | None
    completion: str | None
    task: Task
    truncated: bool | None = None
    verdicts: tuple[tuple[str, bool], ...] = ()
    theirs: str | None = None
    extracted: bool = False
    broken: str | None = None
    repeat: str | int | None = None
    filter: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def problem(self) -> str:
        """What the samples of one problem have in common: its id, without one its text, and without
        that the line.
        """
        if self.id not in (None, ""):
            return str(self.id)
        problem = self.task.problem
        if problem.text:
            return f"{TEXT}{text_key(problem.text, problem.choices)[:16]}"
        return f"{LINE}{self.line}"


def is_record(row: Mapping[str, Any]) -> bool:
    """Whether a row is an evaluation record of this project."""
    return row.keys() >= RECORD


def cases(row: Mapping[str, Any], line: int, fields: Fields) -> list[Case]:
    """The cases of a row, one per sample.

    Raises RowError, or AmbiguousRow for a row that can be understood in two ways.
    """
    if fields.records:
        return [_record_case(row, line, fields)]
    shape = None if fields.shape is None else shape_named(fields.shape)
    if shape is None or fields.completion is not None:
        name, completion = completion_field(row, fields.completion)
    else:
        name, completion = shape.completion_of(row)
    if name == "solution" and fields.reference:
        raise RowError("no completion: the row has only 'solution', the reference of other rows")
    gold = gold_of(row, fields, name, shape)
    try:
        texts = sample_texts(completion)
    except RowError as error:
        raise RowError(f"field {name!r} {error}") from error
    task = task_of(row, gold, fields, shape)
    own = row_verdicts(row, fields.verdict, shape, len(texts))
    id = _number_or_name(row, ID if shape is None else (*shape.id, *ID))
    repeat = _number_or_name(row, SAMPLE if shape is None else (*shape.sample, *SAMPLE))
    kind = row.get("filter") if "doc_id" in row else None
    truncated = _truncated(row, name, len(texts), () if shape is None else shape.finish)
    return [
        Case(
            line=line,
            sample=sample,
            id=id,
            completion=text,
            task=task,
            truncated=truncated[sample],
            verdicts=own[sample].verdicts,
            theirs=own[sample].answer,
            repeat=repeat,
            filter=kind if isinstance(kind, str) else None,
            tags=_tags(row) if fields.recorded else (),
        )
        for sample, text in enumerate(texts)
    ]


def used_fields(row: Mapping[str, Any], fields: Fields) -> tuple[str, str]:
    """The names of the fields of the completion and of the reference. Raises RowError."""
    shape = None if fields.shape is None else shape_named(fields.shape)
    if shape is None or fields.completion is not None:
        completion, _ = completion_field(row, fields.completion)
    else:
        completion, _ = shape.completion_of(row)
    if fields.gold is None and shape is not None and shape.gold:
        return completion, first_of(row, shape.gold)[0]
    return completion, "" if JOINED in row else gold_field(row, fields.gold, completion)[0]


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
        task=task_of(row, row["gold"], fields),
        truncated=any(
            isinstance(event, dict) and event.get("finish") == "length" for event in row["events"]
        ),
        verdicts=(("correct", row["correct"]),),
        extracted=True,
        broken=error,
    )


def _number_or_name(row: Mapping[str, Any], names: tuple[str, ...]) -> str | int | None:
    for name in there(row, names):
        value = lookup(row, name)
        if isinstance(value, (str, int)):
            return value
    return None


def _tags(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What people break results down by, of the row, its problem or its metadata."""
    found = {}
    holders = (row, *(row.get(name) for name in ("doc", "metadata", JOINED)))
    for holder in holders:
        fields = holder if isinstance(holder, Mapping) else {}
        for name in TAGS:
            if isinstance(fields.get(name), str | int) and fields[name] != "":
                found.setdefault(name, str(fields[name]))
    return tuple(found.items())


def _truncated(
    row: Mapping[str, Any], path: str, samples: int, finish: tuple[str, ...] = ()
) -> list[bool | None]:
    """Whether each sample hit the token limit, from a field of the row or of an object around the
    completion, or from the paths `finish`; None if there is no such field.
    """
    _, ended = first_of(row, finish)
    reasons = ended if isinstance(ended, list) else [ended]
    if len(reasons) == samples and all(isinstance(reason, str) for reason in reasons):
        return [reason.lower() in TOKEN_LIMIT for reason in reasons]
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
