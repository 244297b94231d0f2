"""The algebra worker process: compares two expressions.

What our own grammar reads is compared by `numeric`; the rest is read by math-verify and compared
with sympy. `pool` starts this module as a process; nothing imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from slm_math.answers import effort, numeric
from slm_math.answers.expressions import Unread, read
from slm_math.answers.second_opinion import (
    by_math_verify,
    found_by_math_verify,
    stated_by_math_verify,
)

DIGITS = 50
DEEP_DIGITS = 800  # the second look at two values that agree in the first 50 digits
_POINTS = ("0.83", "-1.27", "2.39", "3", "-4", "6")
# further points for functions with kinks or branches: moduli, roots, floors, inverse functions
_FAR = ("8.5", "-9.3", "-23", "57", "-137", "1009")
# These warm up the parser: the first expression of a new form takes it up to a quarter of a second,
# the next one of that form a millisecond.
_FORMS = (
    r"\{1, 2, \sqrt{3}\}",
    r"(-\infty, \frac{1}{2}] \cup (3, \infty)",
    r"\begin{pmatrix} 1 & \frac{x}{2} \\ 3 & 4 \end{pmatrix}",
    r"f^{-1}(x) = \frac{x}{2}",
    r"\frac{\sin^2 x}{\cos(x) + 2} + (\frac{2}{y})^{3}",
    r"|x-3| \le \log_{2} 8",
    r"\mathbb{R} \setminus \{0\}",
    r"\tanh(x) + \sqrt[3]{x-\frac{1}{2}} \cdot (\lfloor x \rfloor)!",
)


class OutOfTime(BaseException):
    """The time limit has passed. No `except Exception` of a library may catch it."""


def main() -> None:
    """Answer questions, one JSON line each, until the input ends."""
    megabytes = int(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of a library must not look like a reply
    load()
    effort.count_libraries()
    confine(megabytes)
    signal.signal(signal.SIGPROF, _out_of_time)
    # the process that started this one may have blocked signals
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        start = time.process_time()
        steps, *question = json.loads(line)
        reply = limited(steps, *question)
        used = round(time.process_time() - start, 4)
        print(reply, steps - effort.left(), used, file=replies, flush=True)
        if reply == "timeout":
            break


def confine(megabytes: int) -> None:
    """Restrict this process for good: it can compute, and read the files of Python.

    It can no longer write, use the network, start processes or read other files. On systems without
    such filters only the memory limit holds; expressions are never executed on any system.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    with contextlib.suppress(ImportError, AttributeError, OSError):
        from slm_math.sandbox.boundary import lock

        readable_paths = [
            sys.prefix,
            sys.base_prefix,
            str(Path(__file__).parents[2]),
            "/lib",
            "/lib64",
            "/usr/lib",
            *sys.path,
        ]
        lock(megabytes << 20, landlock=None, reading=readable_paths)


def load() -> None:
    """Import the libraries and warm up the parser with every form of expression."""
    import logging

    logging.disable(logging.CRITICAL)
    for form in _FORMS:
        parsed(form)
    equal_objects(parsed("\\frac{x}{2}+\\sqrt{3}"), parsed("\\sqrt{3}+\\frac{x}{2}"))


def _out_of_time(*_: Any) -> None:
    raise OutOfTime


def limited(steps: int, seconds: float, kind: str, *expressions: str) -> str:
    """The reply to one question: at most so many steps, and seconds of processor time.

    The steps decide, so that every machine gives the same reply. The seconds are far more than the
    steps take; they end what takes long without steps. The cache is cleared first, so that the
    reply does not depend on earlier questions.
    """
    from sympy.core.cache import clear_cache

    try:
        effort.allow(1_000_000)
        clear_cache()
        effort.allow(steps)
        signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)
        verdict = _KINDS[kind](*expressions)
        signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTime:
        return "timeout"
    except effort.OutOfSteps:
        return "steps"
    except (Exception, RecursionError, MemoryError):  # untrusted text may break sympy in any way
        verdict = None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if isinstance(verdict, str):
        return verdict
    return "unread" if verdict is None else "yes" if verdict else "no"


def equal(answer: str, gold: str) -> bool | None:
    """Whether two expressions are equal; None if this cannot be decided."""
    try:
        trees = read(answer, spelled=True), read(gold, spelled=True)
    except Unread:
        return equal_objects(parsed(answer), parsed(gold))
    return numeric.same(*trees)


def proportional(answer: str, gold: str) -> bool | None:
    """Whether two expressions differ by a non-zero constant factor."""
    try:
        trees = read(answer, spelled=True), read(gold, spelled=True)
    except Unread:
        return proportional_objects(parsed(answer), parsed(gold))
    return numeric.proportional(*trees)


def equal_objects(a: Any, g: Any) -> bool | None:
    """Whether two objects of sympy are equal, by structure or by their values at `points`.

    None if this cannot be decided.
    """
    if a is None or g is None or _undefined(a) or _undefined(g):
        return None
    if a == g:
        return True
    if getattr(a, "free_symbols", None) != getattr(g, "free_symbols", 0):
        return False
    if not _both_expressions(a, g):
        return confirmed(a, g) if type(a).__name__ == type(g).__name__ else False
    compared_at = points(a, g)
    agreed = []
    for point in compared_at:
        agreed.append(agree(a, g, point))
        if agreed[-1] is False:
            return False
    if True not in agreed:
        return (a - g).equals(0)
    return not apart(a, g, compared_at[agreed.index(True)])


