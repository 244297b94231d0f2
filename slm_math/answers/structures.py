"""Parse an answer into a list, a set, an interval, a matrix, a relation or a single value."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product

from slm_math.answers.approximation import without_approximations
from slm_math.answers.arithmetic import rational
from slm_math.answers.conditions import combined
from slm_math.answers.expressions import Node, spell
from slm_math.answers.identity import identical
from slm_math.answers.inequalities import interval
from slm_math.answers.intervals import difference, intersection, named, region, union
from slm_math.answers.latex import closing, split_top, split_with, strip_braces
from slm_math.answers.names import VARIABLE, is_name
from slm_math.answers.phrases import is_one_phrase
from slm_math.answers.quantities import compound
from slm_math.answers.values import (
    TEXT_GROUP,
    Bag,
    Bracketed,
    Matrix,
    Opaque,
    Relation,
    Scalar,
    Value,
    based,
    mixed,
    scalar,
    words,
)
from slm_math.patterns import lazy_pattern

# "1,000, 2,500": only a comma within a number has no blank after it
_SPACED = lazy_pattern(r"[1-9]\d{0,2},\d{3}(?!\d).*, |, .*[1-9]\d{0,2},\d{3}(?!\d)")
_SPACED_SEPARATOR = lazy_pattern(r",(?!\d{3}(?!\d))|;|(?<=\b0),")
_SEPARATOR = lazy_pattern(
    r"[,;]|\\text\{\s*,?\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z])"
)
_COMMON = lazy_pattern(r"\\cap(?![a-zA-Z])")
_UNION = lazy_pattern(r"\\cup(?![a-zA-Z])")
_RELATION = lazy_pattern(r"=|<|>|\\(?:le|ge|ne|in|approx|equiv|to|sim)(?![a-zA-Z])")
_COMMA = lazy_pattern(r"[,;]")
_ROW, _CELL = lazy_pattern(r"\\\\"), lazy_pattern(r"&")
_MATRIX = lazy_pattern(
    r"\\begin\{([pb]?(?:small)?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL
)
_GROUPS = r"[1-9]\d{0,2}(?:,\d{3})+"
_MONEY = r"(?:[＄€£¥₹₩]|(?:\\text\{ *)?(?:USD|EUR|GBP|INR|JPY|CNY|RMB|Rs\.?)(?: *\})?)"
_THOUSANDS = lazy_pattern(
    rf"[-+ ]*{_MONEY}?[-+＄ ]*{_GROUPS}(?:\.\d+)?(?![\d,])[^,;]*"
    rf"|-?\d[\d.]*\s*/\s*{_GROUPS}|-?{_GROUPS}\s*/\s*{_GROUPS}"
)
_OUTWARD = lazy_pattern(r"([\[\]])([^\[\]()]*,[^\[\]()]*)([\[\]])")
_BUILT = lazy_pattern(r"\s*[a-zA-Z](?:_\w)?(?: *\\in *\\mathbb *\{?R\}?)? *[|:](.*)")  # {x : x > 2}
_CASES = lazy_pattern(r"\\begin\{cases\}(.*)\\end\{cases\}", re.DOTALL)
_WITHOUT = lazy_pattern(
    r"\\(?:setminus|backslash|smallsetminus)(?![a-zA-Z])|(?<=[})\]R]) ?[-\\] ?(?=\\\{)"
)
_GROUPED = lazy_pattern(
    r"[-+]?[1-9]\d{0,2}(?:(?: \d{3})+(?:\.\d+)?|(?:'\d{3})+(?:\.\d+)?|(?:\.\d{3}){2,})"
)
_NAMED_REALS = lazy_pattern(
    r"(?:\\text\{)?\s*(?:the set of )?all real(?:s|(?: |-)numbers)"
    r"\s*(?:(?:except|other than|besides)(?: for)?\s*\}?(.+))?\}?"
)
_EXCLUDED = lazy_pattern(rf"({VARIABLE.pattern})\s*\\ne(?!.*\\ne)([^=<>]*)")
_CONDITION_WORD = lazy_pattern(
    r"\\text\{\s*(?:if|when|for|where)\s*\}|^(?:if|when|for)(?![a-zA-Z])"
)
_EITHER_SIGN = lazy_pattern(r"\\(?:pm|mp)(?![a-zA-Z])")
_OPPOSITE = {"+": "-", "-": "+"}
MAX_SIGNS = 3
_REALS = lazy_pattern(r"\\mathbb\s*\{?R\}?")
_ANGLES = lazy_pattern(r"\\langle((?:(?!\\langle).)*)\\rangle")
_WRAPPED = lazy_pattern(
    r"[(\[]\s*(\\begin\{(?:small)?(?:matrix|array)\}.*\\end\{\w+\})\s*[)\]]", re.DOTALL
)


def parse(text: str, gold: bool = False) -> Value:
    """The structure of a normalized answer.

    In a reference answer (`gold`), only known units are read as units.
    """
    text = strip_braces(text.strip())
    if text in ("\\emptyset", "\\{\\}", "\\{ \\}"):
        return Bag((), "set")
    if _REALS.fullmatch(text):
        text = r"(-\infty, \infty)"
    if "all real" in text and (reals := _NAMED_REALS.fullmatch(text)):
        points = rf" \setminus \{{{reals[1]}\}}" if reals[1] else ""
        text = rf"(-\infty, \infty){points}"
    if text.startswith("\\langle") and (angles := _ANGLES.fullmatch(text)):
        return Bracketed("⟨", _items(angles[1], gold, _COMMA), "⟩")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[ ']|\.(?=.*\.)|\.(?=\d{3}$)(?<=\d{3}\.)", "", text)
    if "\\begin" in text and (wrapped := _WRAPPED.fullmatch(text)):
        text = wrapped[1]
    if (cases := _CASES.fullmatch(text)) and "&" not in text and "\\begin" not in cases[1]:
        return Bag(tuple(parse(row.strip(" ,"), gold) for row in split_top(cases[1], _ROW) if row))
    if cases and "\\begin" not in cases[1]:
        return Bag(tuple(_case(row, gold) for row in split_top(cases[1], _ROW) if row))
    if _THOUSANDS.fullmatch(text) and isinstance(number := scalar(text, gold), Scalar):
        return number
    readers = (
        _matrix,
        _set,
        _operation,
        compound,
        _list,
        _either_sign,
        _relation,
        _bracketed,
        based,
    )
    for reader in readers:
        value = reader(text, gold)
        if value is not None:
            return value
    return scalar(text, gold) or words(text) or Opaque(text)


def _items(text: str, gold: bool, separator: re.Pattern[str] = _SEPARATOR) -> tuple[Value, ...]:
    return tuple(parse(piece, gold) for piece in split_top(text, separator) if piece)


def _case(row: str, gold: bool) -> Value:
    """A row of a function by cases: its value and its condition."""
    cells = split_top(row, _CELL)
    if len(cells) != 2 or cells[1].startswith("="):
        return parse(row.replace("&", ""), gold)
    value, condition = (_CONDITION_WORD.sub("", cell).strip(" ,.;") for cell in cells)
    return Bracketed("{", (parse(value, gold), parse(condition, gold)), "}")


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


def _flat(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """The members of a list, with lists among them, such as `1 \\pm \\sqrt 2`, as their members."""
    members: list[Value] = []
    for item in items:
        members += item.items if isinstance(item, Bag) and item.kind == "list" else (item,)
    return tuple(members)


def _operation(text: str, gold: bool) -> Value | None:
    """A union, an intersection or a difference of sets."""
    if "\\" not in text:
        return None
    pieces = split_top(text, _UNION)
    if len(pieces) > 1:
        return Bag(tuple(parse(piece, gold) for piece in pieces), "union")
    for sign, operation in ((_COMMON, intersection), (_WITHOUT, difference)):
        pieces = split_top(text, sign) if sign.search(text) else []
        if len(pieces) > 1:
            parts = [region(_as_set(parse(piece, gold))) for piece in pieces]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return Opaque(text)
            rows = known[0]
            for part in known[1:]:
                rows = operation(rows, part)
            return union(rows)
    return None


def _as_set(value: Value) -> Value:
    return Bag(value.items, "set") if isinstance(value, Bag) and value.kind == "list" else value


def _list(text: str, gold: bool) -> Value | None:
    if mixed(text) is not None:
        return None
    if excluded := _EXCLUDED.fullmatch(text):
        return _all_but(excluded[1], excluded[2], gold)
    grouped = TEXT_GROUP.fullmatch(text)
    if grouped and is_one_phrase(grouped[1]):
        return None
    if grouped and (number := scalar(grouped[1], gold)) and not number.tree.names:
        return number
    separator = _SPACED_SEPARATOR if _SPACED.search(text) else _SEPARATOR
    pieces, between = split_with(grouped[1] if grouped else text, separator)
    if len(pieces) < 2:
        return None
    pieces, between = _filled(pieces, between)
    if len(pieces) < 2:
        return None
    items = tuple((words(piece) if grouped else None) or parse(piece, gold) for piece in pieces)
    return combined(items, between, parse) or Bag(_flat(items))


def _filled(pieces: list[str], between: list[str]) -> tuple[list[str], list[str]]:
    """The pieces that are not empty, and the separators between them: `, or` is one."""
    filled, separators = [], [""]
    for piece, separator in zip(pieces, [*between, ""]):
        if piece:
            filled.append(piece)
            separators.append(separator)
        else:
            separators[-1] += separator
    return filled, separators[1 : len(filled)]


def _all_but(variable: str, points: str, gold: bool) -> Value | None:
    """`x \\ne 0, 2` as a union of intervals; None if a point is not a number."""
    items = _flat(_items(points, gold))
    rows = region(Bag(items, "set")) if items else None
    everything = region(parse(r"\mathbb{R}"))
    if rows is None or everything is None:
        return None
    return named(union(difference(everything, rows)), variable)


def _relation(text: str, gold: bool) -> Value | None:
    sides, operators = split_with(text, _RELATION)
    if len(sides) == 2 and operators == ["\\approx"] and not sides[0] and sides[1]:
        return parse(sides[1], gold)
    if len(sides) < 2 or not all(sides):
        return None
    starts_with_variable = bool(VARIABLE.fullmatch(sides[0]))
    if operators == ["\\in"] and starts_with_variable:
        domain = parse(sides[1], gold)
        if isinstance(domain, Bracketed) or (isinstance(domain, Bag) and domain.kind == "union"):
            return named(domain, sides[0])
        return domain
    if operators == ["\\ne"] and VARIABLE.fullmatch(sides[1]) and not starts_with_variable:
        return _all_but(sides[1], sides[0], gold)
    if "\\approx" in operators and (kept := without_approximations(sides, operators)):
        sides, operators = kept
        if len(sides) == 1:
            return parse(sides[0], gold)
    if set(operators) == {"="}:
        if len(sides) > 2 and all(VARIABLE.fullmatch(side) for side in sides[:-1]):  # x = y = 2
            return Bag(tuple(_assignment(side, sides[-1]) for side in sides[:-1]))
        if len(sides) == 2 and VARIABLE.fullmatch(sides[1]) and not is_name(sides[0]):  # 5 = x
            sides = sides[::-1]
        if is_name(sides[0]) and _links_agree(sides[1:]):
            return _assignment(sides[0], sides[-1])
    return interval(sides, operators, lambda side: parse(side, gold)) or Relation(
        tuple(sides), tuple(operators)
    )


def _assignment(name: str, value: str) -> Relation:
    return Relation((name, value), ("=",), name.replace(" ", ""))


def _links_agree(sides: list[str]) -> bool:
    """Whether the numbers in a chain `= 10/4 = 2.5` agree, so that its last side is its value."""
    values = [scalar(side) for side in sides]
    last = values[-1]
    numbers = [value for value in values[:-1] if value is not None and not value.tree.names]
    return not numbers or (
        last is not None and all(identical(n.tree, last.tree) is not False for n in numbers)
    )


def _bracketed(text: str, gold: bool) -> Value | None:
    if half := _OUTWARD.fullmatch(text):  # ]0, 1[ and [0, 1[
        text = {"]": "(", "[": "["}[half[1]] + half[2] + {"[": ")", "]": "]"}[half[3]]
    if text[:1] not in ("(", "[") or closing(text, 0) != len(text) - 1:
        return None
    pieces = split_top(text[1:-1], _COMMA)
    if len(pieces) < 2 or not all(pieces):
        return None
    return Bracketed(text[0], tuple(parse(piece, gold) for piece in pieces), text[-1])


def _either_sign(text: str, gold: bool) -> Value | None:
    """All choices of the signs; those of \\pm are opposite to those of \\mp beside them."""
    if "\\pm" not in text and "\\mp" not in text:
        return None
    marks = len(_EITHER_SIGN.findall(text))
    if not 0 < marks <= MAX_SIGNS or "\\in" in text:
        return None
    choices = [("+",) * marks, ("-",) * marks]
    if "\\mp" not in text:
        choices = list(product("+-", repeat=marks))
    values: list[Value] = []
    for signs in choices:
        left = iter(signs)
        one = _EITHER_SIGN.sub(
            lambda mark: _OPPOSITE[next(left)] if mark[0] == "\\mp" else next(left),  # noqa: B023
            text,
        )
        value = parse(one, gold)
        if value not in values:
            values.append(value)
    return Bag(_flat(tuple(values)))
