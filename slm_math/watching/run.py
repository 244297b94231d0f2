"""A run that is followed: what a page asks of it, as plain data."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math.metrics.meanings import GROUPS, meaning
from slm_math.records.record import Record
from slm_math.records.run_folder import read_run, traces_of_training
from slm_math.report.text import clean, line
from slm_math.report.thumbnails import Thumbnails
from slm_math.report.transcript import transcript
from slm_math.watching.curves import Curves
from slm_math.watching.evaluations import FILTERS, Evaluations
from slm_math.watching.following import FollowedFiles
from slm_math.watching.state import state_of
from slm_math.watching.steps import Group, Key, Problem, Step, Steps

SECONDS = 0.3  # of reading before an answer
SHARE = 1 << 21  # bytes of a file that are read at a time
MOST = 24  # groups of a problem that are shown at once
ROWS = 400  # of a list that are sent at once, at most


class WatchedRun:
    """Follows the folder of a training run. Every method answers from memory, and reads what was
    appended to the files since; texts are read from their places when they are asked for.

    Raises ValueError for a folder that holds no run.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder: name one that `slm-math fit` writes")
        if not (read_run(root) or traces_of_training(root)):
            raise ValueError(
                f"{root} holds no training run: no manifest.json, rollouts.jsonl or "
                "logs/*/metrics.csv of `slm-math fit`"
            )
        self.root = root
        self.steps = Steps(root)
        self.curves = Curves(root)
        self.evaluations = Evaluations(root)
        self.lock = threading.RLock()  # requests come on threads

    def poll(self, seconds: float = SECONDS) -> None:
        """Reads what is new, for about so long."""
        end = time.monotonic() + seconds
        files: list[FollowedFiles] = [self.curves, self.steps]
        while files and time.monotonic() < end:
            files = [each for each in files if each.poll(SHARE)]

    def catch_up(self) -> None:
        """Reads all there is, and lets others ask meanwhile."""
        while True:
            with self.lock:
                self.poll(SECONDS / 3)
                if not (self.steps.behind or self.curves.behind):
                    return
            time.sleep(0.005)

    def state(self, known: Mapping[str, str]) -> dict[str, Any]:
        """What is new for a page that knows a generation up to a revision of steps and a number of
        rows; all of it for another generation.
        """
        with self.lock:
            self.poll()
            generation = f"{self.steps.generation}.{'.'.join(map(str, self.curves.version))}"
            same = known.get("generation") == generation
            revision, rows = (_whole(known, "revision"), _whole(known, "rows")) if same else (-1, 0)
            logged = self.curves.rows()
            last = max(self.steps.written, self.curves.written)
            changed = [step for step in self.steps.ordered if step.revision > revision]
            places = self._places() if changed else {}
            return {
                "generation": generation,
                "run": self._about(),
                "status": state_of(self.root, last),
                "behind": [self.steps.behind + self.curves.behind, self.steps.size],
                "revision": self.steps.revision,
                "steps": [_step(step, places[step.key]) for step in changed],
                "problems": len(self.steps.problems),
                "rows": [[row.step, row.metrics] for row in logged[rows:]],
                "count": len(logged),
                "meanings": {
                    name: _meaning(name, bool(self.steps.steps))
                    for row in logged[rows:][-3:]
                    for name in row.metrics
                },
                "evaluations": self.evaluations.described(SHARE),
                "filters": list(FILTERS),
            }

    def _about(self) -> dict[str, Any]:
        manifest = read_run(self.root)
        return {
            "name": line(self.root.resolve().name, 80),
            "folder": line(self.root, 200),
            "started": line(manifest.get("started"), 40),
            "policy": line(manifest.get("policy"), 200),
            "command": line(" ".join(map(str, manifest.get("command") or ())), 600),
        }

    def _places(self) -> dict[Key, int]:
        """Of every step, the number of batches that were done after it, as logs count them."""
        first = self.curves.first_steps()
        places: dict[Key, int] = {}
        for count, step in enumerate(self.steps.ordered, 1):
            epoch, batch = step.key
            places[step.key] = first[epoch] + batch if epoch in first else count
        return places

    def step(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """The groups of a step. Raises KeyError for one that is not there."""
        with self.lock:
            step = self.steps.steps[_whole(asked, "epoch"), _whole(asked, "batch")]
            return {"groups": self._groups(step.groups)}

    def problems(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Problems whose id or text has some words; most often drawn first."""
        words = asked.get("q", "").lower().split()
        with self.lock:
            found = [
                (number, problem)
                for number, problem in enumerate(self.steps.problems)
                if all(word in f"{problem.id} {problem.text}".lower() for word in words)
            ]
            found.sort(key=lambda each: -len(each[1].groups))
            return _window(asked, found, lambda each: _problem(*each))

    def problem(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """The groups of a problem by step, the last ones."""
        with self.lock:
            number = _whole(asked, "number")
            if number >= len(self.steps.problems):
                raise KeyError(number)
            problem = self.steps.problems[number]
            groups = sorted(problem.groups, key=lambda group: group.key)[-MOST:]
            return _problem(number, problem) | {"groups": self._groups(groups)}

    def evaluation(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Samples of an evaluation for which a filter holds."""
        with self.lock:
            samples = self.evaluations.samples(asked.get("name", ""))
            end = time.monotonic() + SECONDS
            while samples.poll(SHARE) and time.monotonic() < end:
                pass
            numbers = samples.where(asked.get("filter", ""))
            found = _window(
                asked,
                numbers,
                lambda number: {"number": number} | _sample(samples.record(number)),
            )
            return found | {"behind": samples.behind}

    def transcript(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """A transcript as HTML that is safe, with its images."""
        with self.lock:
            if "evaluation" in asked:
                samples = self.evaluations.samples(asked["evaluation"])
                record = samples.record(_whole(asked, "number"))
            else:
                step = self.steps.steps[_whole(asked, "epoch"), _whole(asked, "batch")]
                group, number = _whole(asked, "group"), _whole(asked, "number")
                if group >= len(step.groups) or number >= len(step.groups[group].places):
                    raise KeyError(number)
                record = step.groups[group].records()[number]
        images = Thumbnails()
        return {
            "title": f"{line(record.id, 80)}, sample {record.sample}",
            "html": transcript(record, images),
            "images": images.data,
        }

    def _groups(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        places = self._places()
        return [
            {"group": self.steps.steps[group.key].groups.index(group), "place": places[group.key]}
            | _group(group)
            for group in groups
        ]


def _group(group: Group) -> dict[str, Any]:
    records = group.records()
    first = records[0]
    return {
        "epoch": group.key[0],
        "batch": group.key[1],
        "problem": group.problem,
        "id": line(first.id, 80),
        "text": clean(first.statement, 2000),
        "gold": line(first.gold, 80),
        "rewards": {line(role, 40): group.reward(role) for role in group.scored},
        "samples": [_sample(record) for record in records],
    }


def _step(step: Step, place: int) -> dict[str, Any]:
    epoch, batch = step.key
    return {"epoch": epoch, "batch": batch, "place": place, "step": step.step} | step.metrics()


def _problem(number: int, problem: Problem) -> dict[str, Any]:
    groups = problem.groups
    samples = sum(len(group.places) for group in groups)
    return {
        "number": number,
        "id": line(problem.id, 80),
        "text": problem.text,
        "times": len(groups),
        "right": sum(group.right for group in groups),
        "samples": samples,
    }


def _sample(record: Record) -> dict[str, Any]:
    """What a list shows of a sample; all of it is text or numbers."""
    return {
        "id": line(record.id, 80),
        "sample": record.sample,
        "text": line(record.problem, 160),
        "gold": line(record.gold, 60),
        "answer": None if record.answer is None else line(record.answer, 60),
        "correct": record.correct,
        "truncated": record.truncated,
        "error": None if record.error is None else line(record.error, 200),
        "tokens": record.tokens,
        "rewards": _scores(record.rewards),
        "advantages": _scores(record.advantages),
    }


def _scores(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {line(role, 40): _finite(value) for role, value in scores.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _meaning(name: str, samples: bool) -> str:
    """What a metric of a run means, which samples rollouts or learns from rows."""
    own = name.removeprefix("train/")
    first = GROUPS["GRPO" if samples else "Fine-tuning"][1] if own != name else {}
    if name.startswith("eval/"):
        own = name.split("/", 2)[-1]
    return (first.get(own) or meaning(own) or "").replace("`", "")


def _whole(asked: Mapping[str, str], name: str) -> int:
    """A number of 0 or more. Raises ValueError for anything else."""
    text = asked.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(f"{name} is a number of 0 or more, not {text!r:.40}")
    return int(text)


def _window(asked: Mapping[str, str], found: Any, shown: Any) -> dict[str, Any]:
    """Some of what was found, beginning at a number, and how many there are."""
    begin = _whole(asked, "from") if "from" in asked else 0
    count = min(_whole(asked, "count") if "count" in asked else ROWS, ROWS)
    rows = list(map(shown, found[begin : begin + count]))
    return {"total": len(found), "from": begin, "rows": rows}
