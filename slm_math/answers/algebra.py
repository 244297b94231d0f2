"""The worker process: compares with sympy what our grammar or math-verify reads. Started by `pool`,
never imported.
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

from slm_math.answers.expressions import Node, Unread, read

DIGITS = 50
DEEP_DIGITS = 800  # to which a difference that shows nothing in 50 digits is looked at once more
_POINTS = ("0.83", "-1.27", "2.39", "3", "-4", "6")
# for what bends: moduli, roots, floors, inverse functions
_FAR = ("8.5", "-9.3", "-23", "57", "-137", "1009")
# what the parser learns from: an unknown form costs it up to a quarter of a second, a known one a
# millisecond
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
    """Not an Exception: nothing in between may swallow it."""


def main() -> None:
    """Answer questions, one JSON line each, until the input ends."""
    megabytes = int(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    load()
    confine(megabytes)
    signal.signal(signal.SIGPROF, _out_of_time)
    # the process that started this one may have blocked signals
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        start = time.process_time()
        reply = limited(*json.loads(line))
        print(reply, round(time.process_time() - start, 4), file=replies, flush=True)
        if reply == "timeout":
            break


def confine(megabytes: int) -> None:
    """From here on this process can compute and read Python's own files: no writing, network,
    processes, other files.

    Where the system has no such filters, the limit on memory is all there is; the text is never
    executed either way.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    with contextlib.suppress(ImportError, AttributeError, OSError):
        from slm_math.sandbox.boundary import lock

        places = [
            sys.prefix,
            sys.base_prefix,
            str(Path(__file__).parents[2]),
            "/lib",
            "/lib64",
            "/usr/lib",
            *sys.path,
        ]
        lock(megabytes << 20, landlock=None, reading=places)


def load() -> None:
    """Import the libraries and show their parser every form of expression, so that no question pays
    for the first.
    """
    import logging

    logging.disable(logging.CRITICAL)
    for form in _FORMS:
        parsed(form)
    equal("\\frac{x}{2}+\\sqrt{3}", "\\sqrt{3}+\\frac{x}{2}")


def _out_of_time(*_: Any) -> None:
    raise OutOfTime


def limited(seconds: float, kind: str, *expressions: str) -> str:
    """The reply to one question within `seconds` of processor time, whatever was asked before."""
    from sympy.core.cache import clear_cache

    try:
        clear_cache()
        signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)
        verdict = {"equal": equal, "proportional": proportional}[kind](*expressions)
        signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTime:
        return "timeout"
    except (Exception, RecursionError, MemoryError):  # untrusted text may break sympy in any way
        verdict = None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "unread" if verdict is None else "yes" if verdict else "no"


def equal(answer: str, gold: str) -> bool | None:
    """Whether two expressions are the same, as they are read or by their digits at `points`; None:
    nobody can tell.
    """
    a, g, same_names = both(answer, gold)
    if a is None or g is None or _undefined(a) or _undefined(g):
        return None
    if a == g:
        return True
    if not same_names:
        return False
    if not _both_expressions(a, g):
        return confirmed(a, g) if type(a).__name__ == type(g).__name__ else False
    places = points(a, g)
    agreed = [agree(a, g, point) for point in places]
    if False in agreed:
        return False
    if True not in agreed:
        return (a - g).equals(0)
    return not apart(a, g, places[agreed.index(True)])


def proportional(answer: str, gold: str) -> bool | None:
    """Whether two expressions differ by a non-zero constant factor."""
    a, g, same_names = both(answer, gold)
    if a is None or g is None or not _both_expressions(a, g):
        return None
    if not same_names or not (a.free_symbols or g.free_symbols):
        return False
    (first, *others) = [(evaluated(a, point), evaluated(g, point)) for point in points(a, g)]
    if any(None in pair or 0 in pair for pair in (first, *others)):
        return None
    return all(_near(first[0] * pair[1], pair[0] * first[1]) for pair in others)


def both(answer: str, gold: str) -> tuple[Any, Any, bool]:
    """Two sympy objects (None: unreadable), and whether they speak of the same variables.

    What this package can read itself goes straight from its tree to sympy: math-verify's grammar
    costs up to a second for a form of expression that this process has not met before.
    """
    try:
        trees = read(answer), read(gold)
    except Unread:
        a, g = parsed(answer), parsed(gold)
        return a, g, getattr(a, "free_symbols", None) == getattr(g, "free_symbols", 0)
    return built(trees[0]), built(trees[1]), trees[0].names == trees[1].names


