"""Values inside of rows, by dotted paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MISSING = object()


def lookup(value: Any, path: str) -> Any:
    """The value at a dotted path (`choices.0.message.content`), MISSING if there is none; names may
    contain dots, too. A star stands for every item: `choices.*.message` is a list.
    """
    if path.startswith("*.") and isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, dict):
        if path in value:
            return value[path]
        if "." not in path:  # most names of most rows
            return MISSING
        head, _, rest = path.partition(".")
        if "." not in rest:
            return lookup(value[head], rest) if head in value else MISSING
        dots = [index for index, char in enumerate(path) if char == "."]
        nested = (lookup(value[path[:dot]], path[dot + 1 :]) for dot in dots if path[:dot] in value)
        return next((item for item in nested if item is not MISSING), MISSING)
    if isinstance(value, list):
        index, _, rest = path.partition(".")
        if index == "*":
            items = [lookup(item, rest) if rest else item for item in value]
            return MISSING if MISSING in items else items
        if index.isdecimal() and int(index) < len(value):
            return lookup(value[int(index)], rest) if rest else value[int(index)]
    return MISSING


def first_of(row: Any, paths: tuple[str, ...]) -> tuple[str, Any]:
    """The first path that has a value, and the value; ("", None) if none has."""
    for path in paths:
        value = lookup(row, path)
        if value is not MISSING and value is not None:
            return path, value
    return "", None


def field_paths(value: Any, prefix: str = "", depth: int = 3) -> Iterator[str]:
    """The dotted paths in an object, for users to choose from."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:1])
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        nested = list(field_paths(item, f"{prefix}{key}.", depth - 1)) if depth > 1 else []
        yield from nested or [f"{prefix}{key}"]