def proportional_objects(a: Any, g: Any) -> bool | None:
    """Whether two objects of sympy differ by a non-zero constant factor."""
    if a is None or g is None or not _both_expressions(a, g):
        return None
    if a.free_symbols != g.free_symbols or not (a.free_symbols or g.free_symbols):
        return False
    (first, *others) = [(evaluated(a, point), evaluated(g, point)) for point in points(a, g)]
    if any(None in pair or 0 in pair for pair in (first, *others)):
        return None
    return all(_near(first[0] * pair[1], pair[0] * first[1]) for pair in others)


def parsed(latex: str) -> Any:
    """The sympy object that math-verify's LaTeX grammar reads; None if it cannot read one."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import E, I

    # its removal of units would also remove variables: units are handled by `answers.units`
    spelling = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=spelling)
    objects = parse(f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None)  # pyright: ignore
    if len(objects) != 1 or isinstance(objects[0], str) or not hasattr(objects[0], "free_symbols"):
        return None
    [expression] = objects
    # `i` and `e` are constants, as in the grammar of `expressions`
    constants = {
        s: {"i": I, "e": E}[s.name] for s in expression.free_symbols if s.name in ("i", "e")
    }
    return expression.subs(constants)


def confirmed(a: Any, g: Any) -> bool:
    """math-verify's comparison of objects without a numeric value: sets, matrices, functions."""
    from math_verify import verify

    return verify(g, a, float_rounding=15, numeric_precision=DIGITS, timeout_seconds=None)


def points(*expressions: Any) -> list[dict[Any, Any]]:
    """The points at which expressions are compared, as values of their variables.

    The points lie near 1. If an expression has kinks or branches, points far from 1 and around the
    numbers in the expressions are added.
    """
    from sympy import Abs, Integer, Pow, Rational, ceiling, floor, log, sign
    from sympy.functions.elementary.trigonometric import InverseTrigonometricFunction

    symbols = sorted(set().union(*(e.free_symbols for e in expressions)), key=str)
    if not symbols:
        return [{}]
    places: list[Any] = [Rational(p) for p in _POINTS]
    bent = (Abs, Pow, floor, ceiling, log, sign, InverseTrigonometricFunction)
    if any(not part.is_polynomial(*symbols) for e in expressions for part in e.atoms(*bent)):
        numbers = {
            abs(n)
            for e in expressions
            for n in e.atoms(Rational)
            if 1 < max(abs(n.p), n.q) <= 10**6
        }
        whole = sorted({Integer(max(n.p, n.q)) for n in numbers})[:6]
        places += [Rational(p) for p in _FAR]
        places += [
            place
            for n in whole
            for place in (n - 1, n, n + 1, -n - 1, 1 - n, 2 * n + 1, n + Rational(1, 3))
        ]
    steps = [Rational(i, 7) if i % 2 == 0 else -Rational(i, 7) for i in range(len(symbols))]
    sampled = [
        {s: p + (step if p.q > 1 else i) for i, (s, step) in enumerate(zip(symbols, steps))}
        for p in places
    ]
    if len(symbols) > 1:  # also points whose variables are far from each other
        sampled += [
            {s: -v if i % 2 else v for i, (s, v) in enumerate(point.items())} for point in sampled
        ]
    return sampled


def agree(a: Any, g: Any, point: dict[Any, Any]) -> bool | None:
    """Whether two expressions agree at a point up to a relative error, so that tiny numbers differ.

    None if either has no value there, or if either has variables and is not real there: people take
    `\\sqrt{x^3}` and `x\\sqrt{x}` as equal.
    """
    from sympy import I

    left, right = evaluated(a, point), evaluated(g, point)
    if left is None or right is None:
        return None
    if point and not a.has(I) and not (_is_real(left) and _is_real(right)):
        return None
    return _near(left, right)


def _is_real(value: Any) -> bool:
    return abs(complex(value).imag) <= 1e-30 * abs(complex(value))


def evaluated(expression: Any, point: dict[Any, Any]) -> Any:
    """The value of an expression at a point; None if it has none or one out of range."""
    value = expression.subs(point).doit().evalf(DIGITS + 10)
    try:
        size = abs(complex(value))
    except (TypeError, OverflowError):
        return None
    # rounding noise around an exact zero has no meaningful relative error
    return value if value == 0 or (1e-40 < size < 1e300) else None


def _undefined(expression: Any) -> bool:
    """Whether an expression holds a division by zero, whose results all compare as equal."""
    from sympy import nan, zoo

    return hasattr(expression, "has") and bool(expression.has(nan, zoo))


def apart(a: Any, g: Any, point: dict[Any, Any]) -> bool:
    """Whether two values that agree in `DIGITS` digits still differ, such as 2 and 2 + 10^-60."""
    difference = (a - g).subs(point).doit()
    if difference == 0:
        return False
    size = abs(difference.evalf(15, maxn=DEEP_DIGITS))
    return bool(size * 10 ** (DEEP_DIGITS // 2) > max(abs(evaluated(a, point)), 1))


def _near(left: Any, right: Any) -> bool:
    size = max(abs(left), abs(right))
    return bool(size == 0 or abs(left - right) <= size * 10**-DIGITS)


_KINDS = {
    "equal": equal,
    "proportional": proportional,
    "opinion": by_math_verify,
    "stated formula": stated_by_math_verify,
    "any formula": found_by_math_verify,
}


def _both_expressions(a: Any, g: Any) -> bool:
    from sympy import Expr

    return isinstance(a, Expr) and isinstance(g, Expr)


if __name__ == "__main__":
    main()
