"""Evaluate and compare expression trees: exactly if rational, otherwise in double precision."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from slm_math.answers.expressions import SERIES, Node

MAX_BITS = 50_000
FLOAT_PRECISION = 1e-9
MAX_TERMS = 2_000  # of a sum over a range
_Number = TypeVar("_Number", Fraction, complex)
_FUNCTIONS = {
    "\\sin": cmath.sin, "\\cos": cmath.cos, "\\tan": cmath.tan,
    "\\cot": lambda x: 1 / cmath.tan(x), "\\sec": lambda x: 1 / cmath.cos(x),
    "\\csc": lambda x: 1 / cmath.sin(x),
    "\\arcsin": cmath.asin, "\\arccos": cmath.acos, "\\arctan": cmath.atan,
    "\\sinh": cmath.sinh, "\\cosh": cmath.cosh, "\\tanh": cmath.tanh,
    "\\ln": cmath.log, "\\exp": cmath.exp,
}  # fmt: skip
_CONSTANTS = {"\\pi": math.pi, "e": math.e, "i": 1j}


class Undefined(ArithmeticError):
    """The expression has no value here (division by zero, overflow, not rational)."""


def exact(node: Node, values: Mapping[str, float]) -> Fraction:
    """The rational value of a tree at rational values of its variables.

    Raises Undefined if the value is not rational.
    """
    try:
        return _exact(node, values)
    except (ArithmeticError, ValueError, KeyError) as error:
        raise Undefined(str(error)) from error


def _exact(node: Node, values: Mapping[str, float]) -> Fraction:
    if node.kind in SERIES.values():
        if not values:
            return _constant_series(node)
        return fold(node, values, _exact, Fraction(node.kind == "repeated"))
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
        case "factorial" | "semifactorial" | "binomial":
            result = Fraction(_counted(node.kind, *map(_natural, args)))
        case _:
            raise Undefined(f"{node.kind} is not rational")
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise Undefined("too large")
    return result


@lru_cache(maxsize=256)
def _constant_series(node: Node) -> Fraction:
    return fold(node, {}, _exact, Fraction(node.kind == "repeated"))


def fold(
    node: Node,
    values: Mapping[str, float],
    evaluate: Callable[[Node, Mapping[str, float]], _Number],
    start: _Number,
) -> _Number:
    """The value of a sum or a product over a range, whose ends have integer values."""
    result = start
    for number in indices(node, values):
        term = evaluate(node.args[3], {**values, node.args[0].name: number})
        result = result + term if node.kind == "total" else result * term
        if isinstance(result, Fraction) and result.denominator.bit_length() > MAX_BITS:
            raise Undefined("too large")
    return result


def indices(node: Node, values: Mapping[str, float]) -> range:
    """The values of the variable of a sum over a range.

    A range may be empty, but one that ends before that has no value: formulas for sums from 1 to n
    hold for n = 0, not for n = -1.
    """
    first, last = (_exact(arg, values) for arg in node.args[1:3])
    nested = any(part.kind in SERIES.values() for part in node.args[3].walk())
    most = math.isqrt(MAX_TERMS) if nested else MAX_TERMS
    if first.denominator != 1 or last.denominator != 1 or not -1 <= last - first < most:
        raise Undefined("a range")
    return range(int(first), int(last) + 1)


def _natural(value: Fraction) -> int:
    if value.denominator != 1 or value < 0:
        raise Undefined("not a natural number")
    return int(value)


def _counted(kind: str, n: int, k: int = 0) -> int:
    """n!, n!! = n (n - 2) (n - 4)..., or the number of ways to choose k of n."""
    factors = max(min(k, n - k), 0) if kind == "binomial" else n
    if factors * n.bit_length() > 2 * MAX_BITS:
        raise Undefined("too large")
    if kind == "binomial":
        return math.comb(n, k)
    return math.factorial(n) if kind == "factorial" else math.prod(range(n, 0, -2))


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
    if node.kind in SERIES.values():
        return fold(node, values, _approximate, complex(node.kind == "repeated"))
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
        case "factorial" | "semifactorial" | "binomial" if all(abs(arg) < 1000 for arg in args):
            return complex(_counted(node.kind, *(_natural(Fraction(arg.real)) for arg in args)))
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


def close(a: complex, b: complex, tolerance: float = FLOAT_PRECISION) -> bool:
    """Whether two values are equal up to a relative error, so that 1e-20 and 1e-21 differ."""
    return a == b or abs(a - b) <= tolerance * max(abs(a), abs(b))


def equal_decimal(decimal: Node, other: Node) -> bool:
    """Whether a decimal of 10 digits or more equals a value up to float precision."""
    literal = decimal.args[0] if decimal.kind == "negative" else decimal
    if not is_long(literal):
        return False
    written, value = rational(decimal), rational(other)
    if written is None or value is None:
        return close(approximate(decimal, {}), approximate(other, {}))
    error = abs(written - value)
    if value.denominator == 1:
        return error <= abs(value) * Fraction(1, 10**9) and error < Fraction(1, 10**6)
    # a value with a finite expansion can be written exactly: only float noise is allowed
    return error <= abs(value) * (Fraction(1, 10**12) if _terminates(value) else Fraction(1, 10**9))


def with_fractions(node: Node) -> Node:
    """The tree with the fraction that each decimal of 10 digits or more stands for, if it has one.

    0.3333333333 x is x/3, but 0.1234567891 is itself.
    """
    if not any(map(is_long, node.walk())):
        return node
    if node.kind == "number":
        value = node.value.limit_denominator(1000)
        near = abs(node.value - value) <= abs(value) * Fraction(1, 10**10)
        return replace(node, value=value, name=str(value)) if near else node
    return replace(node, args=tuple(with_fractions(arg) for arg in node.args))


def is_long(literal: Node) -> bool:
    """Whether a node is a decimal of 10 digits or more."""
    if literal.kind != "number" or literal.value.denominator == 1:
        return False
    return len(literal.name.strip("0.")) >= 10


def _terminates(value: Fraction) -> bool:
    """Whether a number has a finite decimal expansion."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
