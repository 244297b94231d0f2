r"""Find the boxes of a reply, such as `\boxed{5}` or `\boxed 5`, in one pass over the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slm_math.answers.turns import Span
from slm_math.patterns import lazy_pattern

Box = tuple[Span, Span]  # the whole box, its content
# also `\framebox`, a slip (`\beginboxed`), and what JSON makes of an unescaped `\boxed`
_BOX = lazy_pattern(r"(?:\\(?:(?:begin)?boxed|f(?:rame)?box)|\x08oxed)(?![a-zA-Z])[ \t]*")
_SLIP = lazy_pattern(r"\{([^{}\\\n]*[^{}\\\s])\\\}")  # `\boxed{5\}`
_BARE_BOX = lazy_pattern(r"[^\s{}$\\,;]+")
# Boxes without an answer: the end of a proof, a percentage of confidence
_DECORATION = lazy_pattern(
    r"\s*(?:\\(?:checkmark|(?:black)?square|Box|qed|l?dots)|[✓✔✅■□∎]"
    r"|(?:\\text\{\s*)?q\.?e\.?d\.?(?:\s*\})?)\s*",
    re.IGNORECASE,
)
_CONFIDENCE = lazy_pattern(r"\bconfiden(?:ce|t)[^\n\\]{0,25}\Z", re.IGNORECASE)
_JOIN = lazy_pattern(
    r"(?:[\s,;$&*|/~()?!]|\\\\|\\[()\[\],;! ]|\\quad|\\qquad|\\text\{\s*(?:and|or)\s*\}"
    r"|\b(?:and|or|maybe|perhaps|possibly)\b|\b[a-zA-Z](?:_\{?\w\}?)? ?="
    r"|(?:[Pp]art )?\([a-z]\):?)*"
)


def find_boxes(text: str, start: int, end: int) -> Iterator[Box]:
    """All outermost, balanced, non-empty boxes, in order."""
    first = _BOX.search(text, start, end) if "box" in text or "\x08" in text else None
    if first is None:
        return
    closing = _brace_pairs(text, first.start(), end)
    done = start
    for box in _BOX.finditer(text, first.start(), end):
        if box.start() < done:
            continue
        if box.end() < end and text[box.end()] == "{":
            close = closing.get(box.end())
            slip = _SLIP.match(text, box.end(), end) if close is None else None
            if slip:
                content, done = slip.span(1), slip.end()
            elif close is None or not text[box.end() + 1 : close].strip():
                continue
            else:
                content, done = (box.end() + 1, close), close + 1
        else:
            bare = _BARE_BOX.match(text, box.end(), end)
            if bare is None:
                continue
            content, done = bare.span(), bare.end()
        if _DECORATION.fullmatch(text, *content) or _CONFIDENCE.search(
            text[max(start, box.start() - 40) : box.start()]
        ):
            continue
        yield (box.start(), done), content


def box_value(text: str, box: Box) -> str:
    """The content of a box; backslashes that JSON has escaped (`\\\\boxed`) are restored."""
    (opening, _), (start, end) = box
    value = text[start:end].strip()
    escaped = text[max(0, opening - 2) : opening]
    if escaped.endswith("\\") and escaped != "\\\\":  # not a line break before a box
        return value.replace("\\\\", "\\")
    return value


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
