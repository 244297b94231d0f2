"""The browser of transcripts: which ones a report shows, their filters, and their packed form."""

from __future__ import annotations

import base64
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from slm_math.metrics.arrays import in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import Facts
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


def flags(one: Facts, flipped: bool, unseen: bool = False) -> list[str]:
    """The names of the flags that a sample has. `unseen`: the blind control solves the problem."""
    rounds, correct = one.rounds, one.correct
    holds = {
        "right": correct,
        "wrong": not correct,
        "improved": bool(rounds) and correct and not rounds[0],
        "degraded": bool(rounds) and rounds[0] and not correct,
        "flipped": flipped,
        "unseen": unseen,
        "code-failed": one.failed,
        "truncated": one.truncated,
        "lost": one.lost > 0,
        "no-answer": not one.answered,
        "broken": one.broken,
    }
    return [name for name in FLAGS if holds[name]]


class Solved:
    """Whether runs solve each problem in most samples."""

    def __init__(self, run: AgentRun) -> None:
        samples = run.samples
        different, numbers = in_order(samples.problems)
        sizes = np.bincount(numbers)
        right = np.bincount(numbers, weights=samples.fact(lambda one: one.correct))
        self._names, self._mostly = samples.tables.problems, np.zeros(len(samples.tables.problems))
        self._mostly[different] = np.where(2 * right > sizes, 1, -1)

    def of(self, samples: Samples) -> np.ndarray:
        """Of the problem of each sample: 1 if it is solved, -1 if not, and 0 without samples."""
        if samples.tables.problems is self._names:
            return self._mostly[samples.problems]
        numbers = samples.tables.problems.numbers_in(self._names)
        return np.append(self._mostly, 0)[numbers[samples.problems]]  # the last one is -1


def flipped(runs: Sequence[AgentRun]) -> list[np.ndarray]:
    """Of each run, whether the problem of each sample is one that some run on the same problems
    solves in most samples, and another one does not.
    """
    solved = [Solved(run) for run in runs]
    found = []
    for run in runs:
        marks = [one.of(run.samples) for one, other in zip(solved, runs) if other.data == run.data]
        found.append((np.min(marks, axis=0) < 0) & (np.max(marks, axis=0) > 0))
    return found


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
    changed = _where(not telling.isdisjoint(names) for names in flagged)
    chosen = set(_evenly(changed, limit // 2))
    wrong = _where("wrong" in names and index not in chosen for index, names in enumerate(flagged))
    chosen |= set(_evenly(wrong, limit // 4))
    others = _where(index not in chosen for index in range(n))
    return sorted(chosen | set(_evenly(others, limit - len(chosen))))


def _where(holds: Iterable[bool]) -> Sequence[int]:
    return array("I", (index for index, one in enumerate(holds) if one))


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def flagged(samples: Samples, flips: np.ndarray, unseen: np.ndarray) -> list[list[str]]:
    """The names of the flags of every sample; samples with the same ones share a list."""
    kinds, every = samples.tables.kinds.values, dict[tuple[int, ...], list[str]]()
    lists = []
    for key in zip(samples.kinds.data, flips.data, unseen.data):
        if key not in every:
            every[key] = flags(kinds[key[0]], flipped=bool(key[1]), unseen=bool(key[2]))
        lists.append(every[key])
    return lists


def browser(runs: Sequence[AgentRun], limit: int, images: Thumbnails) -> dict[str, Any]:
    """The data of the page's browser of transcripts, for JSON: plain text, HTML in compressed
    pieces, and images.
    """
    flips = flipped(runs)
    entries: list[dict[str, Any]] = []
    texts: list[str] = []
    left_out = []
    for place, run in enumerate(runs):
        samples, unseen = run.samples, np.zeros(len(run.samples), bool)
        if run.control is not None:
            unseen = Solved(run.control).of(samples) > 0
        names = flagged(samples, flips[place], unseen)
        chosen = selected(names, limit)
        for index in chosen:
            record = samples.record(index)
            entries.append(_entry(place, record, names[index]))
            texts.append(transcript(record, images))
        if len(chosen) < len(samples):
            left_out.append(f"{run.name}: {len(chosen)} of {len(samples)}")
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
