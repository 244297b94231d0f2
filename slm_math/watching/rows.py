"""What a list shows of a line of rollouts or records, without parsing all of it."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

# how lines begin that RolloutLog writes, and where the record in them does
_PLACE = re.compile(rb'\{"epoch": (\d+), "batch": (\d+), "step": (\d+), "')
_RECORD = re.compile(rb'"schema": 2, "id": "([^"\\]*)", "sample": (\d{1,9}), "problem": ')
# Fields by how their values begin: quotes are escaped in any text, so that no text has these.
_BEGINS = b'"schema": 2, "id": "'
_VERDICT, _NO_ANSWER = b', "correct": ', b', "answer": null'
_ERROR, _WORKED = b', "error": ', b', "error": null'
_TRUNCATED = b', "finish": "length", "prompt_tokens": '
_TOKENS = b', "tokens": '
_REWARDS = b'}}, "rewards": {'
_WHOLE = re.compile(rb"\d+")


class Brief(NamedTuple):
    """What identifies a sample, and what lists count of it. Rewards are by role, NaN for none."""

    epoch: int
    batch: int
    step: int
    id: str
    sample: int
    correct: bool
    answered: bool
    broken: bool
    truncated: bool
    tokens: int
    rewards: dict[str, float]


def brief(line: bytes) -> Brief | None:
    """What a line says in brief, None for a line that is no record."""
    begin = line.find(_BEGINS)
    place, record = _PLACE.match(line), _RECORD.match(line, max(begin, 0))
    verdict = line.find(_VERDICT, begin)  # that of the record comes before those of its notes
    while verdict >= 0 and line.startswith(b'"', verdict + len(_VERDICT)):  # a tag of this name
        verdict = line.find(_VERDICT, verdict + 1)
    right = line.startswith(b"true", verdict + len(_VERDICT))
    error = line.find(_ERROR, verdict)
    if record is None or verdict < 0 or error < 0:
        return _parsed(line)
    at = line.rfind(_REWARDS, begin)
    if at < 0 and b'"rewards": {' in line:
        return _parsed(line)
    try:
        rewards = _scores(line[at + 14 : line.find(b"}", at + 14) + 1]) if at >= 0 else {}
    except (ValueError, RecursionError):
        return _parsed(line)
    epoch, batch, step = map(int, place.groups()) if place else (0, 0, 0)
    return Brief(
        epoch=epoch,
        batch=batch,
        step=step,
        id=record[1].decode("utf-8", "replace"),
        sample=int(record[2]),
        correct=right,
        answered=not line.endswith(_NO_ANSWER, begin, verdict),
        broken=not line.startswith(_WORKED, error),
        truncated=line.find(_TRUNCATED, error) >= 0,
        tokens=_tokens(line, error),
        rewards=rewards,
    )


def _tokens(line: bytes, begin: int) -> int:
    """Of all turns."""
    total = 0
    while (begin := line.find(_TOKENS, begin)) >= 0:
        begin += len(_TOKENS)
        number = _WHOLE.match(line, begin)
        total += int(number[0]) if number else 0
    return total


def _parsed(line: bytes) -> Brief | None:
    """The same of a line of another program, or with an odd id."""
    try:
        row = json.loads(line)
        turns = [event for event in row.get("events", ()) if event.get("kind") == "turn"]
        return Brief(
            *(int(row.get(name, 0)) for name in ("epoch", "batch", "step")),
            id=str(row["id"]),
            sample=int(row["sample"]),
            correct=row.get("correct") is True,
            answered=row.get("answer") is not None,
            broken=row.get("error") is not None,
            truncated=any(turn.get("finish") == "length" for turn in turns),
            tokens=sum(int(turn.get("tokens", 0)) for turn in turns),
            rewards=_rewards(row),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@lru_cache(maxsize=10_000)
def _scores(text: bytes) -> dict[str, float]:
    return _rewards({"rewards": json.loads(text)})


def _rewards(row: dict[str, Any]) -> dict[str, float]:
    rewards = row.get("rewards")
    return {
        str(role): float(value) if type(value) in (int, float) and abs(value) < 1e300 else math.nan
        for role, value in (rewards.items() if isinstance(rewards, dict) else ())
    }
