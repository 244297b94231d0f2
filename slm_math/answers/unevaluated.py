"""Detect arithmetic that an answer leaves undone although the reference has carried it out."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from slm_math.answers.arithmetic import Undefined, approximate, close, rational
from slm_math.answers.expressions import SERIES, Node


def unevaluated(answer: Node, gold: Node) -> bool:
    """Whether an answer leaves arithmetic open that the reference has carried out.

    An example is `17 \\times 23` for 391. Fractions of integers, powers, radicals and functions of
    numbers are accepted, unless they are copied from the problem (see `copied`). An answer may
    leave open the kinds of operations that the reference leaves open.
    """
    left, allowed = open_operations(answer), open_operations(gold)
    return any(
        n > allowed.get(kind, 0)
        for kind, n in left.items()
        if kind == "like terms" or kind not in allowed
    )


def open_operations(tree: Node) -> dict[str, int]:
    """How many operations on constants a tree leaves open, by kind."""
    counts: Counter[str] = Counter()
    for node in tree.walk():
        kind = _open_kind(node)
        if kind:
            counts[kind] += 1
        if node.kind == "product" and _constant_sums(node) > 1:
            counts["product of sums"] += 1
        if node.kind == "sum" and _constant(node) and _like_terms(node):
            counts["like terms"] += 1
    return counts


def _constant_sums(node: Node) -> int:
    return sum(arg.kind == "sum" and _constant(arg) for arg in node.args)


def _constant(node: Node) -> bool:
    """Whether a tree has no variables, not even those of a sum around it."""
    return all(part.kind != "variable" for part in node.walk())


def _is_closed(series: Node) -> bool:
    """Whether a sum over a range has no variables but its own and those of sums in it."""
    own = series.args[0].name
    variables = [part.name for part in series.walk() if part.kind == "variable"]
    return all(name[0] == "#" and name >= own for name in variables)


def _like_terms(node: Node) -> bool:
    """Whether two terms of a constant sum are rational multiples of each other.

    An example is `\\sqrt{18} + \\sqrt{8}`.
    """
    try:
        # `_open_kind` treats rational terms
        values = [approximate(arg, {}) for arg in node.args[:8] if rational(arg) is None]
    except Undefined:
        return False
    ratios = [a / b for a in values for b in values if a is not b and a != 0 and b != 0]
    return any(
        close(ratio, complex(Fraction(ratio.real).limit_denominator(200)), 1e-13)
        for ratio in ratios
    )


def _open_kind(node: Node) -> str | None:
    """The kind of an operation on rational numbers that can be carried out; None for others."""
    if node.kind in SERIES.values() and _is_closed(node):
        return "series"
    numbers = [value for arg in node.args if (value := _number_in_disguise(arg)) is not None]
    match node.kind:
        case "sum" if len(numbers) > 1:
            return "sum"
        case "product" if len(numbers) > 1:
            scientific = len(node.args) == 2 and _power_of_ten(node.args[1])
            return None if scientific else "product"
        case "quotient" if len(numbers) == 2 and any(value.denominator != 1 for value in numbers):
            return "quotient"
    return None


def _number_in_disguise(node: Node) -> Fraction | None:
    """The rational value of a tree, also of functions such as `\\cos 0` or `10^{\\log 23}`.

    The values of functions are computed in double precision.
    """
    value = rational(node)
    if (
        value is not None
        or node.names
        or not any(part.kind in ("function", "logarithm") for part in node.walk())
    ):
        return value
    try:
        number = approximate(node, {})
    except Undefined:
        return None
    near = Fraction(number.real).limit_denominator(200)
    return near if close(number, complex(near), 1e-12) else None


def _power_of_ten(node: Node) -> bool:
    return (
        node.kind == "power"
        and node.args[0].name == "10"
        and node.args[1].kind in ("number", "negative")
    )
