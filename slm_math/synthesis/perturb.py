"""Perturbations: a text with a mistake in it, decided by a seed. Nothing is graded here.

- arithmetic: a computation is off, and either all that follows goes on with the wrong number
  (consistent), or the answer that is stated is not the one that was computed (inconsistent);
- dropped step: a computation is left out, and what follows uses the number before it;
- wrong unit: the answer is stated as if it were in another unit ("5 dollars" becomes 500).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from fractions import Fraction

from slm_math.agents.blocks import blocks
from slm_math.answers import extract
from slm_math.synthesis.computations import Number, Solution, parsed, propagated

ARITHMETIC, DROPPED_STEP, WRONG_UNIT = TEXT_KINDS = ("arithmetic", "dropped step", "wrong unit")
# names of units -> how many smaller units one has, or of how many it is one
_FACTORS: dict[str, tuple[int, ...]] = {
    "dollar": (100,),
    "cent": (100,),
    "hour": (60, 24),
    "minute": (60,),
    "min": (60,),
    "second": (60,),
    "day": (24, 7),
    "week": (7,),
    "month": (12,),
    "year": (12,),
    "inch": (12,),
    "inche": (12,),
    "foot": (12, 3),
    "feet": (12, 3),
    "yard": (3,),
    "mile": (1760,),
    "meter": (100, 1000),
    "centimeter": (100,),
    "cm": (100,),
    "kilometer": (1000,),
    "km": (1000,),
    "gram": (1000,),
    "kilogram": (1000,),
    "kg": (1000,),
    "pound": (16,),
    "ounce": (16,),
    "liter": (1000,),
    "gallon": (4,),
    "quart": (4,),
    "dozen": (12,),
}
_UNIT = re.compile(r"\s*(?:\\text\{\s*)?([A-Za-z]+)")
_RATE = re.compile(r"\s*(?:per\b|/|an?\b|each\b|every\b)", re.IGNORECASE)
_WORD = re.compile("[a-z]+")
_SENTENCE = re.compile(r"[^.!?]+(?:\.(?=\d)[^.!?]*)*[.!?]?")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")
_NUMBERED = re.compile(
    r"[ \t]*(?:[-*#>]*[ \t]*\**(?:step[ \t]*)?\d+[.):]|\**step\b)", re.IGNORECASE
)
_ANNOTATED = re.compile("<<|>>")  # the calculator marks of GSM8K state a computation twice


def perturbed(text: str, kind: str, rng: random.Random, problem: str = "") -> Iterator[str]:
    """Texts with one such mistake, in random order, without repetition; none where the text offers
    no place for it. Numbers that the problem states keep their meaning.
    """
    solution = parsed(text)
    asked = parsed(problem)
    makers = {
        ARITHMETIC: _arithmetic,
        DROPPED_STEP: _dropped_step,
        WRONG_UNIT: _wrong_unit,
    }
    seen = {text}
    for made in makers[kind](solution, rng, asked):
        if made is not None and made not in seen:
            seen.add(made)
            yield made


def _arithmetic(solution: Solution, rng: random.Random, problem: Solution) -> Iterator[str | None]:
    ways = [_misstated(solution, rng), _miscomputed(solution, rng, problem)]
    rng.shuffle(ways)
    if blocks(solution.text):  # a program that ran and its output stay as they are
        ways = [_misstated(solution, rng)]
    for way in ways:
        yield from way


def _misstated(solution: Solution, rng: random.Random) -> Iterator[str | None]:
    """Another number in the statement of the answer."""
    stated = _stated(solution)
    if stated is not None:
        for value in _near(solution.numbers[stated].value, rng):
            yield solution.replaced({stated: value})


def _miscomputed(solution: Solution, rng: random.Random, problem: Solution) -> Iterator[str | None]:
    """Another result of a computation, or another operand and its result, and what follows."""
    known = [number.value for number in problem.numbers]
    for first in rng.sample(range(len(solution.computations)), len(solution.computations)):
        computation = solution.computations[first]
        old = solution.numbers[computation.result].value
        changes = [{computation.result: value} for value in _near(old, rng)]
        if not _ANNOTATED.search(solution.text):
            index = rng.choice(computation.operands)
            values = {i: solution.numbers[i].value for i in computation.operands}
            for value in _near(values[index], rng)[:2]:
                result = computation.evaluated(values | {index: value})
                if result is not None and result > 0:
                    changes.append({index: value, computation.result: result})
        rng.shuffle(changes)
        for change in changes[:3]:
            changed = propagated(solution, first, change, known)
            yield None if changed is None else solution.replaced(changed)


def _dropped_step(
    solution: Solution, rng: random.Random, problem: Solution
) -> Iterator[str | None]:
    """The text without the sentence of a computation, as if its first result were its operand."""
    known = [number.value for number in problem.numbers]
    count = len(solution.computations)
    if count < 2 or blocks(solution.text):
        return
    for dropped in rng.sample(range(1, count), count - 1):
        computation = solution.computations[dropped]
        results = [solution.computations[i].result for i in range(dropped)]
        earlier = {solution.numbers[i].value for i in results}
        values = [solution.numbers[i].value for i in computation.operands]
        carried = next((value for value in values if value in earlier), None)
        place = _sentence(solution, dropped)
        if carried is None or place is None:
            continue
        changed = propagated(solution, dropped, {computation.result: carried}, known) or {}
        start, end = place
        later = {i: value for i, value in changed.items() if solution.numbers[i].start >= end}
        made = solution.replaced(later)
        yield f"{made[:start]}{made[end:]}".strip("\n") if made is not None and later else None


def _sentence(solution: Solution, index: int) -> tuple[int, int] | None:
    """The place of the line or sentence that is a computation and nothing else that counts: no
    other computation, no statement of the answer, no number of a step.
    """
    text, computation = solution.text, solution.computations[index]
    start = text.rfind("\n", 0, computation.start) + 1
    end = text.find("\n", computation.end)
    end = len(text) if end < 0 else end + 1
    others = [each for each in solution.computations if each is not computation]
    if any(start <= each.start < end for each in others):
        ends = [match.end() for match in _SENTENCE_END.finditer(text, start, computation.start)]
        start = max([start, *ends])
        match = _SENTENCE_END.search(text, computation.end, end)
        end = match.end() if match else end
    span = extract(text).span
    holds_answer = span is not None and start < span[1] and span[0] < end
    alone = not any(start <= each.start < end for each in others)
    return (start, end) if alone and not holds_answer and not _NUMBERED.match(text, start) else None


def _wrong_unit(solution: Solution, rng: random.Random, problem: Solution) -> Iterator[str | None]:
    """The answer as a number of other units. The unit must be named beside the answer or in the
    question: where neither is, 300 minutes are 5 hours, and the answer would be right.
    """
    stated = _stated(solution)
    if stated is None or blocks(solution.text):
        return
    value = solution.numbers[stated].value
    last = max((each.result for each in solution.computations), default=-1)
    copies = [
        i
        for i, number in enumerate(solution.numbers)
        if number.value == value and not number.ordinal and i > last
    ]
    named = [_unit(solution.text, solution.numbers[i]) for i in copies]
    asked = {word.removesuffix("s") for word in _WORD.findall(_question(problem.text).lower())}
    results = [each.result for each in solution.computations[-1:]]
    units = [_unit(solution.text, solution.numbers[i]) for i in results]
    named += [unit for unit in units if unit in asked]
    factors = [factor for unit in named for factor in _FACTORS.get(unit, ())]
    for factor in dict.fromkeys(factors):
        values = [value * factor, value / factor]
        for other in rng.sample(values, len(values)):
            if other.denominator == 1 or value.denominator != 1:
                yield solution.replaced({stated: other} | dict.fromkeys(copies, other))


def _question(problem: str) -> str:
    """The last sentence of a problem that asks something, else the last one."""
    sentences = [each for each in _SENTENCE.findall(problem) if each.strip()]
    return next((each for each in reversed(sentences) if "?" in each), "".join(sentences[-1:]))


def _unit(text: str, number: Number) -> str:
    """The unit beside a number, in the singular; "" if there is none, or a rate ("per hour")."""
    if text[: number.start].endswith("$") and not text[number.end :].startswith("$"):
        return "dollar"
    match = _UNIT.match(text, number.end)
    if match is None or _RATE.match(text, match.end()):
        return ""
    word = match[1].lower()
    return word if word in _FACTORS else word.removesuffix("s")


def _stated(solution: Solution) -> int | None:
    """The index of the number that the text states as its answer."""
    span = extract(solution.text).span
    if span is None:
        return None
    inside = [
        i
        for i, number in enumerate(solution.numbers)
        if span[0] <= number.start and number.end <= span[1] and not number.ordinal
    ]
    return inside[0] if len(inside) == 1 else None


def _near(value: Fraction, rng: random.Random) -> list[Fraction]:
    """Positive numbers near another, in random order, with the same decimals: slips of counting and
    of a digit.
    """
    steps = [Fraction(1), Fraction(2), Fraction(10)]
    if value.denominator != 1:
        steps = [Fraction(1), Fraction(1, 10), Fraction(1, 2)]
    near = [value + sign * step for step in steps if step <= value for sign in (1, -1)]
    digits = str(value)
    if value.denominator == 1 and len(digits) > 1 and digits[0] != digits[1] != "0":
        near.append(Fraction(digits[1] + digits[0] + digits[2:]))
    near = [each for each in dict.fromkeys(near or [value + 1]) if each > 0 and each != value]
    return rng.sample(near, len(near))
