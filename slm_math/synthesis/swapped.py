"""Numbers that a problem and the program that solves it have in common, exchanged in both."""

from __future__ import annotations

import io
import random
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from slm_math.answers.number_words import number_word
from slm_math.synthesis.computations import Number, parsed
from slm_math.types import RunPython

_LITERAL = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_WORDS = re.compile(r"[a-z]+(?:[- ][a-z]+)?")
_FIXED_BEFORE = re.compile(r"[/:^_\\]\s*$")  # parts of fractions, times, powers
_FIXED_AFTER = re.compile(r"\s*[/:^]|(?:st|nd|rd|th)\b")
_YEARS = range(1900, 2101)
# of units and of halves: a program may have it for another reason, too
_CONSTANTS = {*range(2, 11), 12, 16, 24, 30, 36, 52, 60, 90, 100, 180, 360, 365, 1000}


@dataclass(frozen=True)
class Shared:
    """A number that a problem and its program share: its place in the text, and its places in the
    program: block, start, end.
    """

    number: Number
    places: tuple[tuple[int, int, int], ...]


def shared_numbers(text: str, program: RunPython) -> list[Shared]:
    """The numbers of a text that may be exchanged. Each must say one thing: it is named once, not
    as a word, too, and is not written several times in the program if it may be a constant.
    """
    numbers = [each for each in parsed(text).numbers if not each.ordinal]
    named = Counter(each.value for each in numbers) + Counter(_spelled(text))
    places: dict[Fraction, list[tuple[int, int, int]]] = defaultdict(list)
    for n, code in enumerate((*program.earlier, program.code)):
        for start, end, value in _literals(code):
            places[value].append((n, start, end))
    return [
        Shared(each, tuple(places[each.value]))
        for each in numbers
        if named[each.value] == 1
        and 1 <= len(places[each.value]) <= (1 if each.value in _CONSTANTS else 9)
        and not _is_fixed(text, each)
    ]


def _spelled(text: str) -> Iterator[Fraction]:
    for words in _WORDS.findall(text.lower()):
        for word in (words, *re.split("[- ]", words)):
            value = number_word(word)
            if value is not None:
                yield value


def _is_fixed(text: str, number: Number) -> bool:
    """Whether a number is part of something else, such as a fraction, a time or a year."""
    value = number.value
    return (
        value in (0, 1)
        or (value in _YEARS and "," not in number.written)
        or _FIXED_BEFORE.search(text[: number.start]) is not None
        or _FIXED_AFTER.match(text, number.end) is not None
        or (value >= 100 and text[number.end :].lstrip().startswith("%"))
    )


def _literals(code: str) -> Iterator[tuple[int, int, Fraction]]:
    """The plain numbers of a program, with their places; none of one that is no Python."""
    offsets = [0]
    for line in code.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        if token.type == tokenize.NUMBER and _LITERAL.fullmatch(token.string):
            start = offsets[token.start[0] - 1] + token.start[1]
            yield start, start + len(token.string), Fraction(token.string)


def exchanged(
    text: str, program: RunPython, shared: Sequence[Shared], draw: random.Random
) -> tuple[str, RunPython, dict[str, str]]:
    """The text and the program with other numbers of as many digits, and which took whose place."""
    new: dict[Shared, str] = {}
    taken = {each.number.value for each in shared}
    for each in shared:
        written = _another(each.number.written, draw, taken)
        new[each] = written
        taken.add(Fraction(written.replace(",", "")))
    asked = _replaced(text, {(s.number.start, s.number.end): new[s] for s in shared})
    blocks = [*program.earlier, program.code]
    for n, code in enumerate(blocks):
        own = {
            (start, end): new[each].replace(",", "")
            for each in shared
            for block, start, end in each.places
            if block == n
        }
        blocks[n] = _replaced(code, own)
    changes = {each.number.written: new[each] for each in shared}
    return asked, RunPython(blocks[-1], tuple(blocks[:-1])), changes


def _another(written: str, draw: random.Random, taken: set[Fraction]) -> str:
    """Another number, written alike: as many digits, decimals and commas."""
    digits = written.replace(",", "")
    whole, _, decimals = digits.partition(".")
    low = 10 ** (len(whole) - 1) if len(whole) > 1 else 0 if decimals else 2
    for _ in range(100):
        value = str(draw.randint(low, 10 ** len(whole) - 1))
        if decimals:
            value += "." + "".join(draw.choice("0123456789") for _ in decimals)
        if Fraction(value) not in taken and Fraction(value) > 0:
            break
    else:
        return written
    return f"{int(value.partition('.')[0]):,}" + value[len(whole) :] if "," in written else value


def _replaced(text: str, new: Mapping[tuple[int, int], str]) -> str:
    for (start, end), value in sorted(new.items(), reverse=True):
        text = text[:start] + value + text[end:]
    return text
