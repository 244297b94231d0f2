"""Decide whether two answers are equivalent: exactly if possible, else by the algebra process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

from slm_math.answers import pool
from slm_math.answers.alignment import aligned, same_function
from slm_math.answers.arithmetic import Undefined, equal_decimal, rational, with_fractions
from slm_math.answers.decisions import HARD, NO, OPEN, YES, Decision
from slm_math.answers.expressions import DEGREE, Node, Unread, read, spell
from slm_math.answers.guards import deep
from slm_math.answers.hard import Failed, ask
from slm_math.answers.identity import identical, proportional, special
from slm_math.answers.inequalities import rising
from slm_math.answers.intervals import joined
from slm_math.answers.latex import normalize
from slm_math.answers.phrases import NO_SOLUTION, same_time
from slm_math.answers.structures import parse
from slm_math.answers.texts import rows_of, same_text
from slm_math.answers.unevaluated import unevaluated
from slm_math.answers.values import (
    Bag,
    Based,
    Bracketed,
    Matrix,
    Opaque,
    Relation,
    Scalar,
    Value,
    Words,
    words,
)

MAX_ANSWER = 1_000  # characters; a longer answer is correct only if its text equals the reference
MAX_MEMBERS = 64
_COORDINATES = frozenset(("x", "y", "z", "r", "\\theta"))
_PLAIN_NUMBER = re.compile(
    r"[-+]?\$?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]{1,900})(?:\.[0-9]{1,20})?"
)


def same(answer: str, gold: str) -> Decision:
    """Whether two answers are equivalent by the rules for values, lists, relations and text.

    Safe to call from any thread. Hostile input takes bounded time, and none of it is ever executed.
    """
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return YES if answer.strip() == gold.strip() else HARD
    if _PLAIN_NUMBER.fullmatch(answer) and _PLAIN_NUMBER.fullmatch(gold):
        whole = "." not in answer and "." not in gold
        read_number = int if whole else Fraction
        if answer == gold or read_number(_bare(answer)) == read_number(_bare(gold)):
            return YES
        # longer decimals may still be equal up to float precision
        if whole or max(len(answer), len(gold)) < 10:
            return NO
    with pool.budget():
        before = pool.steps_left()
        try:
            decision, steps = _same(answer, gold)
            pool.charge(steps, before)
        except Failed as failure:
            return Decision(False, failure.reason)
        except pool.BudgetSpent:
            return HARD
    return decision


def _bare(number: str) -> str:
    return number.replace(",", "").replace("$", "")


@lru_cache(maxsize=16_384)
def _same(answer: str, gold: str) -> tuple[Decision, int]:
    """The decision on two answers, and the steps of algebra that it took."""
    before = pool.steps_left()
    decision = _decided(answer, gold)
    return decision, before - pool.steps_left()


def _decided(answer: str, gold: str) -> Decision:
    answer, gold = aligned(normalized(answer), normalized(gold))
    if not answer or not gold:
        return Decision(False, "empty")
    if answer == gold:
        return YES
    if deep(answer) or deep(gold):
        return HARD
    return compare(parsed(answer, gold=False), parsed(gold, gold=True), answer, gold)


# each of the samples of a problem is compared with others
normalized = lru_cache(maxsize=1024)(normalize)


@lru_cache(maxsize=1024)
def parsed(text: str, gold: bool) -> Value:
    return _only_member(parse(text, gold=gold))


def _only_member(value: Value) -> Value:
    """The member of a set of one, as solutions are written with and without braces."""
    if (
        not isinstance(value, Bag)
        or value.kind != "set"
        or len(value.items) != 1
        or isinstance(value.items[0], Bag)
    ):
        return value
    return value.items[0]


def compare(a: Value, g: Value, answer: str, gold: str) -> Decision:
    """Whether two parsed answers are equivalent.

    `answer` and `gold` are their normalized texts, which the algebra process gets if needed.
    """
    if isinstance(g, Relation) or isinstance(a, Relation):
        return _relations(a, g, answer, gold)
    match a, g:
        case (Bag(kind="union"), Bag(kind="union" | "set") | Bracketed()) | (
            Bag(kind="set") | Bracketed(), Bag(kind="union"),
        ):  # fmt: skip
            return _unions(a, g)
        case Bag(), Bag() if (a.kind == "union") == (g.kind == "union"):
            # the values of "x = 2, y = 3" may be given without names, in that order
            in_order = _distinct_names(a) != _distinct_names(g)
            return (_ordered if in_order else _unordered)(a.items, g.items)
        case Bracketed(opening="[", closing="]"), Bag(kind="list"):  # a list of Python
            return _unordered(a.items, g.items)
        case Bag(), _ if a.kind == "list":  # several spellings of one answer ("0.5 or 1/2")
            return _first_failure(compare(item, g, _spell(item), gold) for item in a.items)
        case _, Bag() if g.kind == "list":
            return _first_failure(compare(a, item, answer, _spell(item)) for item in g.items)
        case Scalar(), Scalar():
            return _scalars(a, g)
        case Words(), Words():
            return YES if a == g or same_time(a.text, g.text) else NO
        case (Scalar(), Words()) | (Words(), Scalar()):
            return YES if same_text(a, g, answer, gold) else NO
        case (Words(text=text), Bag(items=(), kind="set")) | (
            Bag(items=(), kind="set"), Words(text=text),
        ):  # fmt: skip
            return YES if text == NO_SOLUTION else NO
        case (Bracketed(), Matrix()) | (Matrix(), Bracketed()):
            pair = rows_of(a, g)
            return _ordered(*pair) if pair else NO
        case (Opaque(), Words()) | (Words(), Opaque()):
            return YES if isinstance(a, Opaque) and words(answer) == g else NO
        case (Based(), _) | (_, Based()):
            return YES if a == g else NO
        case Bracketed(), Bracketed():
            return _bracketed(a, g)
        case Matrix(), Matrix():
            if [len(row) for row in a.rows] != [len(row) for row in g.rows]:
                return NO
            return _ordered(sum(a.rows, ()), sum(g.rows, ()))
        case Opaque(), Scalar() if rational(g.tree) is not None:
            return NO  # every spelling of a rational number is readable
        case (Opaque(), _) | (_, Opaque()):
            return ask("equal", answer, gold)
    return NO


def _unions(a: Bag | Bracketed, g: Bag | Bracketed) -> Decision:
    """Two unions of intervals, after their intervals were merged as far as possible."""
    a, g = joined(a), joined(g)
    if isinstance(a, Bag) and isinstance(g, Bag):
        return _unordered(a.items, g.items)
    return _bracketed(a, g) if isinstance(a, Bracketed) and isinstance(g, Bracketed) else NO


def _distinct_names(bag: Bag) -> bool:
    """Whether a list assigns a value to each of several different names."""
    names = {item.name for item in bag.items if isinstance(item, Relation) and item.name}
    return len(bag.items) > 1 and len(names) == len(bag.items)


def _bracketed(a: Bracketed, g: Bracketed) -> Decision:
    alike = (a.opening, a.closing) == (g.opening, g.closing) and a.variable in (
        "",
        g.variable or a.variable,
    )
    return _ordered(a.items, g.items) if alike else NO


def _ordered(left: Sequence[Value], right: Sequence[Value]) -> Decision:
    if len(left) != len(right) or len(left) > MAX_MEMBERS:
        return NO
    return _first_failure(compare(a, g, _spell(a), _spell(g)) for a, g in zip(left, right))


def _first_failure(decisions: Iterable[Decision]) -> Decision:
    """The first decision that is not equal; the last one if all are equal; NO if there are none."""
    last = NO
    for last in decisions:
        if not last.equal:
            return last
    return last


def _unordered(left: Sequence[Value], right: Sequence[Value]) -> Decision:
    """Whether each member of one list has a partner of its own in the other.

    Identical members are paired first, as this is cheap.
    """
    if len(left) != len(right) or len(left) > MAX_MEMBERS:
        return NO
    unmatched_right, unmatched_left = list(right), []
    for a in left:
        if a in unmatched_right:
            unmatched_right.remove(a)
        else:
            unmatched_left.append(a)
    decision = YES
    for a in unmatched_left:
        for g in unmatched_right:
            decision = compare(a, g, _spell(a), _spell(g))
            if decision.equal:
                unmatched_right.remove(g)
                break
        else:
            return decision
    return YES


def _spell(value: Value) -> str:
    """The text of a member of a list, for the algebra process; "" for structures."""
    return value.text if isinstance(value, (Scalar, Opaque, Words)) else ""


def _scalars(a: Scalar, g: Scalar) -> Decision:
    units = [scalar.unit + ("%" if scalar.percent else "") for scalar in (a, g)]
    if all(units) and units[0] != units[1]:
        return Decision(False, "other unit")
    if unevaluated(a.tree, g.tree):
        return NO if identical(a.tree, g.tree) is False else OPEN
    same = _same_value(a, g)
    if not same.equal and "degree^1" in units and "" in units:  # 30 degrees are \pi/6
        degrees, other = (a, g) if a.unit else (g, a)
        if any(node.name == "\\pi" for node in other.tree.walk()):
            angle = Scalar(Node("product", (degrees.tree, DEGREE)), degrees.text)
            return _same_value(angle, other)
    if same.equal or a.percent == g.percent:
        return same
    tree, other = (a.tree, g.tree) if a.percent else (g.tree, a.tree)
    left, right = rational(tree), rational(other)
    return YES if left is not None and right is not None and left == right * 100 else NO


def _same_value(a: Scalar, g: Scalar) -> Decision:
    left, right = a.tree, g.tree
    if left.names:  # decimals among the coefficients
        left, right = with_fractions(left), with_fractions(right)
    same = identical(left, right)
    if same:
        return YES
    if not left.names and not right.names and _decimal(left, right):
        return YES
    if same is False:
        return NO
    pairs = special(left, right)
    if not pairs:
        return HARD
    return _first_failure(ask("equal", spell(one), spell(other)) for one, other in pairs)


def _decimal(a: Node, g: Node) -> bool:
    """Whether one of the two is a decimal that equals the other up to float precision."""
    try:
        return equal_decimal(a, g) or equal_decimal(g, a)
    except Undefined:
        return False


def _relations(a: Value, g: Value, answer: str, gold: str) -> Decision:
    """Compare two answers of which at least one is a relation.

    `x = 5` equals 5, and `f(x) = 2x` equals 2x. An equation does not equal one of its sides, but
    equals every non-zero multiple of itself.
    """
    if isinstance(a, Relation) and isinstance(g, Relation):
        if a.name and a.name == g.name:
            return _sides(a.sides[1:], g.sides[1:])
        if a.name and g.name and (same := same_function(a.name, g.name, a.sides[1])) is not None:
            return _sides((same,), g.sides[1:])
        if a.name and g.name and ("(" in a.name or "(" in g.name):
            return NO  # values of two functions
        if a.operators == g.operators == ("=",):
            return _equations(a.sides, g.sides)
        return _inequalities(a, g) if len(a.operators) == len(g.operators) else NO
    relation = a if isinstance(a, Relation) else g
    assert isinstance(relation, Relation)
    if relation.name is None:
        return NO
    value = parse(relation.sides[1], gold=relation is g)
    if (
        isinstance(value, Scalar)
        and relation.name in _COORDINATES
        and value.tree.names & _COORDINATES
    ):
        return NO  # y = 2x + 3 is a line, but V = abc and x = 3a are values
    if relation is a:
        return compare(value, g, relation.sides[1], gold)
    return compare(a, value, answer, relation.sides[1])


def _inequalities(a: Relation, g: Relation) -> Decision:
    """Compare two chains of comparisons side by side, in either direction of reading."""
    (left, ops), (right, other_ops) = (
        rising(relation.sides, relation.operators) for relation in (a, g)
    )
    if ops != other_ops:
        return NO
    if ops == ["\\ne"] and not _sides(left, right).equal:
        left = left[::-1]
    return _sides(left, right)


def _sides(left: Sequence[str], right: Sequence[str]) -> Decision:
    return _first_failure(compare(parse(x), parse(y, gold=True), x, y) for x, y in zip(left, right))


def _equations(left: tuple[str, ...], right: tuple[str, ...]) -> Decision:
    differences = [f"{side[0]} - ({side[1]})" for side in (left, right)]
    try:
        same = proportional(*(read(difference) for difference in differences))
    except Unread:
        same = None
    if same is None:
        return ask("proportional", *differences)
    return YES if same else NO
