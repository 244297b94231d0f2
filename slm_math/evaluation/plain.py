"""Untrusted text on a terminal: its markup and control characters have no effect."""

from __future__ import annotations

from typing import Any

from rich.text import Text


def plain(value: Any, limit: int = 60) -> str:
    """One line without control characters, shortened to `limit` characters."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + " ..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cell(value: Any, limit: int = 60) -> Text:
    """The same as a cell of a table; rich would interpret a string as markup."""
    return Text(plain(value, limit))


def encodable(text: str) -> str:
    """Text that UTF-8 can encode: halves of surrogate pairs are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
