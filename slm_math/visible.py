"""Untrusted text as a terminal may show it: control characters are written as escapes.

Replies, output of programs, data files and answers of servers may hold anything, also sequences
that clear a terminal, change its title, or reorder what it shows. Files of records keep them as
they are (JSON escapes them); all that prints such text passes it through `visible`.
"""

from __future__ import annotations

import sys
import traceback
import unicodedata
from types import TracebackType


def visible(text: str, allowed: str = "\n\t") -> str:
    """The text with all control characters, those of bidirectional text and halves of surrogate
    pairs included, written as in a Python string: `\\x1b[2J`.
    """
    return "".join(
        char
        if char.isprintable() or char in allowed or unicodedata.category(char) == "Zs"
        else repr(char)[1:-1]
        for char in text
    )


def show_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A replacement of `sys.excepthook`: messages of errors may quote a reply."""
    lines = traceback.format_exception(kind, error, trace)
    print(visible("".join(lines)), end="", file=sys.stderr, flush=True)
