"""The numbers of a worked solution, the computations among them, and how a change spreads.

A computation is "3 * 4 = 12", also with units ("3 bags * 4 apples = 12 apples") and TeX signs. Only
one that is right counts: its left side is evaluated by the grader's own arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from slm_math.answers.arithmetic import Undefined, exact
from slm_math.answers.expressions import Unread, read

_OPERATORS = {"×": "*", "÷": "/", "−": "-", "·": "*", "x": "*"}
_OPERATORS |= {"\\times": "*", "\\div": "/", "\\cdot": "*"}
_TOKEN = re.compile(
    r"(?P<number>(?<![\w.\\])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,]*\d)|\d+(?:\.\d+)?|\.\d+)(?!\w))"
    r"|(?P<operator>\\times|\\div|\\cdot|[-+*/×÷−·]|(?<=[\d)] )x(?= [\d($]))"
    r"|(?P<equals>=)|(?P<bracket>[()])|(?P<money>\\?[$€£])|(?P<word>[A-Za-z%][A-Za-z%'-]*)"
    r"|(?P<space>[ \t]+)|(?P<other>.)",
    re.DOTALL,
)
# a number that counts steps or lines, and says nothing about the problem
_COUNTS_STEPS = re.compile(r"(?:^[ \t]*[-*#>]*[ \t]*\**|\bstep\s|\bpart\s|\bround\s)$", re.I | re.M)
_AFTER_COUNT = re.compile(r"[.):](?:\s|\*|$)")
MOST_DECIMALS = 2


@dataclass(frozen=True)
class Number:
    """A number in a text: its place and its value. One that only counts steps is `ordinal`."""

    start: int
    end: int
    written: str
    ordinal: bool

    @property
    def value(self) -> Fraction:
        return Fraction(self.written.replace(",", ""))

    def rewritten(self, value: Fraction) -> str | None:
        """Another value as this number is written; None if it needs more than two decimals."""
        decimals = len(self.written.partition(".")[2])
        for digits in range(decimals, max(decimals, MOST_DECIMALS) + 1):
            scaled = value * 10**digits
            if scaled.denominator == 1:
                comma = "," if "," in self.written else ""
                return f"{Decimal(scaled.numerator).scaleb(-digits):{comma}.{digits}f}"
        return None


@dataclass(frozen=True)
class Computation:
    """A right computation: its place, the indices of its operands and of its result among the
    numbers, and its left side with the operands as `{index}`.
    """

    start: int
    end: int
    operands: tuple[int, ...]
    result: int
    formula: str

    def evaluated(self, values: Mapping[int, Fraction]) -> Fraction | None:
        """The result with these values of the operands; None if there is none."""
        return evaluated(self.formula.format_map({f"n{i}": values[i] for i in self.operands}))


@dataclass(frozen=True)
class Solution:
    """A text with its numbers and computations, in order."""

    text: str
    numbers: tuple[Number, ...]
    computations: tuple[Computation, ...]

    def replaced(self, values: Mapping[int, Fraction]) -> str | None:
        """The text with other values of some numbers; None if one cannot be written so."""
        parts, position = [], 0
        for index in sorted(values):
            number = self.numbers[index]
            written = number.rewritten(values[index])
            if written is None:
                return None
            parts += [self.text[position : number.start], written]
            position = number.end
        return "".join([*parts, self.text[position:]])


def evaluated(formula: str) -> Fraction | None:
    """The value of an expression of numbers; None if it is none."""
    try:
        return exact(read(formula), {})
    except (Unread, Undefined):
        return None


def parsed(text: str) -> Solution:
    """A text with its numbers and right computations."""
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
    places = [i for i, token in enumerate(tokens) if token.lastgroup == "number"]
    numbers = tuple(_number(tokens[i], text) for i in places)
    index = {place: number for number, place in enumerate(places)}
    found = (
        _computation(tokens, place, index, numbers)
        for place, token in enumerate(tokens)
        if token.lastgroup == "equals"
    )
    return Solution(text, numbers, tuple(each for each in found if each is not None))


def _number(token: re.Match[str], text: str) -> Number:
    line = text.rfind("\n", 0, token.start()) + 1
    counts = _COUNTS_STEPS.search(text[line : token.start()])
    ordinal = counts is not None and (
        _AFTER_COUNT.match(text, token.end()) is not None or "step" in counts[0].lower()
    )
    return Number(token.start(), token.end(), token[0], ordinal)


def _computation(
    tokens: Sequence[re.Match[str]],
    equals: int,
    index: Mapping[int, int],
    numbers: Sequence[Number],
) -> Computation | None:
    """The computation around the equals sign at this place, if it is a right one."""
    after = equals + 1
    if after < len(tokens) and tokens[after].lastgroup == "money":
        after += 1
    if after not in index or _goes_on(tokens, after):
        return None
    left = _left(tokens, equals)
    operands = tuple(index[place] for place in left if place in index)
    if len(operands) < 2 or any(numbers[i].ordinal for i in operands):
        return None
    formula = "".join(
        f"({{n{index[place]}}})"
        if place in index
        else _OPERATORS.get(tokens[place][0], tokens[place][0])
        for place in left
        if tokens[place].lastgroup in ("number", "operator", "bracket")
    )
    result = index[after]
    made = Computation(
        start=tokens[left[0]].start(),
        end=tokens[after].end(),
        operands=operands,
        result=result,
        formula=formula,
    )
    value = made.evaluated({i: numbers[i].value for i in operands})
    return made if value == numbers[result].value else None


def _goes_on(tokens: Sequence[re.Match[str]], result: int) -> bool:
    """Whether the right side of an equation is a computation itself, and not a result."""
    following = list(tokens[result + 1 : result + 3])
    if following and following[0].lastgroup == "word" and len(following) > 1:
        following = following[1:]
    return bool(following) and (
        following[0].lastgroup == "operator" and following[0][0] not in ("-", "−", "·")
    )


def _left(tokens: Sequence[re.Match[str]], equals: int) -> list[int]:
    """The places of the left side of an equation: operands and operators in turn, with units."""
    places: list[int] = []
    place, depth, operand = equals - 1, 0, False  # whether the last one taken is an operand
    while place >= 0:
        kind, text = tokens[place].lastgroup, tokens[place][0]
        if kind == "word" and not operand:
            before = place - 1
            if before >= 0 and tokens[before].lastgroup == "word":
                before -= 1
            if before < 0 or not (tokens[before].lastgroup == "number" or tokens[before][0] == ")"):
                break
            place = before
            continue
        if kind == "number" and not operand:
            operand = True
        elif kind == "operator" and operand:
            operand = False
        elif text == ")" and not operand:
            depth += 1
        elif text == "(" and operand and depth:
            depth -= 1
        elif kind != "money" or not operand:
            break
        places.append(place)
        place -= 1
    while places and tokens[places[-1]].lastgroup in ("operator", "money"):
        places.pop()
    return places[::-1]


def propagated(
    solution: Solution, first: int, values: Mapping[int, Fraction], known: Sequence[Fraction]
) -> dict[int, Fraction] | None:
    """All numbers that change when computation `first` has these values: its result wherever it is
    used later, and what is computed with it.

    None if a changed result also stands for something else: a number before it, or one of `known`
    (those of the problem), so that nobody could say which of its copies should change.
    """
    computation = solution.computations[first]
    changed = dict(values)
    begin = solution.numbers[computation.result]
    before = {*known, *(n.value for n in solution.numbers[: computation.result] if not n.ordinal)}
    if begin.value in before or changed[computation.result] == begin.value:
        return None
    carried = {begin.value: changed[computation.result]}
    results = {each.result: each for each in solution.computations[first + 1 :]}
    for i in range(computation.result + 1, len(solution.numbers)):
        number = solution.numbers[i]
        if number.ordinal:
            continue
        later = results.get(i)
        if later is None:
            if number.value in carried:
                changed[i] = carried[number.value]
            continue
        now = later.evaluated(
            {j: changed.get(j, solution.numbers[j].value) for j in later.operands}
        )
        old = number.value
        if now is None or now <= 0 or (old.denominator == 1 and now.denominator != 1):
            return None
        if carried.get(old, old) != now and (old in carried or old in before):
            return None
        if now != old:
            carried[old], changed[i] = now, now
        before.add(old)
    return changed
