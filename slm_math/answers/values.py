"""The structure of an answer: a number with its units, text, a list, a tuple or interval, a matrix, a relation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from slm_math.answers.expressions import MAX_LENGTH, Node, Unread, read
from slm_math.answers.latex import closing, split_top, strip_braces
from slm_math.answers.units import split_units

_SEPARATOR = re.compile(r"[,;]|\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])")
_UNION = re.compile(r"\\cup(?![a-zA-Z])")
_RELATION = re.compile(r"=|<|>|\\(?:le|ge|ne|in|approx|equiv|to|sim)(?![a-zA-Z])")
_COMMA = re.compile(r"[,;]")
_ROW, _CELL = re.compile(r"\\\\"), re.compile(r"&")
_MATRIX = re.compile(r"\\begin\{([pb]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_THOUSANDS = re.compile(r"[-+＄ ]*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])[^,;]*")
_BASED = re.compile(r"(-?[0-9A-Z]*[0-9][0-9A-Z.]*)_(?:\{(\d{1,2})\}|(\d{1,2}))", re.IGNORECASE)
_MIXED = re.compile(
    r"(-?)\s*(\d+)(?: |(?=\\frac)|\s*\\text\{\s*and\s*\}\s*| and )\s*(?:\\frac\{(\d+)\}\{(\d+)\}|(\d+)\s*/\s*(\d+))"
)
_SCIENTIFIC = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))[eE]([-+]?\d{1,3})")
_REPEATING = re.compile(r"(-?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_TEXT_GROUP = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"(?=.*[A-Za-z:])[A-Za-z0-9][A-Za-z0-9 '\-.:]*")
_LETTER = re.compile(r"\(?\s*(?:\\text\{)?\s*\(?([A-Za-z])\)?\s*\}?\s*\)?")
_INFINITY = re.compile(r"(?:\+|(-)|)\s*(?:\\infty|infty|infinity|inf)")
_VARIABLE = re.compile(r"[a-zA-Z](?:_(?:\w|\{\w+\}))?'?|\\(?:theta|alpha|beta|lambda|phi|omega)")
_FUNCTION_OF = re.compile(r"[a-zA-Z](?:\^\{-1\})?'?\s*\([a-zA-Z, ]+\)")


@dataclass(frozen=True)
class Scalar:
    """One number or expression; `text` is its spelling without the percent sign and the known `units` beside it."""

    tree: Node
    text: str = field(default="", compare=False)
    percent: bool = False
    units: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Words:
    """Text, folded; a letter such as `(B)` is text too."""

    text: str


@dataclass(frozen=True)
class Based:
    digits: str
    base: int


@dataclass(frozen=True)
class Bag:
    """A bare list, a set or a union: complete, in any order. `alternatives` when joined by "or"."""

    items: tuple[Value, ...]
    union: bool = False


@dataclass(frozen=True)
class Row:
    """A tuple, a vector or an interval: ordered, with its brackets."""

    opening: str
    items: tuple[Value, ...]
    closing: str


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Relation:
    """`sides` joined by `operators`, as text; `name` is the left side of an assignment such as x = 5 or f(x) = 2x."""

    sides: tuple[str, ...]
    operators: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True)
class Opaque:
    """What this module cannot read."""

    text: str


Value: TypeAlias = Scalar | Words | Based | Bag | Row | Matrix | Relation | Opaque


def parse(text: str, gold: bool = False) -> Value:
    """The structure of a normalised answer. A reference answer (`gold`) may carry only units that are known as such."""
    text = strip_braces(text.strip())
    if _THOUSANDS.fullmatch(text) and isinstance(number := scalar(text, gold), Scalar):
        return number
    for reader in (_matrix, _set, _union, _list, _relation, _row, _either_sign, _based):
        value = reader(text, gold)
        if value is not None:
            return value
    return scalar(text, gold) or words(text) or Opaque(text)


def scalar(text: str, gold: bool = False) -> Scalar | None:
    if len(text) > MAX_LENGTH:
        return None
    bare, percent, units = split_units(text, gold)
    tree = _literal(bare)
    if tree is None:
        try:
            tree = read(bare)
        except Unread:
            return None
    return None if _is_text(bare, tree) else Scalar(tree, bare, percent, units)


def words(text: str) -> Words | None:
    letter = _LETTER.fullmatch(text)
    if letter:
        return Words(letter.group(1).lower())
    if infinite := _INFINITY.fullmatch(text):
        return Words(f"{infinite[1] or ''}infinity")
    inner = _TEXT_GROUP.sub(r" \1 ", text)
    if inner == text and not _WORDS.fullmatch(text):
        return None
    if "\\" in inner or "{" in inner:
        return None
    return Words(re.sub(r"[\s.]+", " ", inner.casefold().replace(".", "")).strip())


def plain(text: str) -> str:
    r"""Without `\text{}` and parentheses around the whole."""
    return _TEXT_GROUP.sub(r"\1", text).strip("() ")


def _is_text(text: str, tree: Node) -> bool:
    """A word or a capital letter that happens to read as a product of variables."""
    text = text.strip("()")
    return text.isalpha() and (len(text) > 1 or text.isupper()) and tree.kind in ("product", "variable")


def _literal(text: str) -> Node | None:
    """Mixed numbers, repeating decimals and 1e3: numbers that LaTeX's grammar would read as something else."""
    if found := _MIXED.fullmatch(text):
        above, below = int(found[3] or found[5]), int(found[4] or found[6])
        if 0 < above < below:
            value = int(found[2]) + Fraction(above, below)
            return Node("number", value=-value if found[1] else value, name="mixed")
    if found := _REPEATING.fullmatch(text):
        shift = 10 ** len(found[3])
        whole = Fraction(int((found[2] + found[3]) or "0"), shift)
        value = whole + Fraction(int(found[4]), shift * (10 ** len(found[4]) - 1))
        return Node("number", value=-value if found[1] else value, name="repeating")
    if found := _SCIENTIFIC.fullmatch(text):
        return Node("number", value=Fraction(text), name="scientific")
    return None


