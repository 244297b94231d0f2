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
from slm_math.records.record import Record, TurnEvent
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


def of_problems(
    runs: Sequence[tuple[Samples, Sequence[Sequence[str]]]], limit: int
) -> list[list[int]]:
    """The indices of the samples to show of each run on the same problems, given the flags of its
    samples: all samples of a problem in every run, so that they can be seen side by side, and at
    most `limit` of a run, but one problem at least.
    """
    every = max((samples for samples, _ in runs), key=lambda samples: len(samples.tables.problems))
    names = every.tables.problems
    numbers = [samples.tables.problems.numbers_in(names)[samples.problems] for samples, _ in runs]
    told: list[set[str]] = [set() for _ in range(len(names) + 1)]  # the last one is -1
    for some, (_, flagged) in zip(numbers, runs):
        for number, flags in zip(some.tolist(), flagged):
            told[number].update(flags)
    most = max((int(np.bincount(some).max()) for some in numbers if len(some)), default=1)
    shown = np.zeros(len(told), bool)
    shown[selected([list(flags) for flags in told[:-1]], max(limit // most, min(limit, 1)))] = True
    return [np.flatnonzero(shown[some]).tolist() for some in numbers]


def selected(flagged: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The indices of the problems to show if there are more than `limit`, in order, given the flags
    of all samples of each.

    Up to half are problems with a sample that changed between runs or rounds or broke, then up to a
    quarter those with an incorrect one, each evenly spread; the rest is an even selection of the
    others.
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


def _flags_of(run: AgentRun, flips: np.ndarray) -> list[list[str]]:
    unseen = np.zeros(len(run.samples), bool)
    if run.control is not None:
        unseen = Solved(run.control).of(run.samples) > 0
    return flagged(run.samples, flips, unseen)


def browser(runs: Sequence[AgentRun], limit: int, images: Thumbnails) -> dict[str, Any]:
    """The data of the page's browser of transcripts, for JSON: plain text, HTML in compressed
    pieces, and images.
    """
    sets = [max(run.data, -1 - run.data) for run in runs]  # a control's problems are its run's
    names = [_flags_of(run, flips) for run, flips in zip(runs, flipped(runs))]
    chosen: list[list[int]] = [[] for _ in runs]
    for number in set(sets):
        places = [place for place, one in enumerate(sets) if one == number]
        alike = [(runs[place].samples, names[place]) for place in places]
        for place, some in zip(places, of_problems(alike, limit)):
            chosen[place] = some
    entries: list[dict[str, Any]] = []
    texts: list[str] = []
    left_out = []
    for place, run in enumerate(runs):
        for index in chosen[place]:
            record = run.samples.record(index)
            entries.append(_entry(place, record, names[place][index]))
            texts.append(transcript(record, images))
        if len(chosen[place]) < len(run.samples):
            left_out.append(f"{run.name}: {len(chosen[place])} of {len(run.samples)}")
    return {
        "runs": [line(run.name) for run in runs],
        "sets": sets,
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
        "tokens": sum(turn.tokens for turn in record.events if isinstance(turn, TurnEvent)),
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
