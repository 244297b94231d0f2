"""Which transcripts a report shows, what a reader can filter them by, and how they travel in a
page.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from slm_math.metrics.rounds import drafts
from slm_math.report.load import Run
from slm_math.report.text import line
from slm_math.report.transcript import transcript

FLAGS = {  # name in the address: what the page calls it
    "right": "right",
    "wrong": "wrong",
    "improved": "improved",
    "degraded": "degraded",
    "flipped": "flipped between runs",
    "code-failed": "code failed",
    "truncated": "truncated",
    "lost": "lost reply",
    "no-answer": "no answer",
    "broken": "broken",
}
CHUNK = 12  # transcripts that are packed together


def flags(row: Mapping[str, Any], flipped: bool) -> list[str]:
    """The names of what holds for a sample."""
    events, marks, right = row["events"], drafts(row), row["correct"]
    holds = {
        "right": right,
        "wrong": not right,
        "improved": bool(marks) and right and not marks[0],
        "degraded": bool(marks) and marks[0] and not right,
        "flipped": flipped,
        "code-failed": any(e["kind"] == "run" and not e["ok"] for e in events),
        "truncated": any(e["kind"] == "turn" and e["finish"] == "length" for e in events),
        "lost": any(e["kind"] == "note" and e["note"] == "lost" for e in events),
        "no-answer": row["answer"] is None,
        "broken": row["error"] is not None,
    }
    return [name for name in FLAGS if holds[name]]


def flipped(runs: Sequence[Run]) -> set[tuple[int, Any]]:
    """(data, problem id) of problems that one run has right in most samples, and
    another one wrong.
    """
    marks: dict[tuple[int, Any], list[bool]] = defaultdict(list)
    for run in runs:
        samples: dict[Any, list[bool]] = defaultdict(list)
        for row in run.records:
            samples[row["id"]].append(row["correct"])
        for problem, rights in samples.items():
            marks[run.data, problem].append(2 * sum(rights) > len(rights))
    return {key for key, rights in marks.items() if any(rights) and not all(rights)}


def chosen(
    records: Sequence[Mapping[str, Any]], named: Sequence[Sequence[str]], limit: int
) -> list[int]:
    """Which records to show when there are more than `limit`, in their order.

    Half of them are those that changed between runs or rounds or broke, then wrong ones, each
    spread evenly; the rest is an even sample of all.
    """
    if len(records) <= limit:
        return list(range(len(records)))
    telling = {"flipped", "improved", "degraded", "broken"}
    first = _even([i for i, names in enumerate(named) if telling & set(names)], limit // 2)
    kept = set(first)
    kept |= set(
        _even(
            [i for i, names in enumerate(named) if "wrong" in names and i not in kept], limit // 4
        )
    )
    kept |= set(_even([i for i in range(len(records)) if i not in kept], limit - len(kept)))
    return sorted(kept)


def _even(items: Sequence[int], most: int) -> list[int]:
    """At most so many items, evenly spread."""
    return (
        list(items) if len(items) <= most else [items[i * len(items) // most] for i in range(most)]
    )


def browser(runs: Sequence[Run], limit: int) -> dict[str, Any]:
    """All that the page's browser of transcripts needs, as data for JSON: plain text, and HTML in
    packed chunks.
    """
    moved = flipped(runs)
    entries, texts, told = [], [], []
    for place, run in enumerate(runs):
        named = [flags(row, (run.data, row["id"]) in moved) for row in run.records]
        kept = chosen(run.records, named, limit)
        entries += [_entry(place, run.records[i], named[i]) for i in kept]
        texts += [transcript(run.records[i]) for i in kept]
        if len(kept) < len(run.records):
            told.append(f"{run.name}: {len(kept)} of {len(run.records)}")
    return {
        "runs": [line(run.name) for run in runs],
        "flags": FLAGS,
        "entries": entries,
        "left_out": told,
        "chunk": CHUNK,
        "chunks": list(packed(texts)),
    }


def _entry(run: int, row: Mapping[str, Any], named: Sequence[str]) -> dict[str, Any]:
    return {
        "run": run,
        "id": line(row["id"], 80),
        "sample": row["sample"] if isinstance(row["sample"], int) else 0,
        "problem": line(row["problem"], 160),
        "gold": line(row["gold"], 60),
        "answer": line(row["answer"], 60) if row["answer"] is not None else None,
        "flags": list(named),
        "tags": {line(tag, 40): line(value, 60) for tag, value in row["tags"].items()},
    }


def packed(texts: Iterable[str]) -> Iterator[str]:
    """Texts in lists of `CHUNK`, as JSON, deflated, in base64."""
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK:
            yield _pack(chunk)
            chunk = []
    if chunk:
        yield _pack(chunk)


def _pack(chunk: Sequence[str]) -> str:
    return base64.b64encode(
        zlib.compress(json.dumps(chunk, ensure_ascii=False).encode(), 9)
    ).decode()
