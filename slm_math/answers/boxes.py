r"""Find the boxes of a reply, such as `\boxed{5}` or `\boxed 5`, in one pass over the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slm_math.answers.spoken import Span

Box = tuple[Span, Span]  # the whole box, its content
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])[ \t]*")
_BARE_BOX = re.compile(r"[^\s{}$\\,;]+")
_JOIN = re.compile(
    r"(?:[\s,;$&*|/~()]|\\\\|\\[()\[\],;! ]|\\quad|\\qquad|\\text\{\s*(?:and|or)\s*\}"
    r"|\b(?:and|or|maybe|perhaps|possibly)\b|\b[a-zA-Z](?:_\{?\w\}?)? ?=)*"
)


def find_boxes(text: str, start: int, end: int) -> Iterator[Box]:
    """All outermost, balanced, non-empty boxes, in order."""
    first = _BOX.search(text, start, end) if "box" in text else None
    if first is None:
        return
    closing = _brace_pairs(text, first.start(), end)
    done = start
    for box in _BOX.finditer(text, first.start(), end):
        if box.start() < done:
            continue
        if box.end() < end and text[box.end()] == "{":
            close = closing.get(box.end())
            if close is None or not text[box.end() + 1 : close].strip():
                continue
            content, done = (box.end() + 1, close), close + 1
        else:
            bare = _BARE_BOX.match(text, box.end(), end)
            if bare is None:
                continue
            content, done = bare.span(), bare.end()
        yield (box.start(), done), content


def last_group(text: str, boxes: list[Box]) -> list[Box]:
    """The last box, together with the boxes before it if only separators stand between them."""
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        gap = text[box[0][1] : group[-1][0][0]]
        if len(gap) > 100 or not _JOIN.fullmatch(gap):
            break
        group.append(box)
    return group[::-1]


def _brace_pairs(text: str, start: int, end: int) -> dict[int, int]:
    """The position of each closed `{`, and of its `}`. Escaped braces are no delimiters."""
    pairs: dict[int, int] = {}
    open_braces: list[int] = []
    for brace in re.finditer(r"\\.|[{}]", text[start:end], re.DOTALL):
        position = start + brace.start()
        if brace.group() == "{":
            open_braces.append(position)
        elif brace.group() == "}" and open_braces:
            pairs[open_braces.pop()] = position
    return pairs
