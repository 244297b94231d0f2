"""Untrusted text on a terminal: its markup and control characters have no effect."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from slm_math.visible import visible


def plain(value: Any, limit: int = 60) -> str:
    """One line without control characters, shortened to `limit` characters."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + " ..."
    return visible(text, allowed="")


def cell(value: Any, limit: int = 60) -> Text:
    """The same as a cell of a table; rich would interpret a string as markup."""
    return Text(plain(value, limit))


def print_line(console: Console, text: str) -> None:
    """Prints a text, in which neither markup nor control characters have an effect."""
    console.print(Text(visible(text)), soft_wrap=True)


def encodable(text: str) -> str:
    """Text that UTF-8 can encode: halves of surrogate pairs are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def path_lines(path: str, width: int) -> list[str]:
    """A path in lines that end at its separators, so that no name in it is broken; a longer name
    has a line of its own.
    """
    lines = [""]
    for part in re.findall(r"[^/]*/|[^/]+", path):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines
