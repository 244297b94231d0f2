"""Compare two expressions of our own grammar by their values in many digits, at many points.

The algebra process does this: it needs no algebra system, only arithmetic of any precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mpmath import mp, mpc, mpf

from slm_math.answers import effort
from slm_math.answers.arithmetic import Undefined, exact, indices, rational
from slm_math.answers.expressions import SERIES, Node

DIGITS = 50  # in which equal values agree
USUAL, CAREFUL, DEEP = 110, 300, 850  # digits of the computation
_LARGEST_EXPONENT = 1_000_000
_LARGEST_ANGLE = 10**100
_POINTS = tuple(Fraction(p) for p in ("0.83", "-1.27", "2.39", "3", "-4", "6"))
# further points for functions with kinks or branches: moduli, roots, inverse functions
_FAR = tuple(Fraction(p) for p in ("8.5", "-9.3", "-23", "57", "-137", "1009"))
_BENT = ("modulus", "root", "logarithm")
_BENT_FUNCTIONS = ("\\ln", "\\arcsin", "\\arccos", "\\arctan")
_RATIOS = {
    "\\tan": ("sin", "cos"), "\\cot": ("cos", "sin"), "\\sec": (None, "cos"),
    "\\csc": (None, "sin"), "\\tanh": ("sinh", "cosh"),
}  # fmt: skip
_FUNCTIONS = {
    "\\sin": "sin", "\\cos": "cos", "\\sinh": "sinh", "\\cosh": "cosh", "\\exp": "exp",
    "\\ln": "log", "\\arcsin": "asin", "\\arccos": "acos", "\\arctan": "atan",
}  # fmt: skip
_GROWING = ("exp", "sinh", "cosh")
Point = Mapping[str, Fraction]


def same(a: Node, g: Node) -> bool | None:
    """Whether two trees agree at all points where both have a real value; None without such.

    Without variables, complex values are compared as well; with variables only if `i` occurs:
    people take `\\sqrt{x^3}` and `x\\sqrt{x}` as equal. If no point gives real values, the complex
    ones decide.
    """
    if a.names != g.names:
        return False
    complex_values = not a.names or any(_is_i(node) for tree in (a, g) for node in tree.walk())
    agreed: list[Point] = []
    complex_points: list[Point] = []
    for point in points(a, g):
        pair = _values(a, g, point, USUAL)
        if pair is None:
            continue
        if not complex_values and not all(map(_is_real, pair)):
            complex_points.append(point)
            continue
        if not _agree(a, g, point, pair):
            return False
        agreed.append(point)
    if not agreed:
        if not all(_agree(a, g, point) for point in complex_points):
            return False
        agreed = complex_points
    return not _apart(a, g, agreed[0]) if agreed else None


def proportional(a: Node, g: Node) -> bool | None:
    """Whether two trees differ by a non-zero constant factor; None if too few points tell."""
    if a.names != g.names or not a.names:
        return False
    pairs = []
    for point in points(a, g):
        pair = _values(a, g, point, CAREFUL)
        if pair is None or pair == (0, 0):
            continue
        if 0 in pair:
            return False
        pairs.append(pair)
    if len(pairs) < 3:
        return None
    (left, right), *others = pairs
    return all(_near(left * y, right * x) for x, y in others)


def points(a: Node, g: Node) -> list[Point]:
    """The points at which two trees are compared, as values of their variables.

    The points lie near 1. If a tree has kinks or branches, points far from 1 and around the numbers
    in the trees are added.
    """
    names = sorted(a.names | g.names)
    if not names:
        return [{}]
    nodes = [node for tree in (a, g) for node in tree.walk()]
    places = list(_POINTS)
    if any(_is_bent(node) for node in nodes):
        values = {abs(node.value) for node in nodes if node.kind == "number"}
        sizes = {max(v.numerator, v.denominator) for v in values}
        places += _FAR
        places += [
            Fraction(place)
            for n in sorted(size for size in sizes if 1 < size <= 10**6)[:6]
            for place in (n - 1, n, n + 1, -n - 1, 1 - n, 2 * n + 1, n + Fraction(1, 3))
        ]
    steps = [Fraction(i if i % 2 == 0 else -i, 7) for i in range(len(names))]
    sampled = [
        {
            name: p + (step if p.denominator > 1 else i)
            for i, (name, step) in enumerate(zip(names, steps))
        }
        for p in places
    ]
    if len(names) > 1:  # also points whose variables are far from each other
        sampled += [
            {name: -v if i % 2 else v for i, (name, v) in enumerate(point.items())}
            for point in sampled
        ]
    return sampled  # type: ignore[return-value]


def _is_bent(node: Node) -> bool:
    if not node.names:
        return False
    if node.kind == "power":
        exponent = rational(node.args[1])
        return exponent is None or exponent.denominator != 1
    return node.kind in _BENT or (node.kind == "function" and node.name in _BENT_FUNCTIONS)


def _is_i(node: Node) -> bool:
    return node.kind == "constant" and node.name == "i"


def _values(a: Node, g: Node, point: Point, digits: int) -> tuple[Any, Any] | None:
    """The values of two trees at a point; None if either has none."""
    try:
        with mp.workdps(digits):
            return evaluated(a, point, digits), evaluated(g, point, digits)
    except (Undefined, ArithmeticError, ValueError):
        return None


def _agree(a: Node, g: Node, point: Point, pair: tuple[Any, Any] | None = None) -> bool:
    """Whether two trees agree at a point in `DIGITS` digits; `pair` holds their values there.

    Digits that were lost in the computation are computed again, with more of them.
    """
    if pair is not None and _near(*pair):
        return True
    pair = _values(a, g, point, CAREFUL)
    return pair is not None and _near(*pair)


def _apart(a: Node, g: Node, point: Point) -> bool:
    """Whether two values that agree in `DIGITS` digits still differ, such as 2 and 2 + 10^-60."""
    pair = _values(a, g, point, DEEP)
    return pair is None or not _near(*pair, digits=DEEP // 2)


def _near(left: Any, right: Any, digits: int = DIGITS) -> bool:
    """Whether two values are equal up to a relative error, so that tiny numbers differ."""
    with mp.workdps(digits + 10):
        return left == right or abs(left - right) <= max(abs(left), abs(right)) * mpf(10) ** -digits


def _is_real(value: Any) -> bool:
    return abs(mp.im(value)) <= abs(value) * mpf(10) ** -30


def evaluated(node: Node, point: Mapping[str, Fraction], digits: int) -> Any:
    """The value of a tree, computed with so many digits. Raises Undefined if it has none.

    What is zero up to rounding is taken as zero, so that nothing is divided by noise.
    """
    effort.spend(1 if digits == USUAL else digits // 100)
    if node.kind in SERIES.values():
        return _series(node, point, digits)
    args = [evaluated(arg, point, digits) for arg in node.args]
    zero = mpf(10) ** -(digits * 7 // 10)
    match node.kind:
        case "number":
            return mpf(node.value.numerator) / node.value.denominator
        case "constant":
            return {"\\pi": +mp.pi, "e": +mp.e, "i": mpc(0, 1)}[node.name]
        case "variable":
            if node.name not in point:
                raise Undefined(node.name)
            return mpf(point[node.name].numerator) / point[node.name].denominator
        case "sum":
            total = mp.fsum(args)
            return mpf(0) if abs(total) <= zero * max(map(abs, args)) else total
        case "product":
            return mp.fprod(args)
        case "negative":
            return -args[0]
        case "modulus":
            return abs(args[0])
        case "quotient":
            return _divided(*args)
        case "power":
            return _power(*args)
        case "root":
            return _root(*args)
        case "logarithm":
            return _divided(_applied("log", args[0], zero), _applied("log", args[1], zero))
        case "function" if node.name in _RATIOS:
            above, below = (
                _applied(name, args[0], zero) if name else mpf(1) for name in _RATIOS[node.name]
            )
            return _divided(above, below)
        case "function":
            return _applied(_FUNCTIONS[node.name], args[0], zero)
    value = exact(node, point)  # type: ignore[arg-type]
    return mpf(value.numerator) / value.denominator


def _series(node: Node, point: Point, digits: int) -> Any:
    terms = [
        evaluated(node.args[3], {**point, node.args[0].name: Fraction(n)}, digits)
        for n in indices(node, point)  # type: ignore[arg-type]
    ]
    return mp.fsum(terms) if node.kind == "total" else mp.fprod(terms)


def _divided(above: Any, below: Any) -> Any:
    if below == 0:
        raise Undefined("division by zero")
    return above / below


def _power(base: Any, exponent: Any) -> Any:
    if base == 0:
        if not _is_real(exponent) or mp.re(exponent) <= 0:
            raise Undefined("a power of zero")
        return mpf(0)
    if abs(exponent) * (abs(mp.mag(base)) + 1) > _LARGEST_EXPONENT:
        raise Undefined("too large")
    return base**exponent


def _root(base: Any, index: Any) -> Any:
    if base == 0 or index == 0:
        return _power(base, _divided(mpf(1), index))
    if index == 2:
        return mp.sqrt(base)
    if _is_real(base) and mp.re(base) < 0 and index == mp.floor(mp.re(index)) and index % 2 == 1:
        return -_power(-mp.re(base), 1 / index)  # the real root
    return _power(base, 1 / index)


def _applied(name: str, argument: Any, zero: Any) -> Any:
    if name == "log" and argument == 0:
        raise Undefined("the logarithm of zero")
    if abs(argument) > (_LARGEST_EXPONENT if name in _GROWING else _LARGEST_ANGLE):
        raise Undefined("too large")
    value = getattr(mp, name)(argument)
    return mpf(0) if abs(value) <= zero < abs(argument) else value
