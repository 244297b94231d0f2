"""Whether two expressions are identical: exactly where possible, otherwise None.

Rational functions are compared at random integers. Expressions that count (factorials, binomial
coefficients, sums and products over a range) are compared exactly at natural numbers, see
`counting`. What remains is compared in double precision, which can refuse, but not accept.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

from slm_math.answers.arithmetic import (
    Undefined,
    approximate,
    close,
    exact,
    is_long,
    rational,
)
from slm_math.answers.counting import ENOUGH, counted_names, counted_points, settled
from slm_math.answers.expressions import Node
from slm_math.answers.samples import integer_points, real_points


def identical(a: Node, b: Node) -> bool | None:
    """Whether two trees have the same value everywhere; None if only an algebra system can tell."""
    names = a.names
    if names != b.names:
        return False
    if counted := counted_names(a) | counted_names(b):
        return _same_counts(a, b, counted)
    if not names or (_is_rational_function(a) and _is_rational_function(b)):
        try:
            return all(exact(a, point) == exact(b, point) for point in integer_points(names))
        except Undefined:
            pass
    return None if _alike(a, b) else False


def value_at_a_point(tree: Node) -> tuple[frozenset[str], Fraction] | None:
    """What identical trees share that have such a thing: the names, and the value at one point.

    None for trees that are not compared exactly, and those with long decimals, which equal what
    they are close to.
    """
    names = tree.names
    if counted_names(tree) or any(map(is_long, tree.walk())):
        return None
    if names and not _is_rational_function(tree):
        return None
    try:
        return names, exact(tree, integer_points(names)[0])
    except Undefined:
        return None


def _same_counts(a: Node, b: Node, counted: frozenset[str]) -> bool | None:
    """Whether two trees agree at natural numbers, exactly.

    None if they have values at too few of them, or irrational values, which only the algebra
    process can compare.
    """
    agreed, open_points = 0, 0
    for point in counted_points(a, b, counted):
        try:
            same: bool | None = exact(a, point) == exact(b, point)
        except Undefined:
            pair = _settled(a, b, point, counted)
            if pair is None:
                continue
            same = identical(*pair)
        if same is False:
            return False
        agreed += same is True
        open_points += same is None
    return True if agreed >= ENOUGH and not open_points else None


def special(a: Node, b: Node) -> list[tuple[Node, Node]]:
    """The pairs that the algebra process compares instead of two trees that are not decided.

    These are the trees themselves; trees that count get numbers for their variables.
    """
    counted = counted_names(a) | counted_names(b)
    if not counted:
        return [(a, b)]
    settled_pairs = (_settled(a, b, point, counted) for point in counted_points(a, b, counted))
    pairs = list(islice((pair for pair in settled_pairs if pair), ENOUGH))
    return pairs[ENOUGH // 2 :] if len(pairs) == ENOUGH else []


def _settled(
    a: Node, b: Node, point: dict[str, int], counted: frozenset[str]
) -> tuple[Node, Node] | None:
    """Two trees with numbers for their counted variables; None where they cannot be compared."""
    numbers = {name: point[name] for name in counted}
    try:
        pair = settled(a, numbers), settled(b, numbers)
    except Undefined:
        return None
    return pair if pair[0].names == pair[1].names else None  # an empty sum has lost its variables


def _alike(a: Node, b: Node) -> bool:
    """Whether two trees agree at all points where both are defined and, with variables, real."""
    for point in real_points(a.names):
        try:
            x, y = approximate(a, point), approximate(b, point)
        except Undefined:
            continue
        real = abs(x.imag) <= 1e-9 * abs(x) and abs(y.imag) <= 1e-9 * abs(y)
        if (real or not a.names or _has_i(a)) and not close(x, y, 1e-7):
            return False
    return True


def _has_i(tree: Node) -> bool:
    return any(node.kind == "constant" and node.name == "i" for node in tree.walk())


def _is_rational_function(tree: Node) -> bool:
    """Whether a tree has only numbers, variables, the four operations and integer powers.

    Such trees are equal if they agree at a few points.
    """
    return all(
        node.kind in ("number", "variable", "sum", "product", "negative", "quotient")
        or (
            node.kind == "power"
            and (exponent := rational(node.args[1])) is not None
            and exponent.denominator == 1
        )
        for node in tree.walk()
    )


def proportional(a: Node, b: Node) -> bool | None:
    """Whether a = c b for a non-zero constant c; None if only an algebra system can tell."""
    if a.names != b.names or not a.names:
        return False
    if not (_is_rational_function(a) and _is_rational_function(b)):
        return None
    try:
        ratios = {exact(a, point) / exact(b, point) for point in integer_points(a.names)}
    except ZeroDivisionError:
        return False
    except Undefined:
        return None
    return len(ratios) == 1 and 0 not in ratios
