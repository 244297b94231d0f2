"""Parse an answer into a list, a set, an interval, a matrix, a relation or a single value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from slm_math.answers.arithmetic import rational
from slm_math.answers.expressions import Node, spell
from slm_math.answers.identity import identical
from slm_math.answers.latex import closing, split_top, split_with, strip_braces
from slm_math.answers.values import (
    PRODUCT,
    TEXT_GROUP,
    VARIABLE,
    Bag,
    Bracketed,
    Matrix,
    Opaque,
    Relation,
    Scalar,
    Value,
    Words,
    based,
    mixed,
    real,
    scalar,
    words,
)

# "1,000, 2,500": only a comma within a number has no blank after it
_SPACED = re.compile(r"\d,\d{3}(?!\d).*, |, .*\d,\d{3}(?!\d)")
_SPACED_SEPARATOR = re.compile(r",(?!\d{3}(?!\d))|;")
_SEPARATOR = re.compile(r"[,;]|\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])")
_UNION = re.compile(r"\\cup(?![a-zA-Z])")
_RELATION = re.compile(r"=|<|>|\\(?:le|ge|ne|in|approx|equiv|to|sim)(?![a-zA-Z])")
_TURNED = {">": "<", "\\ge": "\\le"}
_COMMA = re.compile(r"[,;]")
_ROW, _CELL = re.compile(r"\\\\"), re.compile(r"&")
_MATRIX = re.compile(
    r"\\begin\{([pb]?matrix|smallmatrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_THOUSANDS = re.compile(r"[-+＄ ]*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])[^,;]*")
_FUNCTION_OF = re.compile(
    r"[a-zA-Z](?:_\w)?(?:\^\{-1\})?'?\s*\([a-zA-Z, ]+\)"
    r"|[fghFGHpqT](?:\^\{-1\})?'{0,2}\s*\([-0-9a-z+., ]*\)|(?:\\Pr|[PE])\s*[(\[].*[)\]]"
)
_OUTWARD = re.compile(r"([\[\]])([^\[\]()]*,[^\[\]()]*)([\[\]])")
_LABEL = re.compile(r"(?:[a-zA-Z]+[ -])*[a-zA-Z]+|\\text\{[a-zA-Z' -]+\}")
_NAMED = re.compile(
    r"[A-Z]\^\{?(?:-1|T)\}?|\|[A-Z]{1,2}\||\[[A-Z]{3,4}\]"
    r"|m?\s*\\(?:angle|triangle|overline|vec)\s*\{?\s*[a-zA-Z]+\s*\}?|\([a-zA-Z](?:, ?[a-zA-Z])+\)"
)
_BUILT = re.compile(r"\s*[a-zA-Z](?: *\\in *\\mathbb *\{?R\}?)? *[|:](.*)")  # {x : x > 2}
_CASES = re.compile(r"\\begin\{cases\}(.*)\\end\{cases\}", re.DOTALL)
_WITHOUT = re.compile(r"\\mathbb *\{?R\}? *(?:\\setminus|\\backslash|-) *\\\{(.*)\\\}")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_EITHER_SIGN = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])")
_REALS = re.compile(r"\\mathbb\s*\{?R\}?|ℝ")


def parse(text: str, gold: bool = False) -> Value:
    """The structure of a normalized answer.

    In a reference answer (`gold`), only known units are read as units.
    """
    text = strip_braces(text.strip())
    if text in ("\\emptyset", "\\{\\}", "\\{ \\}"):
        return Bag((), "set")
    if _REALS.fullmatch(text):
        text = r"(-\infty, \infty)"
    if without := _WITHOUT.fullmatch(text):
        return _reals_without(without[1], gold) or Opaque(text)
    if _GROUPED.fullmatch(text):
        text = text.replace(" ", "")
    if (cases := _CASES.fullmatch(text)) and "&" not in text and "\\begin" not in cases[1]:
        return Bag(tuple(parse(row.strip(" ,"), gold) for row in split_top(cases[1], _ROW) if row))
    if _THOUSANDS.fullmatch(text) and isinstance(number := scalar(text, gold), Scalar):
        return number
    for reader in (_matrix, _set, _union, _list, _relation, _bracketed, _either_sign, based):
        value = reader(text, gold)
        if value is not None:
            return value
    return scalar(text, gold) or words(text) or Opaque(text)


def _items(text: str, gold: bool, separator: re.Pattern[str] = _SEPARATOR) -> tuple[Value, ...]:
    return tuple(parse(piece, gold) for piece in split_top(text, separator) if piece)


def _matrix(text: str, gold: bool) -> Value | None:
    matrix = _MATRIX.search(text) if text.endswith("}") and "\\begin" in text else None
    if matrix is None or matrix.end() < len(text) or "\\begin" in matrix[2]:
        return None
    before = re.sub(r"\s*(?:\\cdot|\\times)?\s*$", "", text[: matrix.start()])
    number = scalar(before)
    factor = rational(number.tree) if number else None
    if before == "-":
        factor = Fraction(-1)
    if before and factor is None:
        return None
    rows = [
        [parse(cell, gold) for cell in split_top(row, _CELL)]
        for row in split_top(matrix[2], _ROW)
        if row
    ]
    return Matrix(
        tuple(tuple(_times(cell, factor) if factor else cell for cell in row) for row in rows)
    )


def _times(cell: Value, factor: Fraction) -> Value:
    """A cell of a matrix, multiplied by the factor before the matrix."""
    if not isinstance(cell, Scalar):
        return Opaque("")
    value = rational(cell.tree)
    number = Node("number", value=value * factor) if value is not None else None
    tree = number or Node("product", (Node("number", value=factor), cell.tree))
    return Scalar(tree, spell(tree), cell.percent, cell.unit)


def _set(text: str, gold: bool) -> Value | None:
    if not (text.startswith("\\{") and text.endswith("\\}")) or closing(text, 1) != len(text) - 1:
        return None
    inside = text[2:-2]
    if built := _BUILT.fullmatch(inside):
        condition = parse(built[1], gold)
        if isinstance(condition, Bracketed):
            is_interval = bool(condition.variable)
        else:
            is_interval = isinstance(condition, Bag) and condition.kind == "union"
        return condition if is_interval else Opaque(text)
    if "|" in inside or ":" in inside:
        return Opaque(text)
    return Bag(tuple(dict.fromkeys(_flat(_items(inside, gold)))), "set")


def _reals_without(points: str, gold: bool) -> Value | None:
    """All real numbers except some points, as a union of intervals; None if one is not a number."""
    items = _flat(_items(points, gold))
    sized = ((size, item) for item in items if (size := real(item)) is not None)
    excluded = [item for _, item in sorted(sized, key=lambda pair: pair[0])]
    if not excluded or len(excluded) < len(items):
        return None
    ends = [Words("-infinity"), *excluded, Words("infinity")]
    return Bag(tuple(Bracketed("(", (low, high), ")") for low, high in pairwise(ends)), "union")


def _flat(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """The members of a list, with lists among them, such as `1 \\pm \\sqrt 2`, as their members."""
    members: list[Value] = []
    for item in items:
        members += item.items if isinstance(item, Bag) and item.kind == "list" else (item,)
    return tuple(members)


def _union(text: str, gold: bool) -> Value | None:
    pieces = split_top(text, _UNION)
    return Bag(tuple(parse(piece, gold) for piece in pieces), "union") if len(pieces) > 1 else None


def _list(text: str, gold: bool) -> Value | None:
    if mixed(text) is not None:
        return None
    grouped = TEXT_GROUP.fullmatch(text)
    if grouped and (number := scalar(grouped[1], gold)) and not number.tree.names:
        return number
    separator = _SPACED_SEPARATOR if _SPACED.search(text) else _SEPARATOR
    pieces = [piece for piece in split_top(grouped[1] if grouped else text, separator) if piece]
    if len(pieces) < 2:
        return None
    items = tuple((words(piece) if grouped else None) or parse(piece, gold) for piece in pieces)
    return _conditions(text, items) or Bag(_flat(items))


def _conditions(text: str, items: tuple[Value, ...]) -> Value | None:
    """`x < -2 or x > 3` as a union, `x > 2 and x < 6` as an interval; None for other items."""
    rows = [item for item in items if isinstance(item, Bracketed) and item.variable]
    if len(rows) != len(items) or len({row.variable for row in rows}) > 1:
        return None
    if re.search(r"(?<![a-zA-Z])or(?![a-zA-Z])", text):
        return Bag(tuple(rows), "union")
    above = [row for row in rows if row.items[1] == Words("infinity")]
    below = [row for row in rows if row.items[0] == Words("-infinity")]
    if len(above) != 1 or len(below) != 1 or len(rows) != 2:
        return None
    low, high = above[0].items[0], below[0].items[1]
    start, stop = real(low), real(high)
    # "x < -2, x > 3": no number fulfills both, so the comma means "or"
    if "," in text and start is not None and stop is not None and start >= stop:
        return Bag(tuple(rows), "union")
    return Bracketed(above[0].opening, (low, high), below[0].closing, rows[0].variable)


def _relation(text: str, gold: bool) -> Value | None:
    sides, operators = split_with(text, _RELATION)
    if len(sides) < 2 or not all(sides):
        return None
    starts_with_variable = bool(VARIABLE.fullmatch(sides[0]))
    if operators == ["\\in"] and starts_with_variable:
        domain = parse(sides[1], gold)
        return replace(domain, variable=sides[0]) if isinstance(domain, Bracketed) else domain
    if set(operators) == {"="}:
        if len(sides) > 2 and all(VARIABLE.fullmatch(side) for side in sides[:-1]):  # x = y = 2
            return Bag(tuple(_assignment(side, sides[-1]) for side in sides[:-1]))
        if len(sides) == 2 and VARIABLE.fullmatch(sides[1]) and not starts_with_variable:  # 5 = x
            sides = sides[::-1]
        if _is_name(sides[0]) and _links_agree(sides[1:]):
            return _assignment(sides[0], sides[-1])
    return interval(sides, operators, gold) or Relation(tuple(sides), tuple(operators))


def _assignment(name: str, value: str) -> Relation:
    return Relation((name, value), ("=",), name.replace(" ", ""))


def _is_name(side: str) -> bool:
    """Whether the left side of an equation names its right side: x, f(x), P(A), area, AB.

    Products such as ab and 2x are no names.
    """
    if VARIABLE.fullmatch(side) or _FUNCTION_OF.fullmatch(side) or _NAMED.fullmatch(side):
        return True
    return bool(_LABEL.fullmatch(side)) and not PRODUCT.fullmatch(side)


def _links_agree(sides: list[str]) -> bool:
    """Whether the numbers in a chain `= 10/4 = 2.5` agree, so that its last side is its value."""
    values = [scalar(side) for side in sides]
    last = values[-1]
    numbers = [value for value in values[:-1] if value is not None and not value.tree.names]
    return not numbers or (
        last is not None and all(identical(n.tree, last.tree) is not False for n in numbers)
    )


def rising(sides: Sequence[str], operators: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sides and operators of a chain of comparisons, in rising order: `a > b` as `b < a`.

    Other relations are returned unchanged.
    """
    if all(operator in _TURNED for operator in operators):
        return list(sides[::-1]), [_TURNED[operator] for operator in operators[::-1]]
    return list(sides), list(operators)


