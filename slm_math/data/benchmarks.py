"""Benchmarks of text by their names: `--source aime25`. The facts are in `benchmark_facts`.

Rows of their files (invented):

    {"id": 7, "problem": "Find the number of ...", "answer": "025"}                        AIME
    {"question": "Find all $x$ ...", "context": null, "final_answer": ["$2$, $-3$"],       Olympiad-
     "is_multiple_answer": true, "unit": null, "error": null, "subfield": "Algebra"}       Bench
    {"Body": "Ann has 4 pens.", "Question": "How many ...?", "Answer": "4", "Type": "Sum"} SVAMP
    {"body": "Ann has 4 pens.", "question": "How many ...?", "answer": "4 (pens)"}         ASDiv
    {"question": "...", "answer": "4+4=<<4+4=8>>8\\n#### 8", "id": 3, "instance": 0}       GSM-
                                                                                           Symbolic
    {"id": "gsm8k-7", "generator": "a model", "problem": "...", "steps": ["4+4=9"],        Process-
     "final_answer_correct": false, "label": 0}                                            Bench
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from slm_math.answers import extract, gold_answer
from slm_math.answers.verdicts import DECISIONS
from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.benchmark_facts import BENCHMARKS, Facts
from slm_math.data.files import FileRow, HubFile, fetch, read_rows, split_files
from slm_math.data.gsm8k import plain_rationale
from slm_math.data.published import checked_limit, existing_path, published_split, split_part
from slm_math.types import AnswerType, Draft, Problem, Task

HELD_OUT = 0.05  # of training problems, for validation
LONGEST_TAG = 80  # characters of the value of a tag
MEASURED = "1%"  # the error allowed in a quantity that was measured or rounded
_QUANTITY = re.compile(r"[-+]?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)")
_UNIT = re.compile(r"\s*\([^()]*\)\s*$")
_MIXED = re.compile(r"(-?\d+)_(\d+/\d+)")
_RIGHT, _WRONG = DECISIONS


class Benchmark(Source):
    """What the benchmarks share, which have classes of their own: aime24, aime25, svamp and others
    (docs/benchmarks.md lists them).

    Args:
        path: the benchmark's file, or a folder that holds `test.jsonl` (or JSON, Parquet, CSV). By
            default it comes from the hub.
        limit: keep only the first problems.
    """

    name = ""
    facts: ClassVar[Facts]

    def __init__(self, path: str | None = None, limit: int | None = None) -> None:
        if not self.name:
            raise ValueError(f"Benchmark has no problems: name one of {', '.join(BENCHMARKS)}")
        self.path, self.limit = existing_path(path), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        return self.readable(split)[0]

    def readable(self, split: Split) -> tuple[list[Task], list[tuple[str, str]]]:
        part = published_split(split)
        if part == "train":
            self._refuse_training(split)
        tasks: list[Task] = []
        left_out: list[tuple[str, str]] = []
        for number, row in enumerate(self._rows(part)):
            id = f"{self.name}/{part}/{number}"
            if reason := _reason(self.facts, row):
                left_out.append((id, f"{row.place}: {reason}"))
            else:
                tasks.append(_task(self.facts, id, row))
        return split_part(tasks, split, HELD_OUT)[: self.limit], left_out

    def about(self, split: Split) -> str:
        left_out = self.readable(split)[1]
        if not left_out or self.facts.left_out is None:
            return ""
        return f"{self.name}/{split}: {len(left_out)} problems {self.facts.left_out[2]}: left out"

    def hub_files(self) -> list[HubFile]:
        files = [self.facts.file, self.facts.train]
        return [] if self.path else [file for file in files if file is not None]

    def _refuse_training(self, split: Split) -> None:
        if self.facts.test_only:
            raise NoProblems(refusal(self.name, split))

    def _rows(self, part: str) -> Sequence[FileRow]:
        if self.path is None:
            hub = self.facts.file if part == "test" else self.facts.train
            assert hub is not None
            return read_rows(fetch(hub, f"; or set `path` to a local copy of {hub.repo}"))
        files = _local_files(self.path, part, self.facts)
        rows = [row for file in files for row in read_rows(file)]
        if not rows:
            # a copy of the test problems alone is complete for those who only test
            missing = NoProblems if part == "train" else FileNotFoundError
            raise missing(
                f"{self.path}: no {part} problems of {self.name} here, since the name of "
                f"their file begins with {part}: rename it, such as to {part}.jsonl"
            )
        return rows


def refusal(name: str, split: str) -> str:
    """Why there are no problems of a benchmark to train on."""
    return (
        f"{name} is a test set, which is never trained on: it has no {split} split (evaluate on "
        "split test)"
    )


def _local_files(path: Path, part: str, facts: Facts) -> list[Path]:
    """The files of a split: a file of a set that is only tested on is one whatever its name is;
    other names say of which split they are.
    """
    if path.is_dir():
        return split_files(path, part)
    own = "test" if facts.test_only or path.stem.startswith("test") else "train"
    return [path] if own == part else []


def _reason(facts: Facts, row: FileRow) -> str:
    """Why a row cannot be graded; "" if it can."""
    if facts.left_out is None:
        return ""
    name, value, reason = facts.left_out
    given = row.fields.get(name)
    found = str(given or "").strip() if given is not None else ""
    is_meant = found == value or (value == ";" and ";" in found)
    return reason if is_meant else ""


def _task(facts: Facts, id: str, row: FileRow) -> Task:
    text = " ".join(
        part.strip()
        for part in (_optional(row, facts.body), row.text(_present(row, facts.text)))
        if part
    )
    known = {tag: row.fields.get(name) for tag, name in facts.tags.items()}
    tags = {tag: _tag(str(value)) for tag, value in known.items() if value is not None}
    if facts.reading == "draft":
        return _draft_task(id, text, tags, row)
    gold, kind, tolerance = _gold(facts, row)
    if row.fields.get("unit"):
        text += f" (Unit: {row.text('unit').strip('$')})"
    return Task(Problem(id, text, kind, tags=tags), gold, _solution(row), tolerance)


def _tag(value: str) -> str:
    """The value of a tag; of a long text, such as the problem that others vary, a digest."""
    if len(value) <= LONGEST_TAG:
        return value
    return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _gold(facts: Facts, row: FileRow) -> tuple[str, AnswerType, str | None]:
    """The reference answer, its type and its tolerance."""
    name = _present(row, facts.gold)
    if facts.reading == "olympiad":
        gold = ", ".join(row.texts(name))
        error = row.fields.get("error")
        measured = error is not None and not row.fields.get("is_multiple_answer")
        return (gold, "num", str(error)) if measured else (gold, "math", None)
    gold = gold_answer(row.text(name)).strip()
    if facts.reading == "aime" and gold.isdigit():
        gold = str(int(gold))  # "025" is how a machine reads 25
    elif facts.reading == "unit":
        gold = _UNIT.sub("", gold)
    elif facts.reading == "mixed":
        gold = _MIXED.sub(r"\1 \2", gold)
    elif facts.reading == "measured" and _QUANTITY.fullmatch(gold):
        return gold, "num", MEASURED
    return gold, "math", None


def _draft_task(id: str, text: str, tags: dict[str, str], row: FileRow) -> Task:
    """The problem whether the answer of a solution is right. What ProcessBench labels, the first
    wrong step, is a tag: a wrong step may end in a right answer.
    """
    steps = row.texts("steps")
    if not steps:
        raise row.error("steps", "has no steps")
    solution = "\n\n".join(steps)
    first = row.fields.get("label")
    tags["first_error"] = "none" if first == -1 else str(first)
    answer = extract(solution).value or extract(steps[-1], last_number=True).value or ""
    problem = Problem(id, text, "verdict", tags=tags, draft=Draft(solution, answer))
    return Task(problem, _RIGHT if row.flag("final_answer_correct", False) else _WRONG)


def _solution(row: FileRow) -> str | None:
    """A worked solution, where the row has one beside its answer or in it."""
    solution, answer = row.fields.get("solution"), row.fields.get("answer")
    if isinstance(solution, str) and solution.strip():
        return solution
    if isinstance(answer, str) and "####" in answer:
        rationale = plain_rationale(answer.rpartition("####")[0])
        return f"{rationale}\nThe answer is \\boxed{{{gold_answer(answer)}}}."
    return None


def _present(row: FileRow, names: Sequence[str]) -> str:
    """The first of some names that the row has; the first of all, whose lack is then an error."""
    return next((name for name in names if row.fields.get(name) is not None), names[0])


def _optional(row: FileRow, names: Sequence[str]) -> str:
    found = next((name for name in names if row.fields.get(name)), None)
    return row.text(found) if found else ""


def _class_of(name: str, facts: Facts) -> type[Benchmark]:
    """The class of a benchmark, whose name is that of the benchmark, so that a config can name it
    as any other class.
    """
    options = (Benchmark.__doc__ or "").partition("Args:")[2]
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{facts.title}.\n\n    Args:{options}",
        "name": name,
        "facts": facts,
    }
    return type(name, (Benchmark,), members)


NAMED: dict[str, type[Benchmark]] = {name: _class_of(name, f) for name, f in BENCHMARKS.items()}
globals().update(NAMED)  # where a config's loader finds them