def built(tree: Node) -> Any:
    """The sympy object of a tree; None where a part has no finite value (sympy goes on: |1/0| is
    its infinity).
    """
    import sympy

    args = [built(arg) for arg in tree.args]
    if any(arg is None for arg in args):
        return None
    value = _made(tree, args)
    return None if value in (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) else value


def _made(tree: Node, args: list[Any]) -> Any:
    import sympy

    match tree.kind:
        case "number":
            return sympy.Rational(tree.value.numerator, tree.value.denominator)
        case "constant":
            return {"\\pi": sympy.pi, "e": sympy.E, "i": sympy.I}[tree.name]
        case "sum":
            return sympy.Add(*args)
        case "product":
            return sympy.Mul(*args)
        case "negative":
            return -args[0]
        case "quotient":
            return args[0] / args[1]
        case "power":
            return args[0] ** args[1]
        case "root":
            return sympy.root(args[0], args[1])
        case "modulus":
            return sympy.Abs(args[0])
        case "logarithm":
            return sympy.log(args[0]) / sympy.log(args[1])
        case "factorial" | "binomial":
            return getattr(sympy, tree.kind)(*args)
        case "function":
            name = tree.name.removeprefix("\\").replace("arc", "a")
            return getattr(sympy, name)(args[0])
    return sympy.Symbol(tree.name)


def parsed(latex: str) -> Any:
    """The sympy object that math-verify's LaTeX grammar makes of an expression; None when it reads
    no such thing.
    """
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import E, I

    # its removal of units would also remove variables: they are our business
    spelling = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    config = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=spelling)
    found = parse(f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None)  # pyright: ignore
    if len(found) != 1 or isinstance(found[0], str) or not hasattr(found[0], "free_symbols"):
        return None
    # `i` and `e` are constants to the grammar of `expressions`, whose question this is
    constants = {s: {"i": I, "e": E}[s.name] for s in found[0].free_symbols if s.name in ("i", "e")}
    return found[0].subs(constants)


def confirmed(a: Any, g: Any) -> bool:
    """math-verify's own comparison, for what has no numeric value: sets, matrices, symbolic
    functions.
    """
    from math_verify import verify

    return verify(g, a, float_rounding=15, numeric_precision=DIGITS, timeout_seconds=None)


def points(*expressions: Any) -> list[dict[Any, Any]]:
    """Where expressions are compared: near 1, and, if they bend somewhere, far away and around
    their own numbers.
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
    found = [
        {s: p + (step if p.q > 1 else i) for i, (s, step) in enumerate(zip(symbols, steps))}
        for p in places
    ]
    if len(symbols) > 1:  # variables that are far from each other, too
        found += [
            {s: -v if i % 2 else v for i, (s, v) in enumerate(point.items())} for point in found
        ]
    return found


def agree(a: Any, g: Any, point: dict[Any, Any]) -> bool | None:
    """Whether two values agree in a relative sense, so that tiny numbers differ.

    None where either has no value, and where variables take it off the real numbers: `\\sqrt{x^3}`
    and `x\\sqrt{x}` are the same to people.
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
    value = expression.subs(point).doit().evalf(DIGITS + 10)
    try:
        size = abs(complex(value))
    except (TypeError, OverflowError):
        return None
    # what is left of an exact zero is noise, and a relative error of noise says nothing
    return value if value == 0 or (1e-40 < size < 1e300) else None


def _undefined(expression: Any) -> bool:
    """Whether it holds a division by zero: whatever is computed from that equals everything else
    computed from it.
    """
    from sympy import nan, zoo

    return hasattr(expression, "has") and bool(expression.has(nan, zoo))


def apart(a: Any, g: Any, point: dict[Any, Any]) -> bool:
    """Whether two values that agree in `DIGITS` digits differ all the same, as 2
    and 2 + 10^-60 do.
    """
    difference = (a - g).subs(point).doit()
    if difference == 0:
        return False
    size = abs(difference.evalf(15, maxn=DEEP_DIGITS))
    return bool(size * 10 ** (DEEP_DIGITS // 2) > max(abs(evaluated(a, point)), 1))


def _near(left: Any, right: Any) -> bool:
    size = max(abs(left), abs(right))
    return bool(size == 0 or abs(left - right) <= size * 10**-DIGITS)


def _both_expressions(a: Any, g: Any) -> bool:
    from sympy import Expr

    return isinstance(a, Expr) and isinstance(g, Expr)


if __name__ == "__main__":
    main()
