"""Read a LaTeX expression into a small tree. No text is ever given to an interpreter.

Most comparisons need only this grammar. Expressions outside of it go to the algebra process.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from slm_math.answers import symbols
from slm_math.patterns import lazy_pattern

MAX_LENGTH, MAX_DEPTH = 400, 40
SPELLED = 4  # how much longer and deeper the same tree may be in the spelling of `spell`
_TOKEN = lazy_pattern(
    r"\s*(?:(?P<number>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.\d+|\.\d+|\d+\.?)"
    rf"|(?P<vector>\\vec\{{[a-zA-Z]\}})|(?P<symbol>{symbols.SYMBOL})|(?P<command>\\[a-zA-Z]+|\\[{{}}])"
    r"|(?P<mark>!!(?!!)|[-+*/^(){}\[\]|!°%_=]))"
)
FUNCTIONS = frozenset((
    "\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc", "\\arcsin", "\\arccos", "\\arctan",
    "\\sinh", "\\cosh", "\\tanh", "\\ln", "\\exp", "\\cosec", "\\cis",
))  # fmt: skip
_INVERSES = {"\\sin": "\\arcsin", "\\cos": "\\arccos", "\\tan": "\\arctan"}
_PAIRS = {"\\frac": "quotient", "\\binom": "binomial"}
_LOGARITHMS = ("\\log", "\\lg")
CONSTANTS = frozenset(("\\pi", "e", "i"))
SERIES = {"\\sum": "total", "\\prod": "repeated"}
MAX_SERIES = 2  # levels of sums in sums
_SYMBOL = lazy_pattern(symbols.SYMBOL)
_TIMES = frozenset(("*", "\\cdot", "\\times"))


class Unread(ValueError):
    """The expression is outside the grammar, too long, or too deep."""


@dataclass(frozen=True)
class Node:
    """An operation with its arguments, or a leaf.

    `kind` of a leaf is number, constant or variable; of an operation it is sum, product, quotient,
    negative, power, root, function, logarithm (argument, base), factorial, semifactorial (n!!),
    binomial, modulus, total or repeated. The last two are a sum and a product over a range, of
    (variable, first, last, term); their variable is named `#0` or `#1` and not among the `names`.
    """

    kind: str
    args: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""

    def walk(self) -> list[Node]:
        return [self] + [node for arg in self.args for node in arg.walk()]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(
            node.name for node in self.walk() if node.kind == "variable" and node.name[0] != "#"
        )


DEGREE = Node(
    "quotient", (Node("constant", name="\\pi"), Node("number", value=Fraction(180), name="180"))
)


def read(text: str, spelled: bool = False) -> Node:
    """The tree of a normalized LaTeX expression, or of one that `spell` wrote. Raises Unread."""
    return _Reader(text, SPELLED if spelled else 1).all()


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
        case "factorial" | "semifactorial":
            return f"({args[0]})" + ("!" if node.kind == "factorial" else "!!")
        case "binomial":
            return f"\\binom{{{args[0]}}}{{{args[1]}}}"
        case "modulus":
            return f"|{args[0]}|"
        case "total" | "repeated":
            sign = "\\sum" if node.kind == "total" else "\\prod"
            return f"({sign}_{{{args[0]}={args[1]}}}^{{{args[2]}}} {args[3]})"
        case "variable":
            return symbols.spelled(node.name)
    return node.name


class _Reader:
    """A parser by recursive descent: sum > product > sign > power > atom."""

    def __init__(self, text: str, scale: int) -> None:
        self.most = scale * MAX_DEPTH
        if len(text) > scale * MAX_LENGTH:
            raise Unread("too long")
        self.tokens: list[str] = []
        self.bound: list[str] = []  # the variables of the sums around this place
        self.at, self.depth, position = 0, 0, 0
        text = symbols.tidied(text)
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
        if self.depth > self.most:
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
            if self.depth > self.most:
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
            token in FUNCTIONS or _SYMBOL.fullmatch(token) is not None or token in SERIES
            or token.startswith("\\vec")
            or token in ("\\pi", "\\frac", "\\sqrt", "\\binom", *_LOGARITHMS)
        )  # fmt: skip

    def power(self) -> Node:
        base = self.atom()
        while self.peek() in ("^", "!", "!!", "°", "%") and self.peek():
            mark = self.take()
            if mark == "^":
                base = Node("power", (base, self.argument()))
                if self.peek() == "^":
                    raise Unread("two exponents")
            elif mark == "!!":
                base = Node("semifactorial", (base,))
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
        if token in _PAIRS:
            return Node(_PAIRS[token], (self.argument(), self.argument()))
        if token == "\\sqrt":
            return self.root()
        if token in FUNCTIONS:
            return self.function(token)
        if token in _LOGARITHMS:
            return self.logarithm()
        if token in SERIES:
            return self.series(SERIES[token])
        if token in self.bound:
            return Node("variable", name=f"#{self.bound.index(token)}")
        if token in CONSTANTS:
            return Node("constant", name=token)
        if token.startswith("\\vec"):
            return Node("variable", name=token.replace("{", "").replace("}", ""))
        if _SYMBOL.fullmatch(token):
            return self.symbol(symbols.name(token))
        raise Unread(token)

    def symbol(self, name: str) -> Node:
        if any(symbols.indexed_by(name, letter) for letter in self.bound):
            raise Unread("a sequence")
        if name in ("\\Gamma", "\\Delta") and self.peek() == "(":
            raise Unread("an operator")
        return Node("variable", name=name)

    def series(self, kind: str) -> Node:
        r"""The sum or product over a range: `\sum_{k=1}^{n}` and the product after it."""
        last = self.exponent()
        self.take("_")
        self.take("{")
        letter = self.take()
        usable = _SYMBOL.fullmatch(letter) and "_" not in letter and letter not in self.bound
        if not usable or len(self.bound) == MAX_SERIES:
            raise Unread("the variable of a sum")
        self.take("=")
        first = self.sum()
        self.take("}")
        last = last or self.exponent()
        if last is None:
            raise Unread("the end of a sum")
        variable = Node("variable", name=f"#{len(self.bound)}")
        self.bound.append(letter)
        term = self.product()
        self.bound.pop()
        return Node(kind, (variable, first, last, term))

    def root(self) -> Node:
        index = Node("number", value=Fraction(2))
        if self.peek() == "[":
            index = self.group("]")
        return Node("root", (self.argument(), index))

    def logarithm(self) -> Node:
        base = Node("number", value=Fraction(10), name="10")
        exponent = self.exponent()
        if self.peek() == "_":
            self.take()
            token = self.peek()
            # \log_28 is \log_{2} 8
            if token.isdigit() and len(token) > 1 and self.at + 1 == len(self.tokens):
                self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
            base = self.argument()
        exponent = exponent or self.exponent()
        if exponent is not None and _is_minus_one(exponent):
            raise Unread("the inverse of a logarithm")
        value = Node("logarithm", (self.operand(), base))
        return Node("power", (value, exponent)) if exponent else value

    def function(self, name: str) -> Node:
        exponent = self.exponent()
        if exponent is not None and _is_minus_one(exponent):
            if name not in _INVERSES:
                raise Unread("the inverse of a function")
            name, exponent = _INVERSES[name], None
        value = _applied(name, self.operand())
        return Node("power", (value, exponent)) if exponent else value

    def exponent(self) -> Node | None:
        r"""The exponent that stands before the argument of a function, as in `\sin^2 x`."""
        if self.peek() != "^":
            return None
        self.take()
        return self.argument()

    def operand(self) -> Node:
        """The argument of a function, with or without parentheses."""
        if self.peek() in ("(", "{"):
            return self.atom()
        # \sin 2x takes the whole product, up to the next sign or function
        factors = [self.power()]
        stops = (*FUNCTIONS, *_LOGARITHMS, *SERIES, "(")
        while self.peek() and self.starts_factor(self.peek()) and self.peek() not in stops:
            factors.append(self.power())
        return factors[0] if len(factors) == 1 else Node("product", tuple(factors))


def _is_minus_one(node: Node) -> bool:
    return node.kind == "negative" and node.args[0].value == 1


def _applied(name: str, argument: Node) -> Node:
    if name == "\\cis":
        cosine, sine = _applied("\\cos", argument), _applied("\\sin", argument)
        return Node("sum", (cosine, Node("product", (Node("constant", name="i"), sine))))
    return Node("function", (argument,), name="\\csc" if name == "\\cosec" else name)
