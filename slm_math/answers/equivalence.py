"""Decide whether two answers say the same: exactly where possible, by the algebra process where not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from slm_math.answers import pool
from slm_math.answers.arithmetic import (
    Undefined,
    approximate,
    equal_decimal,
    identical,
    proportional,
    rational,
    unevaluated,
)
from slm_math.answers.expressions import Node, Unread, read, spell
from slm_math.answers.guards import hostile
from slm_math.answers.latex import normalise
from slm_math.answers.values import Bag, Based, Matrix, Opaque, Relation, Row, Scalar, Value, Words, parse, plain, words
from slm_math.types import AnswerType

MAX_ANSWER = 1_000  # characters; a longer answer can only be right word by word
MAX_MEMBERS = 64
_DEGREES = re.compile(r"(\d+\.?\d*)\s*°")
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*(?:[.):,]\s*(.*)|)", re.DOTALL)


@dataclass(frozen=True)
class Decision:
    """Whether two answers agree, and why (not): a few fixed words, so that reasons can be counted."""

    equal: bool
    reason: str


YES, NO = Decision(True, "equal"), Decision(False, "different")
OPEN, HARD = Decision(False, "unevaluated"), Decision(False, "too complex")


def equivalent(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Sequence[str] = (),
    tolerance: float | None = None,
) -> bool:
    """Whether `answer` says what `gold` says.

    `answer_type` "mc" compares letters (or the values of `choices`); "num" allows an absolute error of `tolerance`.
    Safe to call from any thread; hostile input costs a bounded time and nothing in it is ever executed.
    """
    return decide(answer, gold, answer_type, tuple(choices), tolerance).equal


def decide(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: tuple[str, ...] = (),
    tolerance: float | None = None,
) -> Decision:
    """`equivalent` with its reason. Raises ValueError for an unknown answer type."""
    if answer_type not in ("math", "mc", "num"):
        raise ValueError(f"answer type {answer_type!r} is not one of math, mc, num")
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return YES if answer.strip() == gold.strip() else HARD
    return _decide(answer, gold, answer_type, choices, tolerance)


@lru_cache(maxsize=65_536)
def _decide(
    answer: str, gold: str, answer_type: AnswerType, choices: tuple[str, ...], tolerance: float | None
) -> Decision:
    answer, gold = normalise(answer), normalise(gold)
    if not answer:
        return Decision(False, "empty")
    if answer_type == "mc":
        return _choice(answer, gold, tuple(normalise(choice) for choice in choices))
    try:
        if answer == gold:
            return YES
        if answer_type == "num" and tolerance is not None:
            return _within(answer, gold, tolerance)
        return compare(parse(answer), parse(gold, gold=True), answer, gold)
    except RecursionError:
        return HARD


def compare(a: Value, g: Value, answer: str, gold: str) -> Decision:
    """Two parsed answers; the normalised texts are there for the algebra process."""
    if isinstance(g, Relation) or isinstance(a, Relation):
        return _relations(a, g, answer, gold)
    match a, g:
        case Bag(), Bag() if a.union == g.union:
            return _unordered(a.items, g.items)
        case Bag(), _ if not a.union:  # several spellings of one answer ("0.5 or 1/2"), or a set of one
            return _first_failure(compare(item, g, _spell(item), gold) for item in a.items)
        case _, Bag() if not g.union:
            return _first_failure(compare(a, item, answer, _spell(item)) for item in g.items)
        case Scalar(), Scalar():
            return _scalars(a, g)
        case Words(), Words():
            return YES if a == g else NO
        case Scalar(), Words():
            return YES if words(answer) == g else NO
        case Words(), Scalar():  # a variable keeps its case
            return YES if plain(answer) == gold else NO
        case (Opaque(), Words()) | (Words(), Opaque()):
            return NO
        case Based(), Based():
            return YES if a == g else NO
        case Row(), Row():
            same = (a.opening, a.closing) == (g.opening, g.closing)
            return _ordered(a.items, g.items) if same else NO
        case Matrix(), Matrix():
            if [len(row) for row in a.rows] != [len(row) for row in g.rows]:
                return NO
            return _ordered(sum(a.rows, ()), sum(g.rows, ()))
        case Opaque(), Scalar() if rational(g.tree) is not None:
            return OPEN  # every spelling of a rational number is readable, so some operation was left open
        case (Opaque(), _) | (_, Opaque()):
            return _hard("equal", answer, gold)
    return NO


def _ordered(left: Sequence[Value], right: Sequence[Value]) -> Decision:
    if len(left) != len(right) or len(left) > MAX_MEMBERS:
        return NO
    return _first_failure(compare(a, g, _spell(a), _spell(g)) for a, g in zip(left, right))


def _first_failure(decisions: Iterable[Decision]) -> Decision:
    """YES when there are decisions and all are."""
    last = NO
    for last in decisions:
        if not last.equal:
            return last
    return last


def _unordered(left: Sequence[Value], right: Sequence[Value]) -> Decision:
    """Each member of one list has a partner of its own in the other; plain equality first, as it is cheap."""
    if len(left) != len(right) or len(left) > MAX_MEMBERS:
        return NO
    rest, open_items = list(right), []
    for a in left:
        if a in rest:
            rest.remove(a)
        else:
            open_items.append(a)
    decision = YES
    for a in open_items:
        for g in rest:
            decision = compare(a, g, _spell(a), _spell(g))
            if decision.equal:
                rest.remove(g)
                break
            if decision.reason in pool.FAILURES:  # one such answer is enough
                return decision
        else:
            return decision
    return YES


def _spell(value: Value) -> str:
    """The LaTeX of a member of a list."""
    return value.text if isinstance(value, (Scalar, Opaque, Words)) else ""


def _scalars(a: Scalar, g: Scalar) -> Decision:
    units = [scalar.units | ({"%"} if scalar.percent else set()) for scalar in (a, g)]
    if all(units) and units[0] != units[1]:
        return Decision(False, "other unit")
    if unevaluated(a.tree, g.tree):
        return OPEN
    same = _same_value(a, g)
    if same.equal or a.percent == g.percent:
        return same
    tree, other = (a.tree, g.tree) if a.percent else (g.tree, a.tree)
    left, right = rational(tree), rational(other)
    return YES if left is not None and right is not None and left == right * 100 else NO


def _same_value(a: Scalar, g: Scalar) -> Decision:
    same = identical(a.tree, g.tree)
    if same:
        return YES
    if not a.tree.names and not g.tree.names and _decimal(a.tree, g.tree):
        return YES
    return NO if same is False else _hard("equal", spell(a.tree), spell(g.tree))


def _decimal(a: Node, g: Node) -> bool:
    """One of the two is a decimal that stands for the other at full float precision."""
    try:
        value, exact = approximate(g, {}), rational(g)
        if equal_decimal(a, value, exact is not None and exact.denominator == 1):
            return True
        return equal_decimal(g, approximate(a, {}), False)
    except Undefined:
        return False


def _relations(a: Value, g: Value, answer: str, gold: str) -> Decision:
    """x = 5 is 5, and f(x) = 2x is 2x; an equation is not one of its sides, but is any non-zero multiple of itself."""
    if isinstance(a, Relation) and isinstance(g, Relation):
        if a.name and a.name == g.name:
            return compare(parse(a.sides[1]), parse(g.sides[1], gold=True), a.sides[1], g.sides[1])
        if a.operators == g.operators == ("=",):
            return _equations(a.sides, g.sides)
        return YES if answer.replace(" ", "") == gold.replace(" ", "") else NO
    relation = a if isinstance(a, Relation) else g
    assert isinstance(relation, Relation)
    if relation.name is None:
        return NO
    value = parse(relation.sides[1], gold=relation is g)
    if isinstance(value, Scalar) and value.tree.names and not (relation is a and "(" in relation.name):
        return NO
    if relation is a:
        return compare(value, g, relation.sides[1], gold)
    return compare(a, value, answer, relation.sides[1])


def _equations(left: tuple[str, ...], right: tuple[str, ...]) -> Decision:
    differences = [f"{side[0]} - ({side[1]})" for side in (left, right)]
    try:
        same = proportional(*(read(difference) for difference in differences))
    except Unread:
        same = None
    if same is None:
        return _hard("proportional", *differences)
    return YES if same else NO


def _hard(kind: str, answer: str, gold: str) -> Decision:
    """Ask the algebra process, unless the answer looks as if it was made to keep it busy."""
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return YES
    if "\\text" in answer:
        return NO
    if hostile(answer) or hostile(gold):
        return HARD
    reply = pool.ask(kind, *(_DEGREES.sub(r"(\1\\cdot\\frac{\\pi}{180})", text) for text in (answer, gold)))
    return YES if reply == "yes" else NO if reply == "no" else Decision(False, reply)


def _choice(answer: str, gold: str, choices: tuple[str, ...]) -> Decision:
    """Multiple choice: the letters named, or the letter whose choice has the value given; several only if gold has."""
    given, wanted = _letters(answer, choices), _letters(gold, choices)
    if given and wanted:
        return YES if given == wanted else NO
    return decide(answer, gold)


def _letters(text: str, choices: tuple[str, ...]) -> frozenset[str]:
    value = parse(text)
    if isinstance(value, Bag) and all(isinstance(item, Words) and len(item.text) == 1 for item in value.items):
        return frozenset(item.text.upper() for item in value.items if isinstance(item, Words))
    letter = words(text)
    if letter and len(letter.text) == 1:
        return frozenset(letter.text.upper())
    found = _CHOICE.fullmatch(text)
    if found and found[2]:
        at = ord(found[1]) - ord("A")
        stated = at < len(choices) and decide(found[2], _value(choices[at])).equal
        return frozenset(found[1]) if stated or not choices else frozenset()
    hits = [i for i, choice in enumerate(choices) if decide(text, _value(choice)).equal]
    return frozenset(chr(ord("A") + i) for i in hits) if len(hits) == 1 else frozenset()


def _value(choice: str) -> str:
    """A choice without its own letter."""
    found = _CHOICE.fullmatch(choice)
    return found[2] if found and found[2] else choice


def _within(answer: str, gold: str, tolerance: float) -> Decision:
    a, g = parse(answer), parse(gold, gold=True)
    if not (isinstance(a, Scalar) and isinstance(g, Scalar)):
        return NO
    if unevaluated(a.tree, g.tree):
        return OPEN
    try:
        return YES if abs(approximate(a.tree, {}) - approximate(g.tree, {})) <= tolerance else NO
    except Undefined:
        return NO
