"""Answers in several aligned lines, which state several equations or one chain of them."""

from __future__ import annotations

import re

from slm_math.patterns import lazy_pattern

_LINES = lazy_pattern(
    r"\s*(?:\$\$?|\\\[)?\s*\\begin\{(aligned|gathered|split|align|gather|array|cases)(\*?)\}"
    r"(?:\[[tbc]\])?(?:\{[lcr|]*\})?(.*)\\end\{\1\2\}\s*(?:\$\$?|\\\])?\s*",
    re.DOTALL,
)
_BREAK = lazy_pattern(r"\\\\(?:\[[^\]]{0,10}\])?")
# `x^2 & x > 0`: a value and its condition, where `x & = 2` is one equation
_BY_CASES = lazy_pattern(r"[^&=<>]*&\s*(?!=|<|>|\\(?:le|ge|ne)|\s)[^&]*$")
_RELATION = lazy_pattern(r"=|\\(?:le|ge|ne)q?(?![a-zA-Z])|<|>")


def one_line(answer: str) -> str:
    r"""An answer of aligned equations as a list ("x = 2, y = 3") or, if lines continue, a chain.

    Matrices and definitions by cases are returned as they are.
    """
    lines = _LINES.fullmatch(answer) if "\\begin" in answer else None
    if lines is None or "\\begin" in lines[3] or "\\text" in lines[3]:
        return answer
    if any(map(_BY_CASES.match, _BREAK.split(lines[3]))):
        return answer
    rows = [row.replace("&", " ").strip(" \n\t,;.") for row in _BREAK.split(lines[3])]
    rows = [row for row in rows if row]
    if not all(map(_RELATION.search, rows)):
        return answer
    text = ""
    for row in rows:
        text += (" " if text and _RELATION.match(row) else ", " if text else "") + row
    return text
