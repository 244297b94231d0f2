"""Answers that only repeat the problem: expressions copied from it, with operations that the
reference carried out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from slm_math.answers.arithmetic import rational
from slm_math.answers.expressions import Node, Unread, read
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalise, split_top
from slm_math.answers.structures import parse
from slm_math.answers.values import Bag, Relation, Scalar, Value, scalar

MAX_PROBLEM = 20_000  # characters of a problem that are looked at
MAX_EXPRESSIONS = 200
_MATHS = re.compile(
    r"\\begin\{(?:align|equation|gather|multline|eqnarray)\*?\}(.+?)\\end\{|\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_PLAIN = re.compile(r"[0-9(√][-+*/^().0-9a-z×÷·√! ]*[0-9)!a-z]")
_BREAKS = re.compile(r"=|<|>|,|;|\\(?:le|ge|ne|approx|text|quad)(?![a-zA-Z])")
_LEAVES = frozenset(("number", "constant", "variable"))


def copied(answer: str, gold: str, problem: str) -> bool:
    """Whether `answer`, known to equal `gold`, stands in the problem with an operation that `gold`
    carried out.

    What counts is the expression, not its notation: names, units, brackets and the order of terms
    and factors are looked through (`x = 23*17`, `(17)(23)` and `17 \\cdot 23` are one copy).
    """
    if answer.strip() == gold.strip():
        return False
    said = [form for form in _forms(normalise(answer)) if form is not None]
    wanted = set(_forms(normalise(gold)))
    if not said or not any(_operates(form) for form in said) or set(said) <= wanted:
        return False
    return set(said) <= _asked(problem[:MAX_PROBLEM]) | {
        form for form in said if not _operates(form)
    }


def _forms(text: str) -> list[str | None]:
    """The canonical forms of the expressions in an answer; None for what is not read."""
    return [] if deep(text) else [_form(tree) for tree in _trees(parse(text))]


def _trees(value: Value) -> Iterator[Node]:
    if isinstance(value, Scalar):
        yield value.tree
    elif isinstance(value, Bag):
        for item in value.items:
            yield from _trees(item)
    elif isinstance(value, Relation):
        for side in value.sides[1:] if value.name else value.sides:
            yield from _trees(parse(side))


@lru_cache(maxsize=1024)
def _asked(problem: str) -> frozenset[str]:
    """The canonical forms of all expressions, and parts of expressions, that a problem holds."""
    problem = problem.replace("\\$", "＄").replace("&", "")  # a price opens no formula
    texts = [next(filter(None, found.groups())) for found in _MATHS.finditer(problem)]
    texts += [found.group() for found in _PLAIN.finditer(_MATHS.sub(" ", problem))]
    texts = [piece for text in texts for piece in text.split("\\\\")]  # the lines of an align
    forms: set[str] = set()
    for text in texts[:MAX_EXPRESSIONS]:
        for piece in split_top(normalise(text), _BREAKS) if len(text) < 400 else ():
            for run in _runs(piece):
                forms.update(_form(part) for part in run.walk())
    return frozenset(forms)


def _runs(piece: str) -> Iterator[Node]:
    """The expression of a piece; of plain text, also without the words around it."""
    found = scalar(piece) if piece and not deep(piece) else None
    if found is not None:
        yield found.tree
        return
    for part in re.split(r"[a-zA-Z]{2,}|(?<= )[a-z](?= )", piece) if "\\" not in piece else ():
        try:
            yield read(part.strip())
        except Unread:
            continue


def _operates(form: str) -> bool:
    return "(" in form


def _form(node: Node) -> str:
    """One spelling for a tree, whatever its notation: operations as `name(arguments)`, commuting
    ones sorted.
    """
    if node.kind == "number":
        return str(node.value)
    if node.kind in _LEAVES:
        return node.name
    if (value := _plain_value(node)) is not None:
        return value
    if node.kind in ("sum", "product", "quotient", "negative"):
        return _flat_form(node)
    args = [_form(arg) if (value := rational(arg)) is None else str(value) for arg in node.args]
    if node.kind == "root" and (index := rational(node.args[1])):
        return f"power({args[0]},{1 / index})"
    if node.kind == "power" and args[1] == "1":
        return args[0]
    name = node.name if node.kind == "function" else node.kind
    return f"{name}({','.join(args)})"


def _plain_value(node: Node) -> str | None:
    """What stands although it holds an operation: a reduced fraction, a root of a whole number
    without squares.
    """
    numbers = [rational(arg) for arg in node.args]
    if node.kind == "quotient" and all(n is not None and n.denominator == 1 for n in numbers):
        above, below = (int(n) for n in numbers if n is not None)
        return f"{above}/{below}" if math.gcd(above, below) == 1 and below > 1 else None
    if (
        node.kind == "root"
        and numbers[1] == 2
        and (n := numbers[0]) is not None
        and 1 < n < 10_000
        and n.denominator == 1
    ):
        return f"√{n}" if all(int(n) % (k * k) for k in range(2, 100)) else None
    if node.kind == "modulus" and (
        (numbers[0] is not None and numbers[0] >= 0) or _even_power(node.args[0])
    ):
        return _form(node.args[0])
    return None


def _even_power(node: Node) -> bool:
    exponent = rational(node.args[1]) if node.kind == "power" else None
    return exponent is not None and exponent % 2 == 0


def _flat_form(node: Node) -> str:
    """Sums and products without their inner brackets, signs and ones."""
    if node.kind == "sum":
        terms = sorted(form for term in _members(node, "sum") if (form := _form(term)) != "0")
        return terms[0] if len(terms) == 1 else f"sum({','.join(terms)})"
    sign, above, below = _factors(node)
    above, below = (sorted(part for part in parts if part != "1") for parts in (above, below))
    name = ",".join(above) + ("/" + ",".join(below) if below else "")
    bare = (
        above[0] if len(above) == 1 and not below else f"product({name})" if above or below else "1"
    )
    return bare if sign > 0 else f"-{bare}"


def _members(node: Node, kind: str) -> Iterator[Node]:
    for arg in node.args:
        if arg.kind == kind:
            yield from _members(arg, kind)
        else:
            yield arg


def _factors(node: Node) -> tuple[int, list[str], list[str]]:
    """(sign, factors above, factors below the line) of a product, a quotient or a negative."""
    if node.kind == "negative":
        sign, above, below = _factors(node.args[0])
        return -sign, above, below
    if node.kind == "quotient":
        sign, above, below = _factors(node.args[0])
        other, more_below, more_above = _factors(node.args[1])
        return sign * other, above + more_above, below + more_below
    if node.kind == "product":
        parts = [_factors(arg) for arg in node.args]
        sign = -1 if sum(part[0] < 0 for part in parts) % 2 else 1
        return sign, [f for part in parts for f in part[1]], [f for part in parts for f in part[2]]
    if node.kind == "number":
        return (-1 if node.value < 0 else 1), [str(abs(Fraction(node.value)))], []
    return 1, [_form(node)], []
