"""What a row of saved completions says: fields by name or dotted path, chats, several samples,
evaluation records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, get_args

from slm_math.answers import extract, gold_answer, judge
from slm_math.evaluation.plain import plain
from slm_math.grading.jsonl import RowError
from slm_math.types import AnswerType, Problem, Task

COMPLETION = (
    "completion",
    "response",
    "output",
    "prediction",
    "solution",
    "messages",
    "conversation",
)
GOLD = ("answer", "gold", "ground_truth")
PROBLEM = ("problem", "question", "prompt")
VERDICT = ("correct", "is_correct")
FINISH = ("finish_reason", "finish", "stop_reason")
CUT = ("length", "max_tokens")
RECORD = frozenset({"id", "sample", "problem", "gold", "answer", "correct", "reason", "events"})
MISSING = object()


class NoField(RowError):
    """A row without the completion or the gold, by any of their names; `option` names them."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class StopError(ValueError):
    """A row for which nobody can guess what was meant; the rest would be graded in doubt, too."""


@dataclass(frozen=True)
class Fields:
    """How to read rows: names of fields (None: the usual ones), and what holds for all rows.

    `records` says that rows are this project's evaluation records, whose answers are extracted
    already; `stored` that rows carry verdicts to be compared.
    """

    completion: str | None = None
    gold: str | None = None
    problem: str | None = None
    answer_type: AnswerType | None = None
    choices: str | None = None
    tolerance: float | str | None = None
    verdict: str | None = None
    last_number: bool = False
    records: bool = False
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One completion to grade, or, of an evaluation record, one `extracted` answer.

    `cut`: whether it ended at the token limit, None when the row does not say. `stored`: the
    verdict that the row carries. `broken`: why an evaluation has no answer.
    """

    line: int
    sample: int
    id: str | int | None
    completion: str | None
    task: Task
    cut: bool | None = None
    stored: bool | None = None
    extracted: bool = False
    broken: str | None = None


def is_record(row: Mapping[str, Any]) -> bool:
    return row.keys() >= RECORD


def cases(row: Mapping[str, Any], line: int, fields: Fields) -> list[Case]:
    """The cases of a row, one a sample. Raises RowError, or StopError when the row can be
    understood in two ways.
    """
    if fields.records:
        return [_record(row, line, fields)]
    name, said = completed(row, fields.completion)
    gold = _gold(row, fields.gold)
    try:
        samples = _samples(said)
    except RowError as error:
        raise RowError(f"field {name!r} {error}") from error
    task = _task(row, gold, fields)
    verdicts = (
        _verdicts(row, fields.verdict, len(samples)) if fields.stored else [None] * len(samples)
    )
    id = next(
        (row[key] for key in ("id", "unique_id") if isinstance(row.get(key), str | int)), None
    )
    cut = _cut(row, name, len(samples))
    return [Case(line, i, id, text, task, cut[i], verdicts[i]) for i, text in enumerate(samples)]


def completed(row: Mapping[str, Any], name: str | None) -> tuple[str, Any]:
    """The field that holds the completion; one that is null stands for a request that failed, and
    says nothing.
    """
    try:
        name, said = find(row, name, COMPLETION, "completion")
    except NoField:
        null = next((key for key in COMPLETION if key in row), None) if name is None else None
        if null is None:
            raise
        name, said = null, ""
    return name, "" if said is None else said


def _record(row: Mapping[str, Any], line: int, fields: Fields) -> Case:
    """An evaluation record (see `records.record`): its answer is judged as it stands."""
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
    cut = any(
        isinstance(event, dict) and event.get("finish") == "length" for event in row["events"]
    )
    task = _task(row, row["gold"], fields)
    return Case(
        line,
        row["sample"],
        row["id"],
        answer,
        task,
        cut,
        row["correct"],
        extracted=True,
        broken=error,
    )


# -- fields
#
# --------------------------------------------------------------------------------------------------


def lookup(value: Any, path: str) -> Any:
    """What stands at a dotted path (`choices.0.message.content`), MISSING if nothing; names may
    hold dots, too.
    """
    if isinstance(value, dict):
        if path in value:
            return value[path]
        cuts = [i for i, char in enumerate(path) if char == "."]
        found = (lookup(value[path[:i]], path[i + 1 :]) for i in cuts if path[:i] in value)
        return next((item for item in found if item is not MISSING), MISSING)
    if isinstance(value, list):
        index, _, rest = path.partition(".")
        if index.isdecimal() and int(index) < len(value):
            return lookup(value[int(index)], rest) if rest else value[int(index)]
    return MISSING


def names(value: Any, prefix: str = "", depth: int = 3) -> Iterator[str]:
    """The dotted paths in an object, for people to choose from."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:1])
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        nested = list(names(item, f"{prefix}{key}.", depth - 1)) if depth > 1 else []
        yield from nested or [f"{prefix}{key}"]


def find(
    row: Mapping[str, Any], name: str | None, known: Sequence[str], option: str
) -> tuple[str, Any]:
    """The field of that name, or the first of the usual ones that holds something."""
    if name is not None:
        value = lookup(row, name)
        if value is MISSING:
            raise NoField(option, f"field {name!r} is missing")
        return name, value
    for candidate in known:
        if row.get(candidate) is not None:
            return candidate, row[candidate]
    raise NoField(option, f"no {option}: none of the fields {', '.join(known)} is there")