def _items(text: str, gold: bool, separator: re.Pattern[str] = _SEPARATOR) -> tuple[Value, ...]:
    return tuple(parse(piece, gold) for piece in split_top(text, separator) if piece)


def _matrix(text: str, gold: bool) -> Value | None:
    found = _MATRIX.fullmatch(text)
    if found is None or "\\begin" in found[2]:
        return None
    rows = [row for row in split_top(found[2], _ROW) if row]
    return Matrix(tuple(tuple(parse(cell, gold) for cell in split_top(row, _CELL)) for row in rows))


def _set(text: str, gold: bool) -> Value | None:
    if not (text.startswith("\\{") and text.endswith("\\}")) or closing(text, 1) != len(text) - 1:
        return None
    inside = text[2:-2]
    return Opaque(text) if "|" in inside or ":" in inside else _flat(_items(inside, gold))


def _flat(items: tuple[Value, ...]) -> Bag:
    """`1 \\pm \\sqrt 2` inside a list is two of its members."""
    return Bag(
        tuple(i for item in items for i in (item.items if isinstance(item, Bag) and not item.union else (item,)))
    )


def _union(text: str, gold: bool) -> Value | None:
    pieces = split_top(text, _UNION)
    return Bag(tuple(parse(piece, gold) for piece in pieces), union=True) if len(pieces) > 1 else None


def _list(text: str, gold: bool) -> Value | None:
    if _MIXED.fullmatch(text):
        return None
    grouped = _TEXT_GROUP.fullmatch(text)
    if grouped and (number := scalar(grouped[1], gold)) and not number.tree.names:
        return number
    pieces = [piece for piece in split_top(grouped[1] if grouped else text, _SEPARATOR) if piece]
    if len(pieces) < 2:
        return None
    return _flat(tuple((words(piece) if grouped else None) or parse(piece, gold) for piece in pieces))


def _relation(text: str, gold: bool) -> Value | None:
    sides = split_top(text, _RELATION)
    if len(sides) < 2 or not all(sides):
        return None
    found, at = [], 0
    for left, right in pairwise(sides):
        at = text.index(left, at) + len(left)
        found.append(text[at : text.index(right, at)].strip())
        at = text.index(right, at)
    variable = bool(_VARIABLE.fullmatch(sides[0]))
    if found == ["\\in"] and variable:
        return parse(sides[1], gold)
    named = variable or _FUNCTION_OF.fullmatch(sides[0]) or words(sides[0])
    if found == ["="] and named:
        return Relation(tuple(sides), ("=",), sides[0].replace(" ", ""))
    return interval(sides, found, gold) or Relation(tuple(sides), tuple(found))


def interval(sides: list[str], operators: list[str], gold: bool = False) -> Row | None:
    """`2 < x \\le 7` as (2, 7] and `x > 3` as (3, \\infty); None for other relations."""
    less, more = ("<", "\\le"), (">", "\\ge")
    if all(op in more for op in operators):
        sides, operators = sides[::-1], [less[more.index(op)] for op in operators[::-1]]
    if not all(op in less for op in operators):
        return None
    if len(sides) == 2 and _VARIABLE.fullmatch(sides[0]):
        sides, operators = ["-\\infty", *sides], ["<", *operators]
    elif len(sides) == 2 and _VARIABLE.fullmatch(sides[1]):
        sides, operators = [*sides, "\\infty"], [*operators, "<"]
    if len(sides) != 3 or not _VARIABLE.fullmatch(sides[1]):
        return None
    brackets = ("(" if operators[0] == "<" else "[", ")" if operators[1] == "<" else "]")
    return Row(brackets[0], (parse(sides[0], gold), parse(sides[2], gold)), brackets[1])


def _row(text: str, gold: bool) -> Value | None:
    text = re.sub(r"^\\langle\s*(.*?)\s*\\rangle$", "⟨\\1⟩", text)
    if text.startswith("⟨"):
        return Row("⟨", _items(text[1:-1], gold, _COMMA), "⟩")
    if text[:1] not in ("(", "[") or closing(text, 0) != len(text) - 1:
        return None
    pieces = split_top(text[1:-1], _COMMA)
    if len(pieces) < 2 or not all(pieces):
        return None
    return Row(text[0], tuple(parse(piece, gold) for piece in pieces), text[-1])


def _either_sign(text: str, gold: bool) -> Value | None:
    if not re.search(r"\\[pm]{2}(?![a-zA-Z])", text) or not re.search(r"\\(?:pm|mp)(?![a-zA-Z])", text):
        return None
    flip = {"\\pm": ("+", "-"), "\\mp": ("-", "+")}
    both = (re.sub(r"\\(?:pm|mp)(?![a-zA-Z])", lambda m, i=i: flip[m.group()][i], text) for i in (0, 1))
    return Bag(tuple(parse(one, gold) for one in both))


def _based(text: str, gold: bool) -> Value | None:
    found = _BASED.fullmatch(text)
    if found is None:
        return None
    return Based(found[1].upper().lstrip("0") or "0", int(found[2] or found[3]))
