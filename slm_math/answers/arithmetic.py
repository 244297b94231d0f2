"""Evaluate and compare expression trees: exactly if rational, otherwise in double precision."""

from __future__ import annotations

import cmath
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from slm_math.answers.expressions import Node

MAX_BITS = 20_000
FLOAT_PRECISION = 1e-9
_FUNCTIONS = {
    "\\sin": cmath.sin, "\\cos": cmath.cos, "\\tan": cmath.tan,
    "\\cot": lambda x: 1 / cmath.tan(x), "\\sec": lambda x: 1 / cmath.cos(x),
    "\\csc": lambda x: 1 / cmath.sin(x),
    "\\arcsin": cmath.asin, "\\arccos": cmath.acos, "\\arctan": cmath.atan,
    "\\ln": cmath.log, "\\exp": cmath.exp,
}  # fmt: skip
_CONSTANTS = {"\\pi": math.pi, "e": math.e, "i": 1j}


class Undefined(ArithmeticError):
    """The expression has no value here (division by zero, overflow, not rational)."""


def exact(node: Node, values: Mapping[str, int]) -> Fraction:
    """The rational value of a tree at integer values of its variables.

    Raises Undefined if the value is not rational.
    """
    try:
        return _exact(node, values)
    except (ArithmeticError, ValueError) as error:
        raise Undefined(str(error)) from error


def _exact(node: Node, values: Mapping[str, int]) -> Fraction:
    args = [_exact(arg, values) for arg in node.args]
    match node.kind:
        case "number":
            result = node.value
        case "variable":
            result = Fraction(values[node.name])
        case "sum":
            result = sum(args, Fraction(0))
        case "product":
            result = math.prod(args, start=Fraction(1))
        case "negative":
            result = -args[0]
        case "modulus":
            result = abs(args[0])
        case "quotient":
            if args[1] == 0:
                raise Undefined("division by zero")
            result = args[0] / args[1]
        case "power":
            result = _exact_power(*args)
        case "root":
            result = _exact_root(*args)
        case "logarithm":
            result = _exact_logarithm(*args)
        case "factorial" | "binomial" if all(
            arg.denominator == 1 and 0 <= arg <= 500 for arg in args
        ):
            result = Fraction(
                (math.factorial if node.kind == "factorial" else math.comb)(*map(int, args))
            )
        case _:
            raise Undefined(f"{node.kind} is not rational")
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise Undefined("too large")
    return result


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if (
        exponent.denominator != 1
        or bits * abs(exponent) > MAX_BITS
        or (base == 0 and exponent <= 0)
    ):
        raise Undefined("power")
    return base ** int(exponent)


def _exact_root(base: Fraction, index: Fraction) -> Fraction:
    """The real root. Raises Undefined if it is not rational."""
    if index.denominator != 1 or not 2 <= index <= 20 or (base < 0 and index % 2 == 0):
        raise Undefined("root")
    n = int(index)
    above, below = _integer_root(abs(base.numerator), n), _integer_root(base.denominator, n)
    if Fraction(above**n, below**n) != abs(base):
        raise Undefined("root")
    return Fraction(above if base >= 0 else -above, below)


def _integer_root(value: int, n: int) -> int:
    """The integer part of the n-th root."""
    if n == 2:
        return math.isqrt(value)
    if value.bit_length() > 900:
        raise Undefined("too large")
    guess = round(value ** (1 / n))
    return next((k for k in (guess - 1, guess, guess + 1) if k >= 0 and k**n == value), guess)


def _exact_logarithm(value: Fraction, base: Fraction) -> Fraction:
    if value <= 0 or base <= 0 or base == 1:
        raise Undefined("logarithm")
    guess = Fraction(round(_log(value) / _log(base)))
    if _exact_power(base, guess) != value:
        raise Undefined("logarithm")
    return guess


def _log(value: Fraction) -> float:
    return math.log(value.numerator) - math.log(value.denominator)


def approximate(node: Node, values: Mapping[str, float]) -> complex:
    """The value of a tree in double precision. Raises Undefined if it has none or overflows."""
    try:
        result = _approximate(node, values)
    except (ArithmeticError, ValueError, KeyError) as error:
        raise Undefined(str(error)) from error
    if cmath.isnan(result) or cmath.isinf(result):
        raise Undefined("not finite")
    return result


