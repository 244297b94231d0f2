"""Answers that copy an expression from the problem instead of evaluating it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from slm_math.answers.arithmetic import rational
from slm_math.answers.expressions import Node, Unread, read
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalize, split_top
from slm_math.answers.structures import parse
from slm_math.answers.values import Bag, Relation, Scalar, Value, scalar
from slm_math.patterns import lazy_pattern

MAX_PROBLEM = 20_000  # characters of a problem that are searched
MAX_EXPRESSIONS = 200
_MATHS = lazy_pattern(
    r"\\begin\{(?:align|equation|gather|multline|eqnarray)\*?\}(.+?)\\end\{|\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_PLAIN = lazy_pattern(r"[0-9(√][-+*/^().0-9a-z×÷·√! ]*[0-9)!a-z]")
_BREAKS = lazy_pattern(r"=|<|>|,|;|\\(?:le|ge|ne|approx|text|quad)(?![a-zA-Z])")
_LEAVES = frozenset(("number", "constant", "variable"))


def copied(answer: str, gold: str, problem: str) -> bool:
    """Whether `answer`, which equals `gold`, is copied from the problem with an open operation.

    The operation is open if `gold` has carried it out. Expressions are compared without regard to
    names, units, brackets and the order of terms and factors: `x = 23*17`, `(17)(23)` and
    `17 \\cdot 23` are the same copy.
    """
    if answer.strip() == gold.strip():
        return False
    answer_forms = _forms(normalize(answer))
    operations = {form for form in answer_forms if _operates(form)}
    if not operations or answer_forms <= _forms(normalize(gold)):
        return False
    return operations <= _problem_forms(problem[:MAX_PROBLEM])


def _forms(text: str) -> set[str]:
    """The canonical forms of the expressions in an answer."""
    return set() if deep(text) else {_form(tree) for tree in _trees(parse(text))}


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
def _problem_forms(problem: str) -> frozenset[str]:
    """The canonical forms of all expressions in a problem and of their parts."""
    problem = problem.replace("\\$", "＄").replace("&", "")  # a price does not open a formula
    texts = [next(filter(None, formula.groups())) for formula in _MATHS.finditer(problem)]
    texts += [formula.group() for formula in _PLAIN.finditer(_MATHS.sub(" ", problem))]
    texts = [piece for text in texts for piece in text.split("\\\\")]  # the lines of an align
    forms: set[str] = set()
    for text in texts[:MAX_EXPRESSIONS]:
        for piece in split_top(normalize(text), _BREAKS) if len(text) < 400 else ():
            for tree in _expressions(piece):
                forms.update(_form(part) for part in tree.walk())
    return frozenset(forms)


def _expressions(piece: str) -> Iterator[Node]:
    """The expression that a piece is, or the expressions between the words of plain text."""
    whole = scalar(piece) if piece and not deep(piece) else None
    if whole is not None:
        yield whole.tree
        return
    for part in re.split(r"[a-zA-Z]{2,}|(?<= )[a-z](?= )", piece) if "\\" not in piece else ():
        try:
            yield read(part.strip())
        except Unread:
            continue


def _operates(form: str) -> bool:
    return "(" in form


def _form(node: Node) -> str:
    """The canonical form of a tree: operations as `name(arguments)`, commuting ones sorted."""
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
    """The form of a tree that counts as evaluated although it holds an operation; None otherwise.

    Such trees are reduced fractions, square roots of square-free integers and moduli of expressions
    that are not negative.
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
    """The form of a sum or a product, with inner brackets, signs and ones removed."""
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
    """(sign, factors of the numerator, factors of the denominator) of a tree."""
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
