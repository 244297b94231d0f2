"""The evaluations of a run: their results, and the samples of those that somebody looks at."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_math.metrics.intervals import interval
from slm_math.records.eval_folders import evaluation_folders
from slm_math.records.record import Record
from slm_math.watching.following import FollowedFile, FollowedFiles, Line
from slm_math.watching.rows import Brief, brief
from slm_math.watching.steps import record_of

# name -> what holds for a sample
FILTERS: dict[str, Callable[[Brief], bool]] = {
    "right": lambda one: one.correct,
    "wrong": lambda one: not one.correct,
    "no answer": lambda one: not one.answered,
    "truncated": lambda one: one.truncated,
    "broken": lambda one: one.broken,
}


class Samples(FollowedFiles):
    """The samples of an evaluation as places in its file: of each, the newest record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "records.jsonl")
        self.forget()

    def forget(self) -> None:
        self.places = array("Q")
        self.kinds = bytearray()  # which filters hold, a bit for each
        self._keys: dict[tuple[str, int], int] = {}
        self._by_problem: dict[str, list[int]] = {}  # right, and all

    def take(self, file: FollowedFile, lines: Sequence[Line]) -> None:
        for at, line in lines:
            sample = brief(line)
            if sample is None:
                continue
            kinds = sum(bool(holds(sample)) << bit for bit, holds in enumerate(FILTERS.values()))
            place = self._keys.setdefault((sample.id, sample.sample), len(self.places))
            counts = self._by_problem.setdefault(sample.id, [0, 0])
            if place == len(self.places):
                self.places.append(at)
                self.kinds.append(kinds)
                counts[1] += 1
            else:
                counts[0] -= self.kinds[place] & 1
                self.places[place], self.kinds[place] = at, kinds
            counts[0] += sample.correct

    def where(self, name: str) -> Sequence[int]:
        """The numbers of the samples for which a filter holds; of all for "". Raises KeyError for a
        name that no filter has.
        """
        if not name:
            return range(len(self.places))
        bits = {each: 1 << number for number, each in enumerate(FILTERS)}
        return [number for number, kinds in enumerate(self.kinds) if kinds & bits[name]]

    def record(self, number: int) -> Record:
        """Raises KeyError for a number that no sample has."""
        if not 0 <= number < len(self.places):
            raise KeyError(number)
        [file] = self.files.values()
        return record_of(file.line_at(self.places[number]))

    def accuracy(self) -> tuple[float, float, float] | None:
        """The mean over problems so far, and its 95 % interval."""
        shares = [right / n for right, n in self._by_problem.values()]
        if not shares:
            return None
        return sum(shares) / len(shares), *interval(shares, len(self.places))


class Evaluations:
    """The evaluations in a run's folder by name, `<stage>/<agent>`; results are read once, and
    samples when somebody looks at them.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "eval"
        self._read: dict[Path, tuple[int, dict[str, Any]]] = {}  # when it was written, what it says
        self._samples: dict[str, Samples] = {}

    def names(self) -> list[str]:
        """The evaluations in the order in which they were started."""
        stages = (path for path in self.folder.glob("*") if path.is_dir())
        names = [f"{stage.name}/{name}" for stage in stages for name in evaluation_folders(stage)]
        return sorted(names, key=lambda name: (self._manifest(name).get("started") or "~", name))

    def samples(self, name: str) -> Samples:
        """Raises KeyError for a name that no evaluation has."""
        if name not in self._samples:
            if name not in self.names():
                raise KeyError(name)
            self._samples[name] = Samples(self.folder / name)
        return self._samples[name]

    def described(self, budget: int) -> list[dict[str, Any]]:
        """Every evaluation with its result, or how far it is."""
        return [self._described(name, budget) for name in self.names()]

    def _described(self, name: str, budget: int) -> dict[str, Any]:
        manifest, summary = self._manifest(name), self._summary(name)
        identity, about = manifest.get("identity") or {}, manifest.get("about") or {}
        problems = _count(identity.get("problems"))
        row = {
            "name": name,
            "started": manifest.get("started"),
            "epoch": about.get("epoch"),
            "step": about.get("step"),
            "split": about.get("split"),
            "expected": problems * _count(identity.get("samples")),
            "problems": problems,
        }
        if summary and not manifest.get("partial", True):
            ends = [summary.get(each) for each in ("accuracy", "low", "high")]
            known = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
            done = {"done": _count(summary.get("n")), "partial": False}
            return row | done | {"accuracy": ends if known else None}
        samples = self.samples(name)
        samples.poll(budget)
        return row | {
            "done": len(samples.places),
            "accuracy": samples.accuracy(),
            "partial": True,
        }

    def _manifest(self, name: str) -> dict[str, Any]:
        return self._json(name, "manifest.json")

    def _summary(self, name: str) -> dict[str, Any]:
        return self._json(name, "summary.json")

    def _json(self, name: str, file: str) -> dict[str, Any]:
        """A file of JSON, read again once it changed; {} if there is none."""
        path = self.folder / name / file
        try:
            time = path.stat().st_mtime_ns
            if path not in self._read or self._read[path][0] != time:
                data = json.loads(path.read_text(encoding="utf-8"))
                self._read[path] = time, data if isinstance(data, dict) else {}
            return self._read[path][1]
        except (OSError, ValueError):
            return {}


def _count(value: Any) -> int:
    return int(value) if type(value) in (int, float) and abs(value) < 1e15 else 0