def interval(sides: list[str], operators: list[str], gold: bool = False) -> Bracketed | None:
    """`2 < x \\le 7` as (2, 7] and `x > 3` as (3, \\infty); None for other relations."""
    sides, operators = rising(sides, operators)
    if not all(operator in _TURNED.values() for operator in operators):
        return None
    if len(sides) == 2 and VARIABLE.fullmatch(sides[0]):
        sides, operators = ["-\\infty", *sides], ["<", *operators]
    elif len(sides) == 2 and VARIABLE.fullmatch(sides[1]):
        sides, operators = [*sides, "\\infty"], [*operators, "<"]
    if len(sides) != 3 or not VARIABLE.fullmatch(sides[1]):
        return None
    return Bracketed(
        opening="(" if operators[0] == "<" else "[",
        items=(parse(sides[0], gold), parse(sides[2], gold)),
        closing=")" if operators[1] == "<" else "]",
        variable=sides[1].replace(" ", ""),
    )


def _bracketed(text: str, gold: bool) -> Value | None:
    text = re.sub(r"^\\langle\s*(.*?)\s*\\rangle$", "⟨\\1⟩", text)
    if text.startswith("⟨"):
        return Bracketed("⟨", _items(text[1:-1], gold, _COMMA), "⟩")
    if half := _OUTWARD.fullmatch(text):  # ]0, 1[ and [0, 1[
        text = {"]": "(", "[": "["}[half[1]] + half[2] + {"[": ")", "]": "]"}[half[3]]
    if text[:1] not in ("(", "[") or closing(text, 0) != len(text) - 1:
        return None
    pieces = split_top(text[1:-1], _COMMA)
    if len(pieces) < 2 or not all(pieces):
        return None
    return Bracketed(text[0], tuple(parse(piece, gold) for piece in pieces), text[-1])


def _either_sign(text: str, gold: bool) -> Value | None:
    if not _EITHER_SIGN.search(text):
        return None
    signs = ({"\\pm": "+", "\\mp": "-"}, {"\\pm": "-", "\\mp": "+"})
    both = (_EITHER_SIGN.sub(lambda mark, sign=sign: sign[mark.group()], text) for sign in signs)
    return Bag(tuple(parse(one, gold) for one in both))