def _gold(row: Mapping[str, Any], name: str | None) -> str:
    """The reference answer. Raises StopError when the usual names hold different ones."""
    first, value = find(row, name, GOLD, "gold")
    gold = _gold_text(first, value)
    for other in () if name else GOLD:
        if other == first or row.get(other) is None:
            continue
        try:
            second = _gold_text(other, row[other])
        except RowError:
            continue
        if second != gold and not judge(second, Task(Problem("", ""), gold)).equal:
            raise StopError(
                f"fields {first!r} ({plain(gold, 40)}) and {other!r} ({plain(second, 40)}) differ: "
                f"say which is the reference with --gold {first} or --gold {other}"
            )
    return gold


def _gold_text(name: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = _text(value)
    if text is None:
        raise RowError(f"field {name!r} (the gold) is {_kind(value)}, not text or a number")
    gold = gold_answer(text)
    if "\n" in gold:  # a rationale that ends in "A: 18" or "The answer is 18."
        gold = extract(gold).value or gold
    if not gold:
        raise RowError(f"field {name!r} (the gold) holds no answer")
    return gold


def _task(row: Mapping[str, Any], gold: str, fields: Fields) -> Task:
    kind = fields.answer_type or row.get("answer_type") or "math"
    if kind not in get_args(AnswerType):
        raise RowError(
            f"field 'answer_type' must be one of {', '.join(get_args(AnswerType))}, got "
            f"{plain(kind, 40)}"
        )
    tolerance = fields.tolerance if fields.tolerance is not None else row.get("tolerance")
    if kind != "num":
        tolerance = None
    elif isinstance(tolerance, bool) or not isinstance(tolerance, str | int | float | None):
        raise RowError(
            f"field 'tolerance' is {_kind(tolerance)}, not a number or a text such as 1%"
        )
    choices = _choices(row, fields.choices) if kind == "mc" else ()
    return Task(
        Problem("", _problem(row, fields.problem), kind, choices), gold, tolerance=tolerance
    )


def _problem(row: Mapping[str, Any], name: str | None) -> str:
    value = (
        lookup(row, name)
        if name
        else next((row[key] for key in PROBLEM if row.get(key) is not None), "")
    )
    if name and not isinstance(value, str):
        raise RowError(
            f"field {name!r} (the problem) " + ("is missing" if value is MISSING else "is not text")
        )
    return value if isinstance(value, str) else ""


def _choices(row: Mapping[str, Any], name: str | None) -> tuple[str, ...]:
    value = lookup(row, name or "choices")
    if name is None and (value is MISSING or value is None):
        return ()
    texts = [_text(item) for item in value] if isinstance(value, list) else [None]
    if None in texts:
        raise RowError(f"field {name or 'choices'!r} must be a list of texts, the choices in order")
    return tuple(text for text in texts if text is not None)


def _verdicts(row: Mapping[str, Any], name: str | None, samples: int) -> list[bool | None]:
    """The verdicts that a row carries, one a sample; None for one that is missing."""
    try:
        key, value = find(row, name, VERDICT, "verdict")
    except NoField:
        return [None] * samples
    values = value if isinstance(value, list) else [value]
    if any(item not in (None, True, False) for item in values):
        raise RowError(f"field {key!r} (the verdict) is neither true nor false")
    if len(values) > samples:
        raise RowError(f"field {key!r} holds {len(values)} verdicts for {samples} samples")
    marks = [None if item is None else bool(item) for item in values]
    return marks + [None] * (samples - len(marks))


# -- values
#
# --------------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    """A text or a finite number as text, None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return f"{Decimal(repr(value)):f}"


def _samples(value: Any) -> list[str]:
    """The texts of one completion, or of a list of several."""
    if not isinstance(value, list) or _is_chat(value):
        return [_said(value)]
    if not value:
        raise RowError("is an empty list")
    texts = []
    for number, item in enumerate(value):
        try:
            texts.append("" if item is None else _said(item))
        except RowError as error:
            raise RowError(f"(sample {number}) {error}") from error
    return texts


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "role" in item for item in value)
    )


def _said(value: Any) -> str:
    """What a text, a number or the last assistant message of a transcript says."""
    text = _text(value)
    if text is not None:
        return text
    if isinstance(value, dict) and "role" in value:
        value = [value]
    if not _is_chat(value):
        raise RowError(f"is {_kind(value)}, not text, a number or a chat of role and content")
    last = next((message for message in reversed(value) if message["role"] == "assistant"), None)
    if last is None:
        raise RowError("is a chat without an assistant message")
    content = last.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text")
            for part in content
            if isinstance(part, dict) and part.get("type") == "text"
        ]
        content = "".join(part for part in parts if isinstance(part, str)) if parts else None
    if not isinstance(content, str):
        raise RowError("is a chat whose last assistant message has no text")
    return content


def _cut(row: Mapping[str, Any], path: str, samples: int) -> list[bool | None]:
    """Whether each sample ended at the token limit, as the row, or an object around the completion,
    says.
    """
    ends = [i for i, char in enumerate(path) if char == "."]
    for holder in (*(lookup(row, path[:end]) for end in reversed(ends)), row):
        for name in (*FINISH, "truncated") if isinstance(holder, dict) else ():
            value = holder.get(name)
            values = value if isinstance(value, list) else [value]
            if len(values) == samples and all(
                isinstance(v, bool if name == "truncated" else str) for v in values
            ):
                return [v if isinstance(v, bool) else str(v).lower() in CUT for v in values]
    return [None] * samples


def _kind(value: Any) -> str:
    known = {
        dict: "an object",
        list: "a list",
        bool: "true or false",
        type(None): "null",
        str: "text",
    }
    return known.get(type(value), "NaN or infinite")
