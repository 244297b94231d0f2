"""Records as JSON, with a schema number, and back.

Version 1 has no number: all records written before there was one. Records of other programs may
lack fields or hold odd values; a missing field takes its default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast, get_args

from slm_math.records.record import (
    GRADED,
    ChatMessage,
    Event,
    NoteEvent,
    Record,
    RecordedImage,
    RunEvent,
    TurnEvent,
)
from slm_math.types import AnswerType, Draft

SCHEMA = 2

_LARGEST = 1 << 53  # whole numbers that a float can stand for
_ANSWER_TYPES = get_args(AnswerType)
_KINDS = ("turn", "run", "note")  # of events
_FIELDS: dict[str, type | tuple[type, ...]] = {  # of which a record of version 2 needs
    "id": str,
    "sample": int,
    "answer": (str, type(None)),
    "error": (str, type(None)),
    "events": list,
}

# characters that JSON leaves alone although they control terminals or end lines: C1 controls,
# Unicode's separators
ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


def to_json(record: Record) -> dict[str, Any]:
    """A record as plain data. Fields that do not apply are left out: the rules of answers other
    than "math", and what only training knows.
    """
    choices = {"choices": list(record.choices)}
    rules = {"answer_type": record.answer_type, **choices, "tolerance": record.tolerance}
    training = {
        "parts": {role: dict(parts) for role, parts in record.parts.items()},
        "rewards": dict(record.rewards),
        "advantages": dict(record.advantages),
        "reward_errors": {role: dict(errors) for role, errors in record.reward_errors.items()},
    }
    return {
        "schema": SCHEMA,
        "id": record.id,
        "sample": record.sample,
        "problem": record.problem,
        "tags": dict(record.tags),
        "gold": record.gold,
        **({"draft": vars(record.draft)} if record.draft is not None else {}),
        **_images_to_json(record.images),
        **(rules if record.answer_type != "math" else choices if record.choices else {}),
        "answer": record.answer,
        **({"correct": record.correct} if record.has_verdict else {}),
        "reason": record.reason,
        "method": record.method,
        "hedged": record.hedged,
        "lenient": record.lenient,
        "error": record.error,
        **({"skipped": True} if record.skipped else {}),
        "seconds": record.seconds,
        "events": [_event_to_json(event) for event in record.events],
        **{name: values for name, values in training.items() if values},
    }


def _event_to_json(event: Event) -> dict[str, Any]:
    if isinstance(event, NoteEvent):
        return {
            "kind": "note",
            "note": event.kind,
            "text": event.text,
            **({"correct": event.correct} if event.correct is not None else {}),
            **({"value": event.value} if event.value is not None else {}),
            **({"role": event.role} if event.role else {}),
            **({"branch": list(event.branch)} if event.branch else {}),
        }
    if isinstance(event, RunEvent):
        return {
            "kind": "run",
            **({"earlier": list(event.earlier)} if event.earlier else {}),
            "code": event.code,
            "ok": event.ok,
            "output": event.output,
            "error_type": event.error_type,
            "timed_out": event.timed_out,
            "seconds": event.seconds,
        }
    return {
        "kind": "turn",
        "role": event.role,
        "prompt": [
            {"role": each.role, "content": each.content, **_images_to_json(each.images)}
            for each in event.prompt
        ],
        "reply": event.reply,
        "program": event.program,
        "finish": event.finish,
        "prompt_tokens": event.prompt_tokens,
        "tokens": event.tokens,
        "seconds": event.seconds,
        **({"prompt_hash": event.prompt_hash} if event.prompt_hash else {}),
        **({"model": event.model} if event.model else {}),
        **({"attempt": event.attempt} if event.attempt else {}),
        **({"plays": event.plays} if event.plays else {}),
    }


def _images_to_json(images: tuple[RecordedImage, ...]) -> dict[str, Any]:
    if not images:
        return {}
    rows = [{"source": image.source, "hash": image.hash} for image in images]
    blank = [{"blank": True} if image.blank else {} for image in images]
    return {"images": [row | mark for row, mark in zip(rows, blank, strict=True)]}


def check_schema(row: Mapping[str, Any]) -> None:
    """Raises ValueError for a record of an unknown version."""
    schema = row.get("schema", 1)
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(
            f"a record of schema version {schema!r}, but this slm-math reads versions 1 to "
            f"{SCHEMA}: use a newer slm-math"
        )


def from_json(row: Mapping[str, Any]) -> Record:
    """The record that plain data describe.

    Raises ValueError for an unknown schema version, and for a record of version 2 whose fields are
    not what this program writes; KeyError without `id` or `sample`. In version 1 a sample number
    that is not an integer becomes -1, which no evaluation asks for.
    """
    check_schema(row)
    get = row.get
    if get("schema", 1) > 1:
        _check_fields(row)
    answer_type, tolerance = get("answer_type", "math"), get("tolerance")
    correct = get("correct") is True
    answer, error, tags, sample = get("answer"), get("error"), get("tags"), row["sample"]
    return Record(
        id=_text(row["id"]),
        sample=sample if type(sample) is int else -1,
        problem=_text(get("problem")),
        tags={_text(tag): _text(value) for tag, value in tags.items()}
        if isinstance(tags, dict)
        else {},
        gold=_text(get("gold")),
        answer_type=cast(AnswerType, answer_type if answer_type in _ANSWER_TYPES else "math"),
        choices=_texts(get("choices")),
        images=_images(get("images")),
        tolerance=tolerance if type(tolerance) in (int, float, str) else None,
        draft=_draft(get("draft")),
        answer=None if answer is None else _text(answer),
        correct=correct,
        reason=_text(get("reason")),
        method=_text(get("method")),
        hedged=get("hedged") is True,
        lenient=get("lenient", correct) is True,
        error=None if error is None else _text(error),
        skipped=get("skipped") is True,
        seconds=_number(get("seconds")),
        events=tuple(
            [
                _event_from_json(event)
                for event in _list(get("events"))
                if isinstance(event, dict) and event.get("kind") in _KINDS
            ]
        ),
        has_verdict="correct" in row,
        **(_training(row) if isinstance(get("parts"), dict) else {}),
    )


def _training(row: Mapping[str, Any]) -> dict[str, Any]:
    """What only training knows; metrics of rewards need their parts, too."""
    return {
        "parts": {
            _text(role): {_text(name): _score(value) for name, value in _items(parts)}
            for role, parts in _items(row.get("parts"))
        },
        "rewards": {_text(role): _score(value) for role, value in _items(row.get("rewards"))},
        "advantages": {_text(role): _score(value) for role, value in _items(row.get("advantages"))},
        "reward_errors": {
            _text(role): {_text(name): _text(error) for name, error in _items(errors)}
            for role, errors in _items(row.get("reward_errors"))
        },
    }


def _draft(value: Any) -> Draft | None:
    if not isinstance(value, dict):
        return None
    return Draft(_text(value.get("text")), _text(value.get("answer")))


def _check_fields(row: Mapping[str, Any]) -> None:
    """Raises ValueError for a field that a record of this program cannot have."""
    for name, kind in _FIELDS.items():
        if not isinstance(row[name], kind):
            raise ValueError(
                f"field {name} is {row[name]!r:.60}, of type {type(row[name]).__name__}"
            )
    for number, event in enumerate(row["events"]):
        kind = event.get("kind") if isinstance(event, dict) else None
        if kind not in _KINDS:
            raise ValueError(f"event {number} is of the unknown kind {kind!r:.60}")


def _event_from_json(event: Mapping[str, Any]) -> Event:
    get = event.get
    if event["kind"] == "turn":
        return TurnEvent(
            role=_text(get("role")),
            prompt=tuple(map(_message, _list(get("prompt")))),
            reply=_text(get("reply")),
            program=get("program") is True,
            finish=_text(get("finish", "stop")),
            prompt_tokens=_count(get("prompt_tokens")),
            tokens=_count(get("tokens")),
            seconds=_number(get("seconds")),
            prompt_hash=_text(get("prompt_hash")),
            model=_text(get("model")),
            attempt=_count(get("attempt")),
            plays=_text(get("plays")),
        )
    if event["kind"] == "run":
        return RunEvent(
            code=_text(event.get("code")),
            earlier=_texts(event.get("earlier")),
            ok=event.get("ok") is True,
            output=_text(event.get("output")),
            error_type=_text(event.get("error_type")),
            timed_out=event.get("timed_out") is True,
            seconds=_number(event.get("seconds")),
        )
    kind, text = _text(event.get("note")), event.get("text")
    branch = [index for index in _list(event.get("branch")) if type(index) is int]
    return NoteEvent(
        kind=kind,
        text=None if text is None else _text(text),
        correct=event.get("correct") is True if kind in GRADED else None,
        value=_number(event.get("value")) if kind == "vote" or "value" in event else None,
        role=_text(event.get("role")),
        branch=tuple(branch),
    )


def _message(message: Any) -> ChatMessage:
    if not isinstance(message, dict):
        return ChatMessage("?", _text(message))
    images = _images(message.get("images"))
    return ChatMessage(_text(message.get("role")), _text(message.get("content")), images)


def _images(value: Any) -> tuple[RecordedImage, ...]:
    if not value:
        return ()
    return tuple(
        RecordedImage(
            _text(image.get("source")), _text(image.get("hash")), image.get("blank") is True
        )
        for image in _list(value)
        if isinstance(image, dict)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _list(value))) if value else ()


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _number(value: Any) -> float:
    """A finite number; 0 for anything else, such as null, which JSON has instead of NaN, and for
    whole numbers that no float can stand for.
    """
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else 0
    return value if isinstance(value, float) and math.isfinite(value) else 0


def _count(value: Any) -> int:
    """A whole number from 0 on; 0 for anything else."""
    return max(int(_number(value)), 0)


def _score(value: Any) -> float:
    """A reward or advantage; NaN for what was not scored, which JSON has as null."""
    return float(value) if type(value) in (int, float) else math.nan


def json_line(row: Record | Mapping[str, Any]) -> bytes:
    """A record as a line of JSON in UTF-8; null for NaN and the infinities, which JSON cannot
    express.
    """
    data = to_json(row) if isinstance(row, Record) else row
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, default=str)
    # half of a surrogate pair, which UTF-8 cannot encode, becomes its JSON escape
    return text.translate(ESCAPES).encode("utf-8", "backslashreplace") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
