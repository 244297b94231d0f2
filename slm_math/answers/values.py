"""The kinds of values that an answer can have, and the readers of numbers and text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from slm_math.answers.arithmetic import Undefined, approximate
from slm_math.answers.expressions import MAX_LENGTH, Node, Unread, read
from slm_math.answers.phrases import phrase
from slm_math.answers.units import split_units
from slm_math.patterns import lazy_pattern

_BASES = {
    name: base
    for base, name in enumerate(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 2
    )
}
_BASED = lazy_pattern(
    r"(-?)\s*(?:\\text\{|\()?([0-9A-Z]*[0-9][0-9A-Z.]*)[})]?\s*"
    r"(?:_\s*\{?\s*(?:\\text\{)?\s*(?:base\s*)?|(?:\\text\{)?\s*(?:in\s+)?base\s*\}?\s*)"
    r"(\d{1,2}|[a-z]{3,5})\s*\}{0,2}",
    re.IGNORECASE,
)
_MIXED = lazy_pattern(
    r"(-?)\s*(\d+)(?: |(?=\\frac)|\s*\\text\{\s*and\s*\}\s*| and )"
    r"\s*(?:\\frac\{(\d+)\}\{(\d+)\}|(\d+)\s*/\s*(\d+))"
)
_SCIENTIFIC = lazy_pattern(r"([-+]?(?:\d+\.?\d*|\.\d+))[eE]([-+]?\d{1,3})")
_REPEATING = lazy_pattern(
    r"(-?)(\d*)\.(\d*?)"
    r"(?:\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))|\((\d+)\)|(\d{1,6}?)\7{2,30}\\[cl]?dots)"
)
TEXT_GROUP = lazy_pattern(r"\\text\{([^{}]*)\}")
_WORDS = lazy_pattern(r"(?=.*[A-Za-z:])[A-Za-z0-9][A-Za-z0-9 '\-.:]*")
_STOP = lazy_pattern(r"(?<!\d)\.|\.(?!\d)")  # a full stop, not a decimal point
_CLOCK = lazy_pattern(r"\b0(\d:\d\d)\b")
_LETTER = lazy_pattern(r"\(?\s*(?:\\(?:text|vec)\{)?\s*\(?([A-Za-z])\)?\s*\}?\s*\)?")
_LETTERS = lazy_pattern(r"(?<![\\a-zA-Z])[a-zA-Z]+")
_MACRO = lazy_pattern(r"\\[a-zA-Z]+(?:\{[a-zA-Z]+\})?")
# `xy` is a product; longer runs of letters and capitals are text
PRODUCT = lazy_pattern(r"[a-z]{1,2}|[b-df-hj-np-tv-z]{3}")
_ENGLISH = frozenset(
    """a an and are as at be by can for from has if in is it no not of on or so than the to was
    with""".split()  # noqa: SIM905
)
_INFINITY = lazy_pattern(r"(?:\+|(-)|)\s*(?:\\infty|infty|infinity|inf)")


@dataclass(frozen=True)
class Scalar:
    """A number or an expression; `text` is its spelling without its percent sign and `unit`."""

    tree: Node
    text: str = field(default="", compare=False)
    percent: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Words:
    """Text in lower case. A single letter such as `(B)` is text, too."""

    text: str


@dataclass(frozen=True)
class Based:
    """A number written in another base than ten."""

    digits: str
    base: int


@dataclass(frozen=True)
class Bag:
    """An unordered collection; `kind` is "list", "set" or "union" (of intervals)."""

    items: tuple[Value, ...]
    kind: str = "list"


@dataclass(frozen=True)
class Bracketed:
    """A tuple, a vector or an interval: its ordered items and its brackets.

    `variable` is the variable of an inequality, if the interval was written as one.
    """

    opening: str
    items: tuple[Value, ...]
    closing: str
    variable: str = ""


@dataclass(frozen=True)
class Matrix:
    """A matrix of values, row by row."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Relation:
    """The `sides` of a relation, as text, and the `operators` between them.

    `name` is the left side of an assignment such as `x = 5` or `f(x) = 2x`.
    """

    sides: tuple[str, ...]
    operators: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True)
