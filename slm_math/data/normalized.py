"""The words of a problem: equal for two spellings of one problem, different for two problems."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any

from slm_math.answers.number_words import TENS, UNITS
from slm_math.patterns import lazy_pattern

# words that are numbers
COUNTS = frozenset((
    *UNITS, *TENS, "hundred", "thousand", "million", "billion",
    "half", "third", "quarter", "fifth", "twice", "thrice", "double", "triple", "dozen",
))  # fmt: skip
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
_KEPT = frozenset("-/*%()[]")  # Unicode calls them punctuation, here they are signs
_DASHES = lazy_pattern("[‐‑‒–—―−﹣－]")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_RAISED_DIGITS = lazy_pattern("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_PARTS = lazy_pattern("(?=[¼½¾⅐-⅞])")
_INVISIBLE = lazy_pattern("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_FONT = "text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname|mbox|hbox|rm|bf|it"
_SPACES = r"left|right|[bB]igg?[lr]?|quad|qquad|displaystyle|textstyle|limits|phantom|hspace|vspace"

# characters of which a text must have one for a rule to change it ("": nothing is certain), the
# rule, and its change; no rule writes such a character into a text that had none
_RULES = [
    (frozenset(needs), lazy_pattern(rule), new)
    for needs, rule, new in (
        ("\\", r"\\\\(?:\[[^\]\s]*\])?", " "),  # a new row
        (",", r"(?<=\d)(?:\{,\}|,\\!|\\,)(?=\d{3}(?!\d))", ","),
        (",", r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)", lambda match: match[0].replace(",", "")),
        ("$\\", r"(?<=\w)(?:\$|\\\))(?=-[^\W\d_]{2}|th\b)", ""),  # $x$-axis, $n$th
        ("\\$~", r"\\[,;:!> ()\[\]]|[$~]", " "),
        ("\\", rf"\\(?:{_SPACES})(?![a-zA-Z])\.?", " "),
        ("\\", rf"\\(?:{_FONT})(?![a-zA-Z])", " "),
        ("\\", r"\\([a-zA-Z]+)", lambda match: f" {_SAME.get(match[1], match[1])} "),
        ("", r"\bfrac\s*(\d)(?=\d|\s*\{)", r" frac \1 "),
        ("{", r"\{\s*(\w+(?:\.\d+)?)\s*\}", r" \1 "),
        ("{", r"\{([^{}]*[^\W\d_]{2}[^{}=+*/^<>\\-]*)\}", r" \1 "),  # words in braces
        ("'’", r"(?<=[^\W\d_])['’](?=[^\W\d_])", ""),
        ("-", r"(?<=[^\W\d_]{2})\s*-+\s*(?=[^\W\d_]{2})", " "),  # a hyphen or a dash, no minus
        ("-", r"(?<=[^\W_])-(?=[^\W\d_]{2})", " "),
        (".", r"(?<![\w.])\.(?=\d)", "0."),
        (".", r"(?<!\d)\.|\.(?!\d)", " "),
        ("", r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)", " "),
    )
]
_MARKS = frozenset().union(*(needs for needs, _, _ in _RULES))


class _Characters(dict[int, str]):
    """Code point -> replacement: letters, marks and digits stay, signs become words of their own,
    and all other characters become spaces.
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


@lru_cache(maxsize=1 << 15)  # a data set is read once per split, and again for comparisons
def normalized(text: str) -> str:
    """The words, numbers and signs of a text in lower case, separated by single spaces.

    Removes encoding differences (NFKC), punctuation, dollar signs, LaTeX spacing, sizes and fonts,
    and braces around a single item. `1,000` becomes `1000`, `\\frac12` equals `\\frac{1}{2}`, and
    `x²` equals `x^2`. Keeps numbers, signs, and round and square brackets, which distinguish
    problems.
    """
    text = text.lower() if text.isascii() else _composed(text)
    for rule, change in _rules(_MARKS.intersection(text)):
        text = rule.sub(change, text)
    return " ".join(text.translate(_CHARACTERS).split())


@cache
def _rules(marks: frozenset[str]) -> list[tuple[re.Pattern[str], Any]]:
    """The rules that may change a text with these characters."""
    return [(rule, change) for needs, rule, change in _RULES if not needs or needs & marks]


def _composed(text: str) -> str:
    """The text in NFKC and lower case."""
    text = _INVISIBLE.sub("", text)
    text = _RAISED_DIGITS.sub(lambda match: "^" + match[0].translate(_RAISED), text)
    text = _PARTS.sub(" ", text)  # 3½ is not 31/2
    text = _DASHES.sub("-", text)
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/").casefold()
