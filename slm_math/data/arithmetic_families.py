"""The word problems of `Arithmetic`: families of stories, and problems drawn from them.

A *family* is an expression and its wordings. Some families are *demonstrated*: dialogues show how
to solve them. Others are *answers only*: they need the same arithmetic, but no dialogue explains
their words ("8 fewer", "6 times as many", "shares equally"); only reinforcement learning from right
and wrong answers can teach them. Problems of the third kind, *two-digit product*, need arithmetic
that only a program does reliably.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product

from slm_math.data.arithmetic_steps import OPERATIONS
from slm_math.data.base import Split
from slm_math.data.draws import Draw

DEMONSTRATED = "demonstrated"
ANSWERS_ONLY = "answers only"
PRODUCT = "two-digit product"

NAMES = (
    "Mina",
    "Oskar",
    "Juno",
    "Teo",
    "Lena",
    "Ravi",
    "Cleo",
    "Hugo",
    "Nora",
    "Idris",
    "Pia",
    "Sven",
)
THINGS = (
    "beads",
    "stamps",
    "shells",
    "cards",
    "plums",
    "buttons",
    "marbles",
    "coins",
    "pears",
    "stickers",
)
HOLDERS = ("bags", "boxes", "jars", "trays", "baskets")
GAINS = ("finds {} more", "buys {} more", "gets {} from a friend", "makes {} new ones", "wins {}")
LOSSES = ("loses {}", "sells {}", "gives {} to a friend", "drops {}", "uses up {}")


@dataclass(frozen=True)
class Family:
    """An expression over a, b and c, in this order, and the stories that ask for its value.

    In a story, `[+c]` stands for a phrase of gaining c things, and `[-c]` for one of losing them.
    """

    name: str
    kind: str
    expression: str
    stories: tuple[str, ...]
    question: str = "How many {things} has {name} now?"


BAGS = (
    "{name} has {a} {holders} of {b} {things}",
    "In {a} {holders} are {b} {things} each. {name} takes all",
    "{other} has {a} {things}. {name} has that in each of {b} {holders}",
)
PACKED = (
    "{name} packs {a} {things} in {b} {holders}, keeps one",
    "{a} {things} fill {b} {holders}. {name} takes one",
)
MORE = (
    "{name} has {a} {things}, [+b] and [-c].",
    "{other} has {a} {things}. {name} has {b} more and [-c].",
    "{name} has {a} {things} and [+b]. {other} takes {c}.",
)
LESS = (
    "{name} has {a} {things}, [-b] and [+c].",
    "{other} has {a} {things}. {name} has {b} less and [+c].",
)

FAMILIES = (
    Family("bags and a gain", DEMONSTRATED, "a*b+c", tuple(f"{bags} and [+c]." for bags in BAGS)),
    Family("bags and a loss", DEMONSTRATED, "a*b-c", tuple(f"{bags} and [-c]." for bags in BAGS)),
    Family(
        "packed and a gain",
        DEMONSTRATED,
        "a/b+c",
        tuple(f"{packed} and [+c]." for packed in PACKED),
    ),
    Family(
        "packed and a loss",
        DEMONSTRATED,
        "a/b-c",
        tuple(f"{packed} and [-c]." for packed in PACKED),
    ),
    Family("more and a loss", DEMONSTRATED, "a+b-c", MORE),
    Family("less and a gain", DEMONSTRATED, "a-b+c", LESS),
    Family("many bags", PRODUCT, "a*b+c", ("{name} has {a} {holders} of {b} {things} and [+c].",)),
    Family(
        "fewer",
        ANSWERS_ONLY,
        "a-b+c",
        ("{other} has {a} {things}. {name} has {b} fewer and [+c].",),
    ),
    Family(
        "together",
        ANSWERS_ONLY,
        "a+b-c",
        ("{name} puts {a} {things} with {b} of {other} and [-c].",),
    ),
    Family(
        "times",
        ANSWERS_ONLY,
        "a*b-c",
        ("{other} has {a} {things}. {name} has {b} times as many and [-c].",),
    ),
    Family(
        "every day",
        ANSWERS_ONLY,
        "a*b+c",
        ("{name} paints {a} {things} every day for {b} days and [+c].",),
    ),
    Family(
        "shares",
        ANSWERS_ONLY,
        "a/b+c",
        ("{a} {things} are shared by {b} people. {name} is one and [+c].",),
    ),
    Family(
        "how many more",
        ANSWERS_ONLY,
        expression="a+b-c",
        stories=("{name} has {a} {things} and [+b]. {other} has {c}.",),
        question="How many more {things} has {name} now?",
    ),
)


SMALL, TINY, MIDDLE, LARGE = range(2, 21), range(2, 10), range(5, 50), range(12, 80)
_NOT_TINY = range(10, 21)
MOST_DRAWS = 100_000  # numbers drawn for one problem; of the rarest ones, every 30th fits


def split_of(family: Family, numbers: tuple[int, ...]) -> Split:
    """The split of a problem. Its expression and its numbers, in any order, decide, not words."""
    return _split_of(family.expression, numbers)


def _split_of(expression: str, numbers: tuple[int, ...]) -> Split:
    bucket = zlib.crc32(f"{expression}:{sorted(numbers)}".encode()) % 8
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


@dataclass(frozen=True)
class Posed:
    """A problem of a family: its numbers, and its story with the words, where `{a}`, `{b}` and
    `{c}` stand for numbers.
    """

    family: Family
    story: str
    numbers: tuple[int, ...]

    @property
    def text(self) -> str:
        return self.story.format(**dict(zip("abc", self.numbers)))

    @property
    def expression(self) -> str:
        return expression_of(self.family, self.numbers)


def pose(draw: Draw, family: Family, split: Split) -> tuple[str, str]:
    """A problem of the family that belongs to the split: its text and its expression in numbers.

    Raises ValueError if the family has no problem in the split.
    """
    posed = posed_of(draw, family, split)
    return posed.text, posed.expression


def posed_of(draw: Draw, family: Family, split: Split) -> Posed:
    """The same, before its numbers are filled in."""
    for _ in range(MOST_DRAWS):
        numbers = numbers_for(draw, family)
        if is_posed(family, numbers, split):
            break
    else:
        raise ValueError(f"{family.name!r} has no problem in the {split} split")
    gains, losses = draw.some(GAINS, len(GAINS)), draw.some(LOSSES, len(LOSSES))
    text = ""
    for before, sign, letter in _parts(f"{draw.choice(family.stories)} {family.question}"):
        text += before
        if sign:
            text += (gains if sign == "+" else losses).pop().format("{" + letter + "}")
    name, other = draw.some(NAMES, 2)
    words = {
        "name": name,
        "other": other,
        "things": draw.choice(THINGS),
        "holders": draw.choice(HOLDERS),
    }
    return Posed(family, text.format(**words, a="{a}", b="{b}", c="{c}"), numbers)


@cache
def _parts(story: str) -> list[tuple[str, str, str]]:
    """A story by its gains and losses: the text before one, its sign and its letter, and at the end
    the text that is left.
    """
    *parts, last = re.split(r"\[([+-])([a-c])\]", story)
    return [*zip(parts[::3], parts[1::3], parts[2::3]), (last, "", "")]


def expression_of(family: Family, numbers: tuple[int, ...]) -> str:
    """The expression of a family in numbers: `8*6+35`. Other numbers give another one."""
    return _in_numbers(family.expression, numbers)


@lru_cache(1 << 14)
def _in_numbers(expression: str, numbers: tuple[int, ...]) -> str:
    return expression.translate({ord(letter): str(n) for letter, n in zip("abc", numbers)})


def is_posed(family: Family, numbers: tuple[int, ...], split: Split) -> bool:
    """Whether the numbers make a problem of the split: all its results are positive."""
    return _split_of_posed(family.expression, numbers) == split


@lru_cache(1 << 14)  # a data set draws the same numbers for many stories
def _split_of_posed(expression: str, numbers: tuple[int, ...]) -> Split | None:
    """The split of a problem; None if a result is not positive."""
    a, b, c = numbers
    first = OPERATIONS[expression[1]](a, b)
    if first <= 0 or OPERATIONS[expression[3]](first, c) <= 0:
        return None
    return _split_of(expression, numbers)


def numbers_for(draw: Draw, family: Family) -> tuple[int, int, int]:
    """Numbers for a, b and c such that divisions are exact. The caller checks everything else."""

    one_of = draw.choice

    def small() -> int:
        return one_of(TINY if draw.random() < 0.75 else _NOT_TINY)

    if family.kind == PRODUCT:
        return one_of(LARGE), one_of(LARGE), small()
    first, second = one_of(TINY), one_of(TINY)
    if family.expression.startswith("a*b"):
        return first, second, small()
    if family.expression.startswith("a/b"):
        return first * second, second, small()
    return one_of(MIDDLE), small(), small()


def all_numbers(family: Family) -> Iterator[tuple[int, int, int]]:
    """All that `numbers_for` can draw."""
    if family.kind == PRODUCT:
        return product(LARGE, LARGE, SMALL)
    if family.expression.startswith("a*b"):
        return product(TINY, TINY, SMALL)
    if family.expression.startswith("a/b"):
        return ((first * second, second, c) for first, second, c in product(TINY, TINY, SMALL))
    return product(MIDDLE, SMALL, SMALL)


@cache
def largest_size(split: Split, wanted: int) -> int:
    """The number of problems with different numbers that a split can hold, evenly over the
    families in their order; `wanted` if it can hold as many.
    """
    largest = wanted
    for place, family in enumerate(FAMILIES):
        needed = len(range(place, largest, len(FAMILIES)))
        fitting = (numbers for numbers in all_numbers(family) if is_posed(family, numbers, split))
        found = sum(1 for _ in islice(fitting, needed))
        if found < needed:
            largest = found * len(FAMILIES) + place
    return largest
