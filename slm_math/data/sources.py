"""Text data sets: GSM8K, MATH without MATH-500, MATH-500, and worked solutions by a
teacher (CoT).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from slm_math.answers import gold_answer
from slm_math.data.base import Source, Split
from slm_math.data.files import HubFile, Row, fetch, read_rows, split_files
from slm_math.data.normalised import normalised
from slm_math.types import Problem, Task

_GSM8K, _GSM8K_AT = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
_MATH, _MATH_AT = "DigitalLearningGmbH/MATH-lighteval", "0530c78699ea5e8eb5530600900e1f328b48acad"
_MATH500 = HubFile(
    "HuggingFaceH4/MATH-500", "test.jsonl", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
)
_CALCULATION = re.compile(r"<<[^<>]*>>")


class GSM8K(Source):
    """Grade-school word problems: 7,473 to train on (`validation` of them held out), 1,319 to test.

    `path`: a folder with train and test files, or one file; JSONL, JSON or Parquet with `question`
    and `answer` as published. None reads `openai/gsm8k` from the hub. `limit` keeps the first
    problems of a split.
    """

    name = "gsm8k"

    def __init__(
        self, path: str | None = None, validation: float = 0.05, limit: int | None = None
    ) -> None:
        self.path, self.validation, self.limit = (
            _checked(path),
            _fraction(validation),
            _count(limit),
        )

    def tasks(self, split: Split) -> list[Task]:
        origin = _origin(split)
        rows = _rows(self.path, origin, self._hub_file(origin))
        tasks = [_gsm8k_task(f"{self.name}/{origin}/{i}", row) for i, row in enumerate(rows)]
        return _part(tasks, split, self.validation)[: self.limit]

    def hub_files(self) -> list[HubFile]:
        """What `tasks` reads from the hub; [] for local data."""
        return [] if self.path else [self._hub_file("train"), self._hub_file("test")]

    @staticmethod
    def _hub_file(origin: str) -> HubFile:
        return HubFile(_GSM8K, f"main/{origin}-00000-of-00001.parquet", _GSM8K_AT)


class MATH(Source):
    """Competition problems by subject and level: the 12,000 that are not in MATH-500, which is the
    test split.

    `path`: a folder with `train` and perhaps `test` (files with `problem` and `solution`, or the
    original tree `train/<subject>/<number>.json`), or one file. None reads the hub. `math500`: a
    local MATH-500; its problems are taken out by their text. It is needed for the test split and as
    soon as the original test split is trained on.
    """

    name = "math"

    def __init__(
        self,
        path: str | None = None,
        math500: str | None = None,
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        self.path, self.validation, self.limit = (
            _checked(path),
            _fraction(validation),
            _count(limit),
        )
        self.held_out = MATH500(math500)

    def tasks(self, split: Split) -> list[Task]:
        if split == "test":
            return self.held_out.tasks("test")[: self.limit]
        rows = _rows(self.path, "train", self._hub_file("train"))
        more = _rows(self.path, "test", self._hub_file("test"), required=False)
        tasks = [_math_task(f"{self.name}/train/{i}", row) for i, row in enumerate([*rows, *more])]
        if more or self.held_out.path:
            tasks = self._without_test_problems(tasks)
        return _part(tasks, split, self.validation)[: self.limit]

    def hub_files(self) -> list[HubFile]:
        """What `tasks` reads from the hub; [] for local data."""
        own = [] if self.path else [self._hub_file("train"), self._hub_file("test")]
        return [*own, *self.held_out.hub_files()]

    def _without_test_problems(self, tasks: list[Task]) -> list[Task]:
        test = {_key(task.problem.text) for task in self.held_out.tasks("test")}
        found = test & {_key(task.problem.text) for task in tasks}
        if self.path is None and found != test:
            raise ValueError(
                f"{len(test - found)} of MATH-500's problems not recognised in {_MATH}: they "
                f"would be trained on"
            )
        return [task for task in tasks if _key(task.problem.text) not in found]

    @staticmethod
    def _hub_file(origin: str) -> HubFile:
        return HubFile(_MATH, f"data/{origin}-00000-of-00001.parquet", _MATH_AT)


class MATH500(Source):
    """500 problems of MATH to test on, with level and subject; there is nothing to train on.

    `path`: the published `test.jsonl` or a folder that holds it (JSON, Parquet too). None reads
    `HuggingFaceH4/MATH-500` from the hub.
    """

    name = "math500"

    def __init__(self, path: str | None = None, limit: int | None = None) -> None:
        self.path, self.limit = _checked(path), _count(limit)

    def tasks(self, split: Split) -> list[Task]:
        if split != "test":
            raise ValueError(f"MATH-500 is a test set; it has no {split} split")
        rows = _rows(self.path, "test", _MATH500, any_name=True)
        return [_math500_task(f"{self.name}/test/{i}", row) for i, row in enumerate(rows)][
            : self.limit
        ]

    def hub_files(self) -> list[HubFile]:
        """What `tasks` reads from the hub; [] for local data."""
        return [] if self.path else [_MATH500]


class CoT(Source):
    """Worked solutions of a teacher model: JSONL with `question`, `ground_truth`, `solution`,
    `correct`.

    `path`: a file, or a folder whose files are read in the order of their names. `only_correct`
    leaves out rows with `correct: false`. A problem is held out for validation here exactly when it
    is in GSM8K or MATH.
    """

    name = "cot"

    def __init__(
        self,
        path: str,
        only_correct: bool = True,
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        file = _checked(path)
        assert file is not None
        self.path, self.only_correct = file, only_correct
        self.validation, self.limit = _fraction(validation), _count(limit)

    def tasks(self, split: Split) -> list[Task]:
        if split == "test":
            raise ValueError(
                f"{self.path}: worked solutions have no test split; test on GSM8K or MATH500"
            )
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.jsonl"))
        if not files:
            raise FileNotFoundError(f"{self.path}: there is no .jsonl file in this folder")
        rows = [row for file in files for row in read_rows(file)]
        tasks = [(row, _cot_task(f"{self.name}/train/{i}", row)) for i, row in enumerate(rows)]
        kept = [task for row, task in tasks if row.flag("correct", True) or not self.only_correct]
        return _part(kept, split, self.validation)[: self.limit]


def _gsm8k_task(id: str, row: Row) -> Task:
    question, answer = row.text("question"), row.text("answer")
    rationale, marked, gold = answer.rpartition("####")
    if not marked or not gold.strip():
        raise row.error("answer", "does not end in '#### <answer>'")
    gold = gold_answer(answer)
    return Task(
        Problem(id, question),
        gold,
        f"{plain_rationale(rationale)}\nThe answer is \\boxed{{{gold}}}.".strip(),
    )


def plain_rationale(text: str) -> str:
    """A GSM8K rationale without its calculator marks `<<48/2=24>>`."""
    return _CALCULATION.sub("", text).strip()


def _math_task(id: str, row: Row) -> Task:
    problem, solution = row.text("problem"), row.text("solution")
    gold = gold_answer(solution)
    if gold == solution.strip():
        raise row.error("solution", "has no \\boxed{} answer")
    return Task(Problem(id, problem, tags=_math_tags(row)), gold, solution)


def _math500_task(id: str, row: Row) -> Task:
    solution = row.text("solution") if row.fields.get("solution") else None
    problem = Problem(id, row.text("problem"), tags=_math_tags(row))
    return Task(problem, gold_answer(row.text("answer")), solution)


def _math_tags(row: Row) -> dict[str, str]:
    level, subject = row.fields.get("level"), row.fields.get("subject") or row.fields.get("type")
    tags = {} if level is None else {"level": str(level).removeprefix("Level ")}
    return tags | ({"subject": str(subject)} if subject else {})


def _cot_task(id: str, row: Row) -> Task:
    tags = {
        name: str(row.fields[name]) for name in ("dataset", "teacher_model") if row.fields.get(name)
    }
    gold = gold_answer(row.text("ground_truth"))
    return Task(Problem(id, row.text("question"), tags=tags), gold, row.text("solution"))


def _rows(
    path: Path | None, origin: str, hub: HubFile, required: bool = True, any_name: bool = False
) -> list[Row]:
    """The rows of the published split `origin` ("train" or "test"), local or from the hub.

    A single file is the split that its name begins with, else train. A training run never reads a
    test file by chance.
    """
    if path is None:
        return read_rows(fetch(hub, f"; or set `path` to a local copy of {hub.repo}"))
    if path.is_dir():
        files = split_files(path, origin)
    else:
        own = next((name for name in ("train", "test") if path.stem.startswith(name)), "train")
        files = [path] if any_name or own == origin else []
    if required and not files:
        raise FileNotFoundError(
            f"{path}: no {origin} split here; expected {origin}.jsonl, .json or .parquet"
        )
    rows = [row for file in files for row in read_rows(file)]
    if required and not rows:
        raise ValueError(f"{files[0]}: holds no rows")
    return rows


def _origin(split: Split) -> str:
    """The published split that a split is cut from."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not one of train, validation, test")
    return "test" if split == "test" else "train"


def _part(tasks: list[Task], split: Split, validation: float) -> list[Task]:
    """The training or the held-out part of the published training split; a test split as it is."""
    if _origin(split) == "test":
        return tasks
    return [
        task
        for task in tasks
        if _held_out(task.problem.text, validation) == (split == "validation")
    ]


def _held_out(text: str, fraction: float) -> bool:
    """Decided by the problem's text alone, however it is printed: the same in every data set,
    whatever the order.
    """
    digest = hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def _key(text: str) -> str:
    """A problem's text without blanks: two copies of a problem differ in line breaks only."""
    return "".join(text.split())


def _checked(path: str | None) -> Path | None:
    if path is not None and not Path(path).expanduser().exists():
        raise FileNotFoundError(f"{path} does not exist (path of a data set)")
    return Path(path).expanduser() if path is not None else None


def _fraction(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"validation must be a fraction in [0, 1), got {value}")
    return value


def _count(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be a positive number of problems, got {limit}")
    return limit