def _approximate(node: Node, values: Mapping[str, float]) -> complex:
    args = [_approximate(arg, values) for arg in node.args]
    match node.kind:
        case "number":
            return complex(node.value)
        case "constant":
            return complex(_CONSTANTS[node.name])
        case "variable":
            return complex(values[node.name])
        case "sum":
            return sum(args, 0j)
        case "product":
            return math.prod(args, start=1 + 0j)
        case "negative":
            # -(16 + 0j) has a negative zero, which moves its root to the other branch
            return 0 - args[0]
        case "modulus":
            return complex(abs(args[0]))
        case "quotient":
            return args[0] / args[1]
        case "power":
            return args[0] ** args[1]
        case "root":
            return _approximate_root(*args)
        case "logarithm":
            return cmath.log(args[0]) / cmath.log(args[1])
        case "function":
            value = _FUNCTIONS[node.name](args[0])
            # \sin\pi is 0: a root or a quotient must not amplify its rounding error
            return 0j if abs(value) < 1e-15 else value
        case _:
            return complex(exact(node, {}))


def _approximate_root(base: complex, index: complex) -> complex:
    if index == 2:
        return cmath.sqrt(base)
    if base.imag == 0 and base.real < 0 and index.imag == 0 and index.real % 2 == 1:
        return -((-base) ** (1 / index))  # the real root
    return base ** (1 / index)


def rational(node: Node) -> Fraction | None:
    """The value of a tree without variables; None if it has variables or is not rational."""
    try:
        return None if node.names else exact(node, {})
    except Undefined:
        return None


def integer_points(names: frozenset[str]) -> list[dict[str, int]]:
    """Four fixed random integer points of both signs.

    Two rational functions that agree at all of them are taken as equal.
    """
    draw = random.Random(20)
    ordered = sorted(names)
    sizes = [{name: draw.randint(1_000, 99_999) for name in ordered} for _ in range(4)]
    return [
        {
            name: size if (j >> (i % 2)) & 1 else -size
            for i, (name, size) in enumerate(point.items())
        }
        for j, point in enumerate(sizes)
    ]


def real_points(names: frozenset[str]) -> list[dict[str, float]]:
    """Eight fixed points near 1, some of them integers.

    They cover all combinations of signs of three variables.
    """
    sizes = (0.83, 1.27, 2.39, 3.0, 4.0, 0.31, 1.91, 2.0)
    return [
        {
            name: (-1.0 if (j >> (i % 3)) & 1 else 1.0) * (size + 0.61 * i)
            for i, name in enumerate(sorted(names))
        }
        for j, size in enumerate(sizes)
    ]


def real_roots(node: Node) -> Node:
    """The tree with each odd root of a negative number as minus the root of its opposite.

    Algebra systems would take the complex root instead of the real one.
    """
    args = tuple(real_roots(arg) for arg in node.args)
    tree = replace(node, args=args)
    if node.kind == "root" and (index := rational(args[1])) is not None and index % 2 == 1:
        value = rational(args[0])
        if value is not None and value < 0:
            return Node("negative", (replace(tree, args=(Node("number", value=-value), args[1])),))
    return tree


def close(a: complex, b: complex, tolerance: float = FLOAT_PRECISION) -> bool:
    """Whether two values are equal up to a relative error, so that 1e-20 and 1e-21 differ."""
    return a == b or abs(a - b) <= tolerance * max(abs(a), abs(b))


def identical(a: Node, b: Node) -> bool | None:
    """Whether two trees have the same value everywhere; None if only an algebra system can tell."""
    names = a.names
    if names != b.names:
        return False
    if not names or (_is_rational_function(a) and _is_rational_function(b)):
        try:
            return all(exact(a, point) == exact(b, point) for point in integer_points(names))
        except Undefined:
            pass
    return None if _alike(a, b) else False


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


def equal_decimal(decimal: Node, other: Node) -> bool:
    """Whether a decimal of 10 digits or more equals a value up to float precision."""
    literal = decimal.args[0] if decimal.kind == "negative" else decimal
    if (
        literal.kind != "number"
        or literal.value.denominator == 1
        or len(literal.name.strip("0.")) < 10
    ):
        return False
    written, value = rational(decimal), rational(other)
    if written is None or value is None:
        return close(approximate(decimal, {}), approximate(other, {}))
    error = abs(written - value)
    if value.denominator == 1:
        return error <= abs(value) * Fraction(1, 10**9) and error < Fraction(1, 10**6)
    # a value with a finite expansion can be written exactly: only float noise is allowed
    return error <= abs(value) * (Fraction(1, 10**12) if _terminates(value) else Fraction(1, 10**9))


def _terminates(value: Fraction) -> bool:
    """Whether a number has a finite decimal expansion."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
