"""Expressions that count: factorials, binomials, sums and products over a range, with letters.

Such expressions are defined for natural numbers, and two of them are compared there, exactly, with
whole numbers: one place where they differ refutes their equality. Why agreement at `ENOUGH` places
is proof in practice: let R(n) be the quotient of two products of factorials, binomials, powers and
polynomials. Then R(n+1)/R(n) is a rational function, and R is constant if this function is 1 at
more neighboring numbers than its degree, which is about the number of factorials, each counted with
its factor of n. A sum over a range is determined by its first value and by the term by which
neighboring values differ, which is such a product. Places far away, and just above the numbers in
the expressions, separate what vanishes at small numbers, such as binomials with a large index.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product

from slm_math.answers.arithmetic import Undefined, exact, indices
from slm_math.answers.expressions import SERIES, Node

ENOUGH = 12  # places at which both expressions must have a value
_COUNTS = ("factorial", "semifactorial", "binomial")
_MANY = 240
_FAR = (23, 40, 61, 97)
_MOST_BITS = 2_000  # of a number that is written out
_MOST_TERMS = 60  # of a sum that is written out


def counted_names(tree: Node) -> frozenset[str]:
    """The variables that stand for natural numbers: in factorials, binomials, ends of ranges."""
    names: frozenset[str] = frozenset()
    for node in tree.walk():
        if node.kind in _COUNTS:
            names |= node.names
        elif node.kind in SERIES.values():
            names |= node.args[1].names | node.args[2].names
    return names


def counted_points(a: Node, b: Node, counted: frozenset[str]) -> Iterator[dict[str, int]]:
    """Places at which two expressions are compared: natural numbers for the `counted` variables."""
    draw = random.Random(20)
    others = sorted((a.names | b.names) - counted)
    names = sorted(counted)
    for numbers in _natural_numbers(len(names), _numbers_in(a, b), draw):
        signs = (draw.choice((-1, 1)) * draw.randint(1_000, 99_999) for _ in others)
        yield {**dict(zip(names, numbers)), **dict(zip(others, signs))}


def _natural_numbers(
    count: int, edges: list[int], draw: random.Random
) -> Iterator[tuple[int, ...]]:
    if count == 1:
        yield from ((n,) for n in (*range(17), *_FAR))
        yield from ((n,) for edge in edges for n in (edge - 1, edge, edge + 1, 2 * edge + 1))
        return
    if count == 2:
        yield from product(range(9), repeat=2)
    else:
        for _ in range(_MANY):
            yield tuple(draw.randint(0, 4 + 2 * count) for _ in range(count))
    for far in (*_FAR, *(edge + 1 for edge in edges)):
        for _ in range(2 * count):
            yield (*(draw.randint(0, far) for _ in range(count - 1)), far)
            yield (far, *sorted((draw.randint(0, far) for _ in range(count - 1)), reverse=True))


def _numbers_in(a: Node, b: Node) -> list[int]:
    found = {
        abs(node.value.numerator)
        for tree in (a, b)
        for node in tree.walk()
        if node.kind == "number" and node.value.denominator == 1
    }
    return sorted(number for number in found if 16 < number < 2_000)[:6]


def settled(tree: Node, point: Mapping[str, int]) -> Node:
    """The tree with numbers for some variables, and with its counting carried out.

    Raises Undefined if a part has no value, as the factorial of a negative number.
    """
    if tree.kind == "variable":
        return _number(point[tree.name]) if tree.name in point else tree
    if tree.kind in SERIES.values():
        numbers = indices(tree, point)
        if len(numbers) > _MOST_TERMS:
            raise Undefined("too many terms")
        terms = [settled(tree.args[3], {**point, tree.args[0].name: n}) for n in numbers]
        kind, neutral = ("sum", 0) if tree.kind == "total" else ("product", 1)
        return Node(kind, (_number(neutral), *terms))
    if tree.kind in _COUNTS:
        value = exact(tree, point)
        if value.numerator.bit_length() > _MOST_BITS:
            raise Undefined("too large")
        return replace(_number(0), value=value)
    return replace(tree, args=tuple(settled(arg, point) for arg in tree.args))


def _number(value: int) -> Node:
    return Node("number", value=Fraction(value))
