r"""Reference answers in the form that the grader takes: clear ones are normalized, others refused.

>>> read_gold("3 bags of 4 are 12.\n#### 12"), read_gold(r"So $x = \boxed{\frac12}$."), read_gold(7)
('12', '\\frac12', '7')
>>> read_gold("a circle and a line")
'a circle and a line'
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any

from slm_math.answers import extract, gold_answer
from slm_math.answers.choices import letters
from slm_math.answers.equivalence import MAX_ANSWER
from slm_math.answers.tolerance import within
from slm_math.types import AnswerType

# a sentence that ends in a word or a number (not in an abbreviation such as "Dr."), and another one
_SENTENCES = re.compile(
    r"(?:[^\W\d_]{3,}(?<!\bMrs)|\d\w?)[\"')\]$]?[.!?]\s+(?=[$\\\w])|[。！？]\s*(?=\S)"
)
_WORD_OR_SIGN = re.compile(r"[^\s\u3000-\u9fff]+|[\u4e00-\u9fff]")  # Chinese has no spaces
_CALCULATION = re.compile(r"\d\s*[-+*/×÷·]\s*\$?\d[\d\s.,+*/×÷·()-]*=\s*\$?[\d\\]")
_WRAPPED = re.compile(r"(?<=[-+*/=,<>])\s*\n")  # a formula that goes on in the next line
_MISSING = ("nan", "<na>", "nat")  # how tables print a missing value
_PHRASE = re.compile(r"\b(?:answer|ans|result)\b", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
# line breaks inside of these are of one expression
_BLOCKS = re.compile(
    r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}", re.DOTALL
)
_DELIMITERS = re.compile(r"\$\$?|\\[\[\]()]")
MARKS = "a worked solution marks its answer with '#### <answer>' or \\boxed{}"
FEW_WORDS = 3  # so many words beside a calculation, or in an answer that a phrase states


def read_gold(value: Any, answer_type: AnswerType = "math", choices: Sequence[str] = ()) -> str:
    """The reference answer in the value of a data set: a text or a number, or the end of a worked
    solution (`#### 5`, a box, "The answer is 5").

    Raises ValueError, with what is wrong as the rest of a sentence about the gold, for anything
    that the grader could not take as one answer.
    """
    text = _text(value, answer_type).strip()
    if not text:
        raise ValueError("is empty")
    gold = gold_answer(text)
    if gold == text and answer_type != "mc":
        gold = _stated(text) or text
    if not gold or "\\boxed" in gold:
        raise ValueError("is a worked solution whose answer is empty")
    if len(gold) > MAX_ANSWER:
        raise ValueError(f"has {len(gold)} characters, more than an answer may have; {MARKS}")
    if answer_type == "mc":
        _check_letter(gold, choices)
    elif gold.casefold() in _MISSING:
        raise ValueError(f"is {gold!r}: the value is missing in the data")
    elif _is_rationale(gold):
        raise ValueError(f"is a text of several sentences or steps; {MARKS}")
    elif answer_type == "num":
        _check_number(gold)
    return gold


def _stated(text: str) -> str | None:
    """The answer in `<answer>`, or the short one that a phrase at the end of a text states ("So the
    answer is 12.").
    """
    stated = extract(text)
    if stated.value is None or stated.span is None:
        return None
    if stated.method == "tag":
        return stated.value
    if stated.method != "phrase" or not _PHRASE.search(text[: stated.span[0]]):  # "A:B" is a ratio
        return None
    at_end = not text[stated.span[1] :].strip(" .$*!\n")
    short = len(_WORD.findall(stated.value)) < FEW_WORDS and not _CALCULATION.search(stated.value)
    return stated.value if at_end and short else None


def _text(value: Any, answer_type: AnswerType) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError("is missing (None)")
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise ValueError(f"is of type {type(value).__name__}, not a text or a number")
    if answer_type == "mc":
        raise ValueError(
            f"is the number {value}, not a letter (the first choice is 'A', the second 'B')"
        )
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Rational):
        return f"{value.numerator}/{value.denominator}"
    if not math.isfinite(value):
        raise ValueError(f"is {value}, not a number")
    if not isinstance(value, Decimal):
        # the shortest digits that tell the number from others of its own type (numpy has several)
        number = Decimal(str(value))
        return f"{number.to_integral() if number == int(number) else number:f}"
    return f"{value:f}"


def _is_rationale(text: str) -> bool:
    """Whether a text is the way to an answer: several sentences or lines, or a calculation among
    words.
    """
    prose = text
    while (shorter := _BLOCKS.sub(" ", prose)) != prose:  # each pass removes characters
        prose = shorter
    prose = _WRAPPED.sub(" ", prose)
    lines = [line for line in _DELIMITERS.sub(" ", prose).split("\n") if line.strip()]
    return (
        len(lines) > 1
        or (_SENTENCES.search(prose) is not None and len(_WORD_OR_SIGN.findall(text)) > FEW_WORDS)
        or len(_CALCULATION.findall(text)) > 1
        or (_CALCULATION.search(text) is not None and len(_WORD.findall(text)) >= FEW_WORDS)
    )


def _check_letter(gold: str, choices: Sequence[str]) -> None:
    named = letters(gold, tuple(choices))
    if not choices and named is None:  # without choices, values are compared
        return
    known = [chr(ord("A") + number) for number in range(len(choices))]
    if not named or (choices and not named.issubset(known)):
        raise ValueError(
            f"is {gold!r:.60}, which names no choice"
            + (f": the choices are {known[0]} to {known[-1]}" if choices else "")
        )


def _check_number(gold: str) -> None:
    decision = within(gold, gold, Fraction(0), relative=False)
    if not decision.equal and decision.reason == "different":
        raise ValueError(f"is {gold!r:.60}, which is not a number (answer type 'num')")
