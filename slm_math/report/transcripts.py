"""The browser of transcripts: which ones a report shows, their filters, and their packed form."""

from __future__ import annotations

import base64
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from slm_math.metrics.rounds import correct_by_round
from slm_math.records.record import Record
from slm_math.report.load import AgentRun
from slm_math.report.text import line
from slm_math.report.thumbnails import Thumbnails
from slm_math.report.transcript import transcript

FLAGS = {  # name in the address of the page -> label
    "right": "right",
    "wrong": "wrong",
    "improved": "improved",
    "degraded": "degraded",
    "flipped": "flipped between runs",
    "unseen": "right without images",
    "code-failed": "code failed",
    "truncated": "truncated",
    "lost": "lost reply",
    "no-answer": "no answer",
    "broken": "broken",
}
CHUNK = 12  # transcripts in one compressed piece


def flags(record: Record, flipped: bool, unseen: bool = False) -> list[str]:
    """The names of the flags that a sample has. `unseen`: the blind control solves the problem."""
    rounds, correct = correct_by_round(record), record.correct
    holds = {
        "right": correct,
        "wrong": not correct,
        "improved": bool(rounds) and correct and not rounds[0],
        "degraded": bool(rounds) and rounds[0] and not correct,
        "flipped": flipped,
        "unseen": unseen,
        "code-failed": any(not run.ok for run in record.runs),
        "truncated": record.truncated,
        "lost": any(note.kind == "lost" for note in record.notes),
        "no-answer": record.answer is None,
        "broken": record.broken,
    }
    return [name for name in FLAGS if holds[name]]


def flipped_problems(runs: Sequence[AgentRun]) -> set[tuple[int, str]]:
    """(data, problem id) of the problems that one run solves in most samples, and another one does
    not.
    """
    solved: dict[tuple[int, str], list[bool]] = defaultdict(list)
    for run in runs:
        for problem, mostly in _solved(run).items():
            solved[run.data, problem].append(mostly)
    return {key for key, by_run in solved.items() if any(by_run) and not all(by_run)}


def _solved(run: AgentRun) -> dict[str, bool]:
    """Whether a run solves each problem in most samples."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for record in run.records:
        verdicts[record.id].append(record.correct)
    return {problem: 2 * sum(some) > len(some) for problem, some in verdicts.items()}


def selected(flagged: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The indices of the samples to show if there are more than `limit`, in order, given the flags
    of all.

    Up to half are samples that changed between runs or rounds or broke, then up to a quarter
    incorrect ones, each evenly spread; the rest is an even selection of the others.
    """
    n = len(flagged)
    if n <= limit:
        return list(range(n))
    telling = {"flipped", "improved", "degraded", "broken"}
    changed = [index for index, names in enumerate(flagged) if telling & set(names)]
    chosen = set(_evenly(changed, limit // 2))
    wrong = [
        index for index, names in enumerate(flagged) if "wrong" in names and index not in chosen
    ]
    chosen |= set(_evenly(wrong, limit // 4))
    others = [index for index in range(n) if index not in chosen]
    return sorted(chosen | set(_evenly(others, limit - len(chosen))))


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def browser(runs: Sequence[AgentRun], limit: int, images: Thumbnails) -> dict[str, Any]:
    """The data of the page's browser of transcripts, for JSON: plain text, HTML in compressed
    pieces, and images.
    """
    flipped = flipped_problems(runs)
    entries: list[dict[str, Any]] = []
    texts: list[str] = []
    left_out = []
    for place, run in enumerate(runs):
        unseen = _solved(run.control) if run.control is not None else {}
        flagged = [
            flags(record, (run.data, record.id) in flipped, unseen.get(record.id, False))
            for record in run.records
        ]
        chosen = selected(flagged, limit)
        entries += [_entry(place, run.records[index], flagged[index]) for index in chosen]
        texts += [transcript(run.records[index], images) for index in chosen]
        if len(chosen) < len(run.records):
            left_out.append(f"{run.name}: {len(chosen)} of {len(run.records)}")
    return {
        "runs": [line(run.name) for run in runs],
        "flags": FLAGS,
        "entries": entries,
        "left_out": left_out,
        "chunk": CHUNK,
        "chunks": list(packed(texts)),
        "images": images.data,
    }


def _entry(run: int, record: Record, names: Sequence[str]) -> dict[str, Any]:
    return {
        "run": run,
        "id": line(record.id, 80),
        "sample": max(record.sample, 0),
        "problem": line(record.problem, 160),
        "gold": line(record.gold, 60),
        "answer": line(record.answer, 60) if record.answer is not None else None,
        "flags": list(names),
        "tags": {line(tag, 40): line(value, 60) for tag, value in record.tags.items()},
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
