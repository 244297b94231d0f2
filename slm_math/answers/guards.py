"""Reject text that would overload the algebra process: long, deep, unknown or hostile."""

from __future__ import annotations

from slm_math.patterns import lazy_pattern

MAX_LENGTH, MAX_DEPTH = 300, 12
MAX_NESTING = 40  # levels of brackets that are parsed, so that the stack cannot overflow
_COMMAND = lazy_pattern(r"\\([a-zA-Z]+)")
_SAFE = frozenset(
    """frac sqrt pi cdot times div pm mp binom sin cos tan cot sec csc arcsin arccos arctan
    sinh cosh tanh log ln lg exp infty cup cap setminus emptyset in le ge ne begin end text
    alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi omega
    Delta Omega Phi Gamma Theta Lambda lfloor rfloor lceil rceil langle rangle
    mathbb mathbf mathrm vec overline parallel perp circ to""".split()  # noqa: SIM905
)
_TOWER = lazy_pattern(
    r"\^\s*(?:\{[^{}]*\^|\d{4}|\{\s*-?\d{4})|\d{40}|!|\\binom.*(?:\d{4}|\^)"
    # math-verify's grammar would silently drop these: bases, primes, cross products
    r"|[\d)}]\s*_|\\(?!log)[a-zA-Z]+_|['\"`]|\\vec.*\\times|\.\."
)


def hostile(text: str) -> bool:
    """Whether an expression is too long, too deep, no algebra, or stacks powers or huge numbers."""
    if (
        not text
        or len(text) > MAX_LENGTH
        or _depth(text) > MAX_DEPTH
        or _TOWER.search(text)
        or not text.isascii()
    ):
        return True
    return any(name not in _SAFE for name in _COMMAND.findall(text))


def deep(text: str) -> bool:
    """Whether brackets are nested deeper than in any sensible answer."""
    return len(text) > MAX_NESTING and _depth(text) > MAX_NESTING


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
