"""Untrusted text on a terminal: its markup and control characters have no effect."""

from __future__ import annotations

import re
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.containers import Lines
from rich.measure import Measurement
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


class Name(Text):
    """A name or a path, which is broken behind its separators: single_shot becomes single_ and
    shot. Only what is longer than a whole line is broken elsewhere.
    """

    def pieces(self) -> list[str]:
        return re.findall(r"[^/_.:, -]*[/_.:, -]+|[^/_.:, -]+", self.plain)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max((cell_len(piece.rstrip()) for piece in self.pieces()), default=0)
        return Measurement(longest, cell_len(self.plain))

    def wrap(self, console: Console, width: int, *settings: Any, **options: Any) -> Lines:
        lines = [Text(style=self.style)]
        for piece in self.pieces():
            if lines[-1] and lines[-1].cell_len + cell_len(piece.rstrip()) > width:
                lines.append(Text(style=self.style))
            lines[-1].append(piece)
        options["overflow"] = "fold"
        wrapped = (Text.wrap(line, console, width, *settings, **options) for line in lines)
        return Lines(part for parts in wrapped for part in parts)


def as_name(value: Any, limit: int = 200) -> Name:
    """As `cell`, of a name or a path."""
    return Name(plain(value, limit))


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
