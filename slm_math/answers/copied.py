"""Answers that only repeat the problem: expressions copied from it, with operations that the reference carried out."""

from __future__ import annotations

import re

from slm_math.answers.latex import normalise

MAX_PROBLEM = 20_000  # characters of a problem that are looked at
_OPERATION = re.compile(r"[\w)][-+*/^]|\\(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|binom|lfloor|lceil|gcd)|!|\|")
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_ALIKE = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:cdot|times)(?![a-zA-Z])|\*|×", "*"),
        (r"\\div(?![a-zA-Z])|÷", "/"),
        (r"[\s{}]|\\text", ""),
        (r"\(([\w.]+)\)", r"\1"),
    ]
]


def copied(answer: str, gold: str, problem: str) -> bool:
    """Whether `answer`, known to equal `gold`, stands in the problem's text with an operation that `gold` lacks.

    Notation does not matter: `\\frac{6}{8}`, `6/8` and `6 \\div 8` are one expression.
    """
    if answer.strip() == gold.strip():
        return False
    spelled = _spelled(answer)
    if not _OPERATION.search(spelled) or spelled == (wanted := _spelled(gold)):
        return False
    asked = _spelled(problem[:MAX_PROBLEM])
    return spelled in asked and not _stands_in(wanted, asked)


def _stands_in(text: str, asked: str) -> bool:
    """Whether the reference stands in the problem, as more than a piece of another number or word."""
    return bool(re.search(rf"(?<![\w.]){re.escape(text)}(?![\w.])", asked)) and bool(_OPERATION.search(text))


def _spelled(text: str) -> str:
    text = _FRACTION.sub(r"(\1)/(\2)", normalise(text))
    for pattern, replacement in _ALIKE:
        text = pattern.sub(replacement, text)
    return text
