"""Docstrings as Markdown: the text, and the meaning of each option under `Args:`."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_OPTION = re.compile(r"(\w+(?:, \w+)*): ?(.*)")
_CODE = re.compile(r"(`+[^`]+`+)")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")


@dataclass(frozen=True)
class Docstring:
    """`summary` is the first paragraph, `text` the paragraphs after it but for `Args:`, both as
    Markdown; `options` maps the names under `Args:` to their meanings, one line each.
    """

    summary: str = ""
    text: str = ""
    options: dict[str, str] = field(default_factory=dict)


def read_docstring(raw: str | None) -> Docstring:
    """The parts of a docstring; those of `None` are empty."""
    lines = inspect.cleandoc(raw or "").splitlines()
    text: list[str] = []
    options: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in lines:
        if line == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
            text += ["", line]
        elif not inside:
            text.append(line)
        elif match := re.fullmatch(r" {4}" + _OPTION.pattern, line):
            names = match[1].split(", ")
            options |= dict.fromkeys(names, match[2])
        elif names:
            options |= {name: f"{options[name]} {line.strip()}".strip() for name in names}
    summary, *rest = paragraphs(text) or [""]
    return Docstring(summary, "\n\n".join(rest), {k: escaped(v) for k, v in options.items()})


def paragraphs(lines: list[str]) -> list[str]:
    """Wrapped lines as one line per paragraph; lists stay lists, and indented blocks are code."""
    result: list[str] = []
    for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
        rows = block.splitlines()
        if all(row.startswith("    ") for row in rows):
            result.append("\n".join(["```", *(row[4:] for row in rows), "```"]))
            continue
        joined: list[str] = []
        for row in rows:
            if joined and not _ITEM.match(row):
                joined[-1] = f"{joined[-1]} {row.strip()}"
            else:
                joined.append(row)
        first = next((n for n, row in enumerate(joined) if _ITEM.match(row)), 0)
        if first:  # a list needs an empty line before it
            joined.insert(first, "")
        result.append("\n".join(map(escaped, joined)))
    return [each for each in result if each]


def escaped(text: str) -> str:
    """A line whose < outside of code spans begins no HTML."""
    return "".join(
        part if part.startswith("`") else re.sub(r"(?<!\\)<", r"\\<", part)
        for part in _CODE.split(text)
    )
