"""Untrusted text on a terminal: neither markup nor control characters of it have an effect."""

from __future__ import annotations

from typing import Any

from rich.text import Text


def plain(value: Any, limit: int = 60) -> str:
    """One line without control characters, cut short."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + " ..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cell(value: Any, limit: int = 60) -> Text:
    """The same as a cell of a table, which would read a string as markup."""
    return Text(plain(value, limit))


def encodable(text: str) -> str:
    """Text that UTF-8 has bytes for: halves of surrogate pairs are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
