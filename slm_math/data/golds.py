"""Reference answers as they come from a data set, read once, when the data is loaded.

What is clear is normalized: a worked solution becomes its answer, a number becomes text.

    "2*6=12 rolls.\\n#### 12"            -> "12"
    "Hence $x = \\\\boxed{\\\\frac{1}{2}}$."  -> "\\\\frac{1}{2}"
    "The answer is 12."                  -> "12"
    12, 12.0                             -> "12"

Everything else stays as it is ("even", "a circle and a line", "[0, 1)") or is refused: no reply
could ever equal "She bakes 12 rolls. She sells 5 of them."
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from slm_math.answers import extract, gold_answer
from slm_math.answers.boxes import find_boxes
from slm_math.answers.choices import letters
from slm_math.answers.equivalence import MAX_ANSWER
from slm_math.answers.tolerance import within
from slm_math.answers.verdicts import DECISIONS
from slm_math.patterns import lazy_pattern
from slm_math.types import Problem

_MISSING = frozenset(("nan", "<na>", "nat", "null", "n/a"))  # how tables print a missing value
_ENVIRONMENT = lazy_pattern(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
# of any script; LaTeX's commands are none
_WORD = lazy_pattern(r"(?<!\\)(?<![^\W\d_])[^\W\d_]{2,}")
_ABBREVIATIONS = frozenset("dr eq fig ft hr in lb min mr mrs ms mt no oz sec sq st vs yd".split())  # noqa: SIM905
_SENTENCE_END = lazy_pattern(r"([^\W\d_]{2,}|[\d)\]}$%])(?:[.!?؟][\"')]{0,2}\s+|[。！？]\s*)(?=\S)")
_FORMULA = lazy_pattern(r"[\\^_{}]")
_COMPUTATION = lazy_pattern(r"\d\s?[-+*/×÷]\s?\d[\d.,]*\s?=")
_BOX = lazy_pattern(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_PHRASE = lazy_pattern(r"answer|result|option|choice|\bans\b", re.IGNORECASE)
_AFTERWARDS = lazy_pattern(r"[.!?]\s+\S|\n\s*\S")
WAY_OUT = "give the answer alone, or mark it: '#### 12' at the end, or \\boxed{12}"


def read_gold(gold: Any, problem: Problem) -> str:
    """The reference answer of a problem as text.

    Raises ValueError with the reason, without the name of the problem, if it is none.
    """
    text = _as_text(gold)
    if not text:
        raise ValueError("is empty")
    if text.casefold() in _MISSING:
        raise ValueError(f"is {text!r}, a missing value")
    boxed = "####" not in text and any(find_boxes(text, 0, len(text)))
    marked = boxed or "####" in text
    if marked:
        text = gold_answer(text)
    if not text or _BOX.search(text):
        raise ValueError(f"marks no answer, or an empty one: {WAY_OUT}")
    if problem.answer_type == "verdict":
        return _verdict(text)
    if problem.answer_type == "mc":
        return _choice(text, gold, problem.choices)
    if problem.answer_type == "num":
        return _number(text)
    text = text if marked else _stated(text)
    if not boxed:  # a box says where the answer begins and ends, whatever it is
        _check_prose(text)
    return text


def _as_text(value: Any) -> str:
    """Text without blanks around it, or a finite number as text. Raises ValueError."""
    if isinstance(value, str):
        return value.strip()
    if not is_number(value):
        raise ValueError(f"is {value!r:.40} ({type(value).__name__}), neither text nor a number")
    return number_text(value)


def is_number(value: Any) -> bool:
    """Whether a value is a number, which is taken as text (`number_text`); true and false are
    none.
    """
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def number_text(value: Any) -> str:
    """A finite number as a person writes it: 12 and 12.0 are "12", 0.5 is "0.5", 1e-07 is
    "0.0000001". Raises ValueError.
    """
    if isinstance(value, Integral):  # of any size
        if abs(value) >= 10**MAX_ANSWER:
            raise ValueError(f"has more than {MAX_ANSWER} digits")
        return str(int(value))
    if not math.isfinite(value):
        raise ValueError(f"is {value}, not a number")
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Fraction):
        return str(value)
    return f"{Decimal(str(value)).normalize():f}"


def _choice(text: str, gold: Any, choices: tuple[str, ...]) -> str:
    """A reference that names letters, directly or by the value of a choice."""
    if not isinstance(gold, str):
        raise ValueError(f"is the number {text}: give the letter of the choice (A is the first)")
    named = letters(text, choices)
    if not named:
        text = _stated(text)
        named = letters(text, choices)
    if not named:
        known = f"none of the {len(choices)} choices" if choices else "no letter"
        raise ValueError(f"{_shown(text)} names {known}: give the letter")
    outside = sorted(letter for letter in named if ord(letter) - ord("A") >= len(choices))
    if choices and outside:
        last = chr(ord("A") + len(choices) - 1)
        raise ValueError(f"names {', '.join(outside)}, but the choices are A to {last}")
    return text


def _verdict(text: str) -> str:
    if text not in DECISIONS:
        raise ValueError(f"is {_shown(text)}, which is not one of {', '.join(DECISIONS)}")
    return text


def _number(text: str) -> str:
    """A reference that the grader reads as a number."""
    for candidate in dict.fromkeys((text, _stated(text))):
        if within(candidate, candidate, Fraction(0), False).equal:
            return candidate
    raise ValueError(
        f'{_shown(text)} is not a number, which the answer type "num" needs: {WAY_OUT}'
    )


def _stated(text: str) -> str:
    """The answer that a phrase at the end of a text states, or an `<answer>` tag, else the text."""
    stated = extract(text)
    if not stated.value or stated.span is None or stated.method not in ("phrase", "tag"):
        return text
    start, end = stated.span
    if stated.method == "phrase" and (
        _AFTERWARDS.search(text, end)  # what follows may state another answer
        or not ("\n" in text or _PHRASE.search(text, 0, start))  # the ratio "a:b"
    ):
        return text
    return stated.value


def _check_prose(text: str) -> None:
    """Raises ValueError for a text that explains something instead of being an answer."""
    if len(text) > MAX_ANSWER:
        raise ValueError(f"{_shown(text)} is a text of {len(text)} characters: {WAY_OUT}")
    plain = _ENVIRONMENT.sub(" ", text)
    sentences = _sentences(plain)
    lines = [line for line in plain.splitlines() if line.strip(" $")]
    words = len(_WORD.findall(plain))
    if sentences > 1:
        reason = f"is a text of {sentences} sentences"
    elif len(lines) > 1 and words and not _FORMULA.search(plain):  # formulas may break their lines
        reason = f"is a text of {len(lines)} lines"
    elif (len(lines) > 1 or words > 1) and _COMPUTATION.search(plain):
        reason = "explains how it is computed"
    else:
        return
    raise ValueError(f"{_shown(text)} {reason}: {WAY_OUT}")


def _sentences(text: str) -> int:
    """The number of sentences; where a sentence ends, no abbreviation ends, and a capital, a digit
    or a sign follows two words at least.
    """
    start, number = 0, 1
    for stop in _SENTENCE_END.finditer(text):
        end = stop.end()
        words = len(_WORD.findall(text, start, end))
        wide = stop[0].rstrip()[-1] in "。！？"
        if wide or not (words < 2 or text[end].islower() or stop[1].lower() in _ABBREVIATIONS):
            start, number = end, number + 1
    return number


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return f'("{line}")' if len(line) <= 60 else f'("{line[:57]}...")'
