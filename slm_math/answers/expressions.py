"""Read a LaTeX expression into a small tree. No text is ever given to an interpreter.

Most comparisons need only this grammar. Expressions outside of it go to the algebra process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH, MAX_DEPTH = 400, 40
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.\d+|\.\d+|\d+\.?)"
    r"|(?P<vector>\\vec\{[a-zA-Z]\})|(?P<command>\\[a-zA-Z]+|\\[{}])"
    r"|(?P<letter>[a-zA-Z](?:_(?:[0-9a-zA-Z]|\{[0-9a-zA-Z]+\}))?'*)|(?P<mark>[-+*/^(){}\[\]|!°%_]))"
)
FUNCTIONS = frozenset((
    "\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc", "\\arcsin", "\\arccos", "\\arctan",
    "\\ln", "\\exp",
))  # fmt: skip
CONSTANTS = frozenset(("\\pi", "e", "i"))
_GREEK = frozenset((
    "\\alpha", "\\beta", "\\gamma", "\\delta", "\\theta", "\\lambda", "\\mu", "\\phi", "\\omega",
    "\\sigma", "\\rho",
))  # fmt: skip
_TIMES = frozenset(("*", "\\cdot", "\\times"))


class Unread(ValueError):
    """The expression is outside the grammar, too long, or too deep."""


@dataclass(frozen=True)
class Node:
    """An operation with its arguments, or a leaf.

    `kind` of a leaf is number, constant or variable; of an operation it is sum, product, quotient,
    negative, power, root, function, logarithm (argument, base), factorial, binomial or modulus.
    """

    kind: str
    args: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""

    def walk(self) -> list[Node]:
        return [self] + [node for arg in self.args for node in arg.walk()]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(node.name for node in self.walk() if node.kind == "variable")


DEGREE = Node(
    "quotient", (Node("constant", name="\\pi"), Node("number", value=Fraction(180), name="180"))
)


def read(text: str) -> Node:
    """The tree of a normalized LaTeX expression. Raises Unread."""
    return _Reader(text).all()


def spell(node: Node) -> str:
    """Unambiguous LaTeX for a tree, with all its parentheses."""
    args = [spell(arg) for arg in node.args]
    match node.kind:
        case "number":
            if node.value.denominator == 1:
                return str(node.value)
            return f"\\frac{{{node.value.numerator}}}{{{node.value.denominator}}}"
        case "sum":
            return f"({'+'.join(args)})"
        case "product":
            return "(" + " \\cdot ".join(args) + ")"
        case "negative":
            return f"(-{args[0]})"
        case "quotient":
            return f"\\frac{{{args[0]}}}{{{args[1]}}}"
        case "power":
            return f"({args[0]})^{{{args[1]}}}"
        case "root":
            return f"\\sqrt[{args[1]}]{{{args[0]}}}"
        case "function":
            return f"{node.name}({args[0]})"
        case "logarithm":
            return f"\\log_{{{args[1]}}}({args[0]})"
        case "factorial":
            return f"({args[0]})!"
        case "binomial":
            return f"\\binom{{{args[0]}}}{{{args[1]}}}"
        case "modulus":
            return f"|{args[0]}|"
    return node.name


class _Reader:
    """A parser by recursive descent: sum > product > sign > power > atom."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise Unread("too long")
        self.tokens: list[str] = []
        self.at, self.depth, position = 0, 0, 0
        while position < len(text.rstrip()):
            token = _TOKEN.match(text, position)
            if token is None:
                raise Unread(text[position:])
            self.tokens.append(token.group().strip())
            position = token.end()

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unread(f"expected {expected or 'more'}")
        self.at += 1
        return token

    def all(self) -> Node:
        tree = self.sum()
        if self.peek():
            raise Unread(self.peek())
        return tree

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("too deep")
        terms = [self.product()]
        while self.peek() in ("+", "-") and self.peek():
            minus = self.take() == "-"
            term = self.product()
            terms.append(Node("negative", (term,)) if minus else term)
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("sum", tuple(terms))

    def product(self) -> Node:
        if self.peek() in ("-", "+") and self.peek():
            minus = self.take() == "-"
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Unread("too deep")
            term = self.product()
            self.depth -= 1
            return Node("negative", (term,)) if minus else term
        factors = [self.power()]
        while token := self.peek():
            if token in _TIMES:
                self.take()
                factors.append(self.signed())
                if token == "\\times" and all("\\vec" in factor.name for factor in factors[-2:]):
                    raise Unread("a cross product")
            elif token in ("/", "\\div"):
                self.take()
                factors[-1] = Node("quotient", (factors[-1], self.signed()))
            elif self.starts_factor(token):
                if token[0].isdigit() and factors[-1].kind == "number":
                    raise Unread("two numbers side by side")
                factors.append(self.power())
            else:
                break
        return factors[0] if len(factors) == 1 else Node("product", tuple(factors))

    def signed(self) -> Node:
        if self.peek() == "-":
            self.take()
            return Node("negative", (self.power(),))
        return self.power()

    def starts_factor(self, token: str) -> bool:
        return token[0].isalnum() or token[0] == "." or token in ("(", "{") or (
            token in FUNCTIONS or token in _GREEK or token.startswith("\\vec")
            or token in ("\\pi", "\\frac", "\\sqrt", "\\binom", "\\log", "\\lg")
        )  # fmt: skip

    def power(self) -> Node:
        base = self.atom()
        while self.peek() in ("^", "!", "°", "%") and self.peek():
            mark = self.take()
            if mark == "^":
                base = Node("power", (base, self.argument()))
                if self.peek() == "^":
                    raise Unread("two exponents")
            elif mark == "!":
                base = Node("factorial", (base,))
            elif mark == "°":
                base = Node("product", (base, DEGREE))
            else:
                raise Unread(mark)
        return base

    def argument(self) -> Node:
        """One LaTeX argument: a group in braces, a digit, a letter or a command."""
        if self.peek() == "{":
            return self.group("}")
        if self.peek() == "-":
            self.take()
            return Node("negative", (self.argument(),))
        return self.atom()  # LaTeX reads x^12 as x^1 followed by 2, but writers mean x^{12}

    def group(self, close: str) -> Node:
        self.take()
        inside = self.sum()
        self.take(close)
        return inside

    def atom(self) -> Node:
        token = self.peek()
        if token == "(":
            return self.group(")")
        if token == "{":
            return self.group("}")
        if token == "|":
            return Node("modulus", (self.group("|"),))
        self.take()
        if token[0].isdigit() or token[0] == ".":
            return Node("number", value=Fraction(token.replace(",", "")), name=token)
        if token in ("\\frac", "\\binom"):
            return Node(
                "quotient" if token == "\\frac" else "binomial", (self.argument(), self.argument())
            )
        if token == "\\sqrt":
            return self.root()
        if token in FUNCTIONS:
            return self.function(token)
        if token in ("\\log", "\\lg"):
            return self.logarithm()
        if token in CONSTANTS:
            return Node("constant", name=token)
        if token in _GREEK or token[0].isalpha() or token.startswith("\\vec"):
            return Node("variable", name=token.replace("{", "").replace("}", ""))
        raise Unread(token)

    def root(self) -> Node:
        index = Node("number", value=Fraction(2))
        if self.peek() == "[":
            index = self.group("]")
        return Node("root", (self.argument(), index))

    def logarithm(self) -> Node:
        base = Node("number", value=Fraction(10), name="10")
        if self.peek() == "_":
            self.take()
            token = self.peek()
            # \log_28 is \log_{2} 8
            if token.isdigit() and len(token) > 1 and self.at + 1 == len(self.tokens):
                self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
            base = self.argument()
        return Node("logarithm", (self.operand(), base))

    def function(self, name: str) -> Node:
        return Node("function", (self.operand(),), name=name)

    def operand(self) -> Node:
        """The argument of a function, with or without parentheses."""
        if self.peek() == "^":
            raise Unread("power of a function")
        if self.peek() in ("(", "{"):
            return self.atom()
        # \sin 2x takes the whole product, up to the next sign or function
        factors = [self.power()]
        while (
            self.peek() and self.starts_factor(self.peek()) and self.peek() not in (*FUNCTIONS, "(")
        ):
            factors.append(self.power())
        return factors[0] if len(factors) == 1 else Node("product", tuple(factors))
