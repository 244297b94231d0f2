"""Problems that the command line names: a file or folder of rows of any format, or a data set and
its split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.benchmark_facts import BENCHMARKS
from slm_math.data.chat_forms import LISTS
from slm_math.data.columns import ANSWER, ID, PROBLEM, SOLUTION, question_of
from slm_math.data.files import FileRow, data_files, read_rows
from slm_math.data.named import source_class
from slm_math.types import Image, Problem, Task

FIELDS = (*PROBLEM, "text", *LISTS)
GOLDS = (*ANSWER, *SOLUTION)
SOLUTIONS = (*SOLUTION, "answer")  # with a gold in another field
# drafts are solutions to problems of other sets
_TEST_ONLY = tuple(n for n, f in BENCHMARKS.items() if f.test_only and f.reading != "draft")
_NAMED = re.compile(r"([A-Za-z_][\w.]*):(\w+)(?:=(.+))?")


def problems_of(side: str) -> list[Problem]:
    """The problems of a file, a folder, or a data set: `GSM8K:train`, `MATH500:test=/local/copy`,
    `my_package.Mine:train`; `benchmarks` are all that are only tested on.

    Raises ValueError or FileNotFoundError, with what is accepted, for anything else.
    """
    path = Path(side).expanduser()
    if side == "benchmarks" and not path.exists():
        return [problem for name in _TEST_ONLY for problem in problems_of(f"{name}:test")]
    if path.exists():
        problems = [_problem(row) for file in data_files(path) for row in read_rows(file)]
    elif named := _NAMED.fullmatch(side):
        tasks = read_tasks(_source(named[1], named[3]), cast(Split, named[2]), graded=False)
        problems = [task.problem for task in tasks]
    else:
        raise ValueError(
            f"{side} is neither a file, a folder, nor a data set and its split such as GSM8K:train "
            "(or benchmarks: all sets that are only tested on)"
        )
    if not problems:
        raise ValueError(f"{side} contains no problems")
    return problems


def tasks_of(file: Path) -> list[Task]:
    """The problems of a file of rows with their reference answers, each in the first of `FIELDS`,
    and of `GOLDS`, that the row has; a worked solution is in the first of `SOLUTIONS`.

    A gold may be anything (`check_tasks` reads it); a row without one has None.
    """
    return [task_of(row) for row in read_rows(file)]


def task_of(row: FileRow) -> Task:
    """The problem of one row, as `tasks_of` reads it. Raises ValueError with its place."""
    gold = next((name for name in GOLDS if name in row.fields), "")
    solution = next((name for name in SOLUTIONS if name in row.fields and name != gold), "")
    worked = row.fields.get(solution)
    if worked is None and isinstance(row.fields.get(gold), str):
        worked = row.fields[gold] if len(row.fields[gold].split("\n")) > 1 else None
    name = next((name for name in FIELDS if name in row.fields), None)
    if name is not None and row.fields[name] in ("", None):
        return Task(Problem(_id_of(row), ""), row.fields.get(gold), worked)
    return Task(_problem(row), row.fields.get(gold), worked)  # type: ignore[arg-type]


def _source(name: str, path: str | None) -> Source:
    """A data set by its name, with its defaults or the data at `path`."""
    kind: Any = source_class(name)
    try:
        return kind(path=path) if path is not None else kind()
    except TypeError as error:
        hint = "it takes no path" if path is not None else f"give its data as {name}:<split>=PATH"
        raise ValueError(f"data set {name}: {error}; {hint}") from error


def _problem(row: FileRow) -> Problem:
    """The problem of a row: its text is in the first of `FIELDS` that the row has."""
    name = next((name for name in FIELDS if row.fields.get(name)), None)
    if name is None:
        raise ValueError(
            f"{row.place}: none of the fields {', '.join(FIELDS)}; the row has "
            f"{', '.join(row.fields) or 'no fields'}"
        )
    value = row.fields[name]
    if isinstance(value, list):
        text = next(_user_texts(value), None)
        if not text:
            raise row.error(name, "has no user message with text")
    else:
        text = question_of(row, name)
    images = tuple(map(Image, row.texts("images")))
    return Problem(_id_of(row), text, choices=row.texts("choices"), images=images)


def _id_of(row: FileRow) -> str:
    """The id of a row, or its place if it has none."""
    id = next((row.fields[name] for name in ID if name in row.fields), None)
    return str(id) if isinstance(id, (str, int)) else row.place


def _user_texts(messages: list[Any]) -> Iterator[str]:
    """The texts of the user's messages; of a content in parts, the text parts."""
    for message in messages:
        if isinstance(message, dict) and message.get("role", message.get("from")) in (
            "user",
            "human",
        ):
            content = message.get("content", message.get("value"))
            if isinstance(content, list):
                content = "\n".join(
                    str(part["text"])
                    for part in content
                    if isinstance(part, dict) and "text" in part
                )
            if isinstance(content, str) and content.strip():
                yield content
