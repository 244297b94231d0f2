"""Problems named on the command line: a file or folder of rows of any shape, or a source and its
split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from slm_math.data import sources
from slm_math.data.base import Source, Split
from slm_math.data.files import FORMATS, Row, read_rows
from slm_math.types import Problem

FIELDS = (
    "problem",
    "question",
    "prompt",
    "instruction",
    "query",
    "text",
    "messages",
    "conversation",
)
_NAMED = re.compile(r"([A-Za-z_][\w.]*):(\w+)(?:=(.+))?")


def problems_of(side: str) -> list[Problem]:
    """The problems of a file, a folder, or a source like `GSM8K:train`, `MATH500:test=/local/copy`,
    `my.Source:train`.

    Raises ValueError or FileNotFoundError, which say what is wrong and what to name instead.
    """
    path = Path(side).expanduser()
    if path.exists():
        problems = [_problem(row) for file in _files(path) for row in read_rows(file)]
    elif named := _NAMED.fullmatch(side):
        problems = [
            task.problem for task in _source(named[1], named[3]).tasks(cast(Split, named[2]))
        ]
    else:
        raise ValueError(
            f"{side} is no file or folder: name one, or a source and its split, such as GSM8K:train"
        )
    if not problems:
        raise ValueError(f"{side} holds no problems")
    return problems


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in FORMATS and file.is_file())
    if not files:
        raise ValueError(f"{path}: no file ending in {', '.join(FORMATS)} in this folder")
    return files


def _source(name: str, path: str | None) -> Source:
    """A source by the name of its class in `slm_math.data.sources`, or by the dotted path of one's
    own.
    """
    module, _, kind = name.rpartition(".")
    try:
        found: Any = getattr(import_module(module) if module else sources, kind, None)
    except ImportError as error:
        raise ValueError(f"source {name}: cannot import {module} ({error})") from error
    if not (isinstance(found, type) and issubclass(found, Source) and found is not Source):
        known = sorted(
            k for k, v in vars(sources).items() if isinstance(v, type) and issubclass(v, Source)
        )
        own = ", ".join(k for k in known if k != "Source")
        raise ValueError(
            f"{name} is no source: name one of {own}, or the dotted path of your own class"
        )
    try:
        return found(path=path) if path is not None else found()
    except TypeError as error:
        hint = f"name its data, {name}:<split>=PATH" if path is None else "it takes no path"
        raise ValueError(f"source {name}: {error}; {hint}") from error


def _problem(row: Row) -> Problem:
    name = next((name for name in FIELDS if row.fields.get(name)), None)
    if name is None:
        raise ValueError(
            f"{row.place}: none of the fields {', '.join(FIELDS)}; it has "
            f"{', '.join(row.fields) or 'none'}"
        )
    value = row.fields[name]
    if isinstance(value, list):
        text = next(_asked(value), None)
        if not text:
            raise row.error(name, "has no message of the user with text")
    else:
        text = row.text(name)
    id = row.fields.get("id", row.fields.get("unique_id"))
    return Problem(str(id) if isinstance(id, (str, int)) else row.place, text)


def _asked(messages: list[Any]) -> Iterator[str]:
    """The user's messages; a content in parts by the text of its parts."""
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
