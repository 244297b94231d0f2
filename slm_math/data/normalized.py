"""The words of a problem, such that two printings of it agree and two problems do not."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WRITTEN = {
    "×": "times",
    "÷": "div",
    "·": "cdot",
    "≤": "le",
    "≥": "ge",
    "≠": "ne",
    "√": "sqrt",
    "∞": "infty",
}
_WRITTEN |= {
    "π": "pi",
    "θ": "theta",
    "°": "circ",
    "∠": "angle",
    "△": "triangle",
    "⋅": "cdot",
    "∘": "circ",
}
_SAME = {
    "leq": "le",
    "geq": "ge",
    "neq": "ne",
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "degree": "circ",
}
_KEPT = frozenset("-/*%()[]")  # punctuation to Unicode, signs to us
_DASHES = "‐‑‒–—―−﹣－"
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_FONT = "text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname|mbox|hbox|rm|bf|it"
_SPACES = r"left|right|[bB]igg?[lr]?|quad|qquad|displaystyle|textstyle|limits|phantom|hspace|vspace"

_RULES = [
    (re.compile(rule), new)
    for rule, new in (
        (r"\\\\(?:\[[^\]\s]*\])?", " "),  # a new row
        (r"(?<=\d)(?:\{,\}|,\\!|\\,)(?=\d{3}(?!\d))", ","),
        (r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)", lambda found: found[0].replace(",", "")),
        (r"(?<=\w)(?:\$|\\\))(?=-[^\W\d_]{2}|th\b)", ""),  # $x$-axis, $n$th
        (r"\\[,;:!> ()\[\]]|[$~]", " "),
        (rf"\\(?:{_SPACES})(?![a-zA-Z])\.?", " "),
        (rf"\\(?:{_FONT})(?![a-zA-Z])", " "),
        (r"\\([a-zA-Z]+)", lambda found: f" {_SAME.get(found[1], found[1])} "),
        (r"\bfrac\s*(\d)(?=\d|\s*\{)", r" frac \1 "),
        (r"\{\s*(\w+(?:\.\d+)?)\s*\}", r" \1 "),
        (r"\{([^{}]*[^\W\d_]{2}[^{}=+*/^<>\\-]*)\}", r" \1 "),  # words in braces
        (r"(?<=[^\W\d_])['’](?=[^\W\d_])", ""),
        (r"(?<=[^\W\d_]{2})\s*-+\s*(?=[^\W\d_]{2})", " "),  # a hyphen or a dash, no minus
        (r"(?<=[^\W_])-(?=[^\W\d_]{2})", " "),
        (r"(?<![\w.])\.(?=\d)", "0."),
        (r"(?<!\d)\.|\.(?!\d)", " "),
        (r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)", " "),
    )
]


class _Characters(dict[int, str]):
    """What becomes of a character: letters, marks and digits stay, signs stand alone, the rest is a
    blank.
    """

    def __missing__(self, code: int) -> str:
        char, kind = chr(code), unicodedata.category(chr(code))
        if char in _WRITTEN:
            new = f" {_WRITTEN[char]} "
        elif char in "{}":
            new = " ( " if char == "{" else " ) "
        elif kind == "Nd":
            new = str(unicodedata.digit(char))
        elif kind[0] in "LMN" or char == ".":
            new = char
        elif (kind[0] == "S" and char != "`") or char in _KEPT:
            new = f" {char} "
        else:
            new = " "
        self[code] = new
        return new


_CHARACTERS = _Characters()


@lru_cache(maxsize=1 << 15)  # a data set is read for several splits, and compared with others
def normalized(text: str) -> str:
    """A text's words, numbers and signs in lower case with single blanks between them.

    Gone are: how characters are encoded (NFKC), punctuation, dollar signs, LaTeX spacing, sizes and
    fonts, braces around one thing. `1,000` is `1000`, `\\frac12` is `\\frac{1}{2}`, `x²` is `x^2`;
    numbers, signs and round and square brackets survive, since problems differ in them.
    """
    text = _INVISIBLE.sub("", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: "^" + found[0].translate(_RAISED), text)
    text = re.sub("(?=[¼½¾⅐-⅞])", " ", text)  # 3½ is not 31/2
    text = re.sub(f"[{_DASHES}]", "-", text)
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").casefold()
    for rule, new in _RULES:
        text = rule.sub(new, text)
    return " ".join(text.translate(_CHARACTERS).split())