class Opaque:
    """Text that this package cannot read."""

    text: str


Value: TypeAlias = Scalar | Words | Based | Bag | Bracketed | Matrix | Relation | Opaque


def scalar(text: str, gold: bool = False) -> Scalar | None:
    """The number or expression that a text is; None if it cannot be read as one."""
    if len(text) > MAX_LENGTH:
        return None
    bare, percent, unit = split_units(text, gold)
    tree = _literal(bare)
    if tree is None:
        try:
            tree = read(bare)
        except Unread:
            return None
    return None if _is_text(bare, tree) else Scalar(tree, bare, percent, unit)


def real(value: Value) -> float | None:
    """A real number in double precision; None for other values."""
    if not isinstance(value, Scalar) or value.tree.names:
        return None
    try:
        number = approximate(value.tree, {})
    except Undefined:
        return None
    return number.real if abs(number.imag) < 1e-12 else None


def words(text: str) -> Words | None:
    """The text of an answer in words, or an infinity; None for mathematics."""
    letter = _LETTER.fullmatch(text)
    if letter:
        return Words(letter.group(1).lower())
    if infinite := _INFINITY.fullmatch(text):
        return Words(f"{infinite[1] or ''}infinity")
    inner = TEXT_GROUP.sub(r" \1 ", text)
    if inner == text and not _WORDS.fullmatch(text):
        return None
    if "\\" in inner or "{" in inner:
        return None
    return Words(phrase(" ".join(_CLOCK.sub(r"\1", _STOP.sub("", inner.casefold())).split())))


def plain(text: str) -> str:
    r"""The text without `\text{}` and without parentheses around the whole of it."""
    return TEXT_GROUP.sub(r"\1", text).strip("() ")


def _is_text(text: str, tree: Node) -> bool:
    """Whether a text is a word, a sentence or a capital letter, not a product of variables."""
    text = text.strip("()")
    if text.isalpha() and tree.kind in ("product", "variable") and not PRODUCT.fullmatch(text):
        return True
    runs = [run.lower() for run in _LETTERS.findall(_MACRO.sub(" ", text))]
    if any(len(run) > 4 or (len(run) > 1 and run in _ENGLISH) for run in runs):
        return True
    return sum(len(run) > 2 for run in runs) > 1


def _literal(text: str) -> Node | None:
    """A mixed number, a repeating decimal or one like 1e3, which the grammar would misread."""
    if (value := mixed(text)) is not None:
        return Node("number", value=value, name="mixed")
    if match := _REPEATING.fullmatch(text):
        shift = 10 ** len(match[3])
        whole = Fraction(int((match[2] + match[3]) or "0"), shift)
        block = next(filter(None, match.groups()[3:]))
        value = whole + Fraction(int(block), shift * (10 ** len(block) - 1))
        return Node("number", value=-value if match[1] else value, name="repeating")
    if match := _SCIENTIFIC.fullmatch(text):
        return Node("number", value=Fraction(text), name=match[1].lstrip("+-"))
    return None


def mixed(text: str) -> Fraction | None:
    """The value of a mixed number with a proper fraction; None for other texts."""
    match = _MIXED.fullmatch(text)
    if match is None:
        return None
    above, below = int(match[3] or match[5]), int(match[4] or match[6])
    if not 0 < above < below:
        return None
    value = int(match[2]) + Fraction(above, below)
    return -value if match[1] else value


def based(text: str, gold: bool) -> Value | None:
    """A number with its base, such as `101_2`; None for other texts. `gold` changes nothing."""
    match = _BASED.fullmatch(text)
    if match is None:
        return None
    base = int(match[3]) if match[3].isdigit() else _BASES.get(match[3].lower())
    return Based(match[1] + (match[2].upper().lstrip("0") or "0"), base) if base else None
