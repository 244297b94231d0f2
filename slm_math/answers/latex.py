"""Normalize the LaTeX of an answer: no layout, one command per symbol, no math delimiters."""

from __future__ import annotations

import re

from slm_math.answers.characters import spelled_out
from slm_math.answers.spellings import PROGRAM_SPELLINGS, SPELLINGS
from slm_math.patterns import lazy_pattern

_SQRT = lazy_pattern(r"\\sqrt\s*([0-9a-zA-Z])")
_BLANKS = lazy_pattern(r"\s+")
_OUTER_BOX = lazy_pattern(r"\\(?:boxed|fbox)\s*\{")
_ROW_END = "\x00"  # stands for the two backslashes that end a row of a matrix
_ROW_SPACE = lazy_pattern(r"\x00\s*\[\s*-?[0-9.]+\s*(?:pt|em|ex|cm|mm|in)\s*\]")
_ESCAPED_BEGIN = "\\\\begin"
_ESCAPED_COMMAND = lazy_pattern(r"\\\\(?=[a-zA-Z]{2}|[{}%$,;!|()])")
_LEAD = lazy_pattern(
    r"^(?:=|\\(?:therefore|implies|[rR]ightarrow|Longrightarrow|hence)(?![a-zA-Z]))\s*(?=\S)"
)
_LABEL = lazy_pattern(
    r"(\\text\{)?\s*(?:the )?(?:final |correct )?(?:answer|ans\.?|result|solution|total)\s*\}?\s*:"
    r"\s*(?:\}\s*:?\s*)?",
    re.IGNORECASE,
)
_OPEN, _CLOSE = "([{", ")]}"


def normalize(text: str) -> str:
    """The canonical spelling of a short answer; `＄` marks currency and `°` marks degrees."""
    spellings = SPELLINGS if "\\" in text else PROGRAM_SPELLINGS
    if not text.isascii() or not text.isprintable():
        text = spelled_out(text)
    text = text.strip(" *`\n\t")
    if "\\\\" in text:
        text = _ROW_SPACE.sub(_ROW_END, _unescaped(text).replace("\\\\", _ROW_END))
    if text.count("$") == 1:  # a delimiter would have a partner
        text = text.replace("\\$", "$").replace("$", "＄")
    for needle, pattern, replacement in spellings:
        if needle in text:
            text = pattern.sub(replacement, text)
    if "\\" in text:
        text = _braced_arguments(_OUTER_BOX.sub("{", text))
    text = _BLANKS.sub(" ", text.replace(_ROW_END, "\\\\")).strip(' *`"').rstrip(" \\")
    while len(text) > 1 and text[-1] in ".,;:" and not text.endswith((".m.", "\\;")):
        text = text[:-1].rstrip()
    if text[:1] in "=\\" or ":" in text:
        text = _without_label(_LEAD.sub("", text))
    return strip_braces(text)


def _unescaped(text: str) -> str:
    r"""The text with `\frac` for `\\frac`: text that was escaped for JSON once too often.

    Two backslashes that end a row of a matrix stay.
    """
    if _ESCAPED_BEGIN in text:
        return text.replace("\\\\", "\\")
    return text if "\\begin" in text else _ESCAPED_COMMAND.sub(r"\\", text)


def _without_label(text: str) -> str:
    """The text without a label such as "Answer:" before it."""
    if label := _LABEL.match(text):
        opened = bool(label[1]) and "}" not in label[0]
        rest = text[label.end() :]
        return (label[1] if opened else "") + rest if rest.strip("{} ") else text
    return text


def _braced_arguments(text: str) -> str:
    r"""The text with braces around each argument of `\frac43`, `\frac 5{19}` and `\sqrt3`."""
    *heads, tail = _SQRT.sub(r"\\sqrt{\1}", text).split("\\frac")
    for head in reversed(heads):
        first, middle = _argument(tail, 0)
        second, end = _argument(tail, middle)
        tail = head + "\\frac" + (first + second + tail[end:] if first and second else tail)
    return tail


def _argument(text: str, at: int) -> tuple[str, int]:
    """The next LaTeX argument, in braces, and the position after it; ("", at) if there is none."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        return "", at
    if text[at] == "{":
        close = closing(text, at)
        return (text[at : close + 1], close + 1) if close else ("", at)
    command = re.match(r"\\(?:pi|theta|alpha|beta)(?![a-zA-Z])|[0-9a-zA-Z]", text[at : at + 8])
    return ("{" + command.group() + "}", at + command.end()) if command else ("", at)


def closing(text: str, at: int) -> int | None:
    """The position of the bracket that closes the one at `at`; None if there is none.

    Any kind of bracket closes any other, as in half-open intervals.
    """
    depth = 0
    for i in range(at, len(text)):
        if text[i] in _OPEN:
            depth += 1
        elif text[i] in _CLOSE:
            depth -= 1
            if depth == 0:
                return i
    return None


def strip_braces(text: str) -> str:
    """The text without grouping braces around the whole of it."""
    while (
        len(text) > 1 and text[0] == "{" and text[-1] == "}" and closing(text, 0) == len(text) - 1
    ):
        text = text[1:-1].strip()
    return text


def split_top(text: str, separators: re.Pattern[str]) -> list[str]:
    """The pieces between separators that stand outside all brackets."""
    return split_with(text, separators)[0]


def split_with(text: str, separators: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The pieces between separators outside all brackets, and these separators."""
    depth, last, skip = 0, 0, 0
    pieces: list[str] = []
    between: list[str] = []
    for i, char in enumerate(text):
        if i < skip:
            continue
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and (separator := separators.match(text, i)) and separator.end() > i:
            pieces.append(text[last:i].strip())
            between.append(separator.group())
            last = skip = separator.end()
    pieces.append(text[last:].strip())
    return pieces, between
