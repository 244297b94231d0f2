"""Reduce the words around an answer: labels, connectives, a sentence with a single number."""

from __future__ import annotations

import re

from slm_math.answers.latex import normalize
from slm_math.answers.number_words import UNITS
from slm_math.answers.units import split_units
from slm_math.patterns import lazy_pattern

_COMMAND = r"\\(?:text|textbf|textrm|textit|textsf|mathrm|mathbf|mathsf|mbox)\s*\{"
_NAMED = (
    r"\s*\**(?:(?:so|thus|therefore|hence),? )?(?:(?:the|our|my) )?(?:final |correct )?"
    r"(?:(?:answer|result|solution|total|sum|value|ans)\**\s*[:：]\**"
    r"|(?:answer|result) is:?(?!\w))\**"
)
# `\text{Answer: 5}`, `\text{Answer: } 5`, `\text{Answer}: 5` and `Answer: 5`
_LABEL = lazy_pattern(
    rf"\s*(?:{_COMMAND}{_NAMED}\s*\}}|{_COMMAND}\s*(?:final )?answer\s*\}}\s*[:：=]|{_NAMED})\s*"
    r"(?=\S)",
    re.IGNORECASE,
)
_LABEL_INSIDE = lazy_pattern(
    rf"\s*{_COMMAND}{_NAMED}\s*([^{{}}]*[^{{}}\s][^{{}}]*)\}}\s*", re.IGNORECASE
)
_CONNECTIVE = lazy_pattern(
    r"(\$\$?|\\\(|\\\[)?\s*(?:\\(?:therefore|implies|Rightarrow|Longrightarrow|rightarrow"
    r"|longrightarrow)(?![a-zA-Z])|[∴⇒⟹→]|=(?![=>]))\s*(?=\S)"
)
# JSON reads `\b` and `\f` of an unescaped `\boxed` or `\frac` as control characters
_CONTROL = str.maketrans({"\x08": "\\b", "\x0c": "\\f"})
_PLACEHOLDER = lazy_pattern(r"<([A-H])>")  # of a prompt such as "Answer: <letter>"
_LAST_BACKSLASHES = lazy_pattern(r"(?<=\S)(?:\s*\\)+\s*\Z")
_FORMULA = lazy_pattern(r"\$[^$]{1,80}\$|\\\([^()]{1,80}\\\)|\\\[[^\[\]]{1,80}\\\]")
_AMOUNT = lazy_pattern(
    r"(?<![\w.])[-−]?\\?[$€£]?(?:\d{1,3}(?:,\d{3}){1,9}(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?(?!\w)"
)
_TEXT = lazy_pattern(r"\\(?:text|textbf|mbox|textrm|mathrm)\s*\{([^{}]*)\}")
_PLAIN_WORD = lazy_pattern(r"[A-Za-z]+(?:['’][a-z]{1,2})?|[.,!;:'’\"()-]+")
# A sentence with one of these words does not say that its number is the answer.
_CHANGES = (
    frozenset(
        """not no none never nor neither without cannot except unless if or either but than least
    most under over above below between beyond exceed exceeds up past at-least at-most other others
    about around nearly almost roughly approximately estimate estimated maybe perhaps possibly
    probably might may could would should guess sure unsure unclear unable unknown undefined
    undetermined impossible infinite infinitely indeterminate any wrong incorrect false
    plus minus times divided divides half halves third thirds quarter quarters fourth fifth double
    twice thrice triple squared cubed square cube squares cubes root roots power powers exponent
    logarithm log sine cosine tangent factorial modulo negative opposite inverse reciprocal
    remainder multiple multiples divisible dozen dozens score pair pairs hundred hundreds thousand
    thousands million millions billion billions trillion trillions tens
    figure step chapter theorem lemma case question problem example page section part option
    choice item line equation level age fewer less younger older taller shorter decrease
    decreased decreases increase increased increases refuse add sum first base digits numbers
    before ago""".split()  # noqa: SIM905
    )
    | {*UNITS[1:13]}
)
_MAX_SENTENCE = 300


def unlabeled(value: str) -> str:
    """An answer without a label ("Answer:"), a connective in front and backslashes at the end."""
    value = value.strip()
    if value[:1].isdigit() and "\\" not in value and "\x0c" not in value:  # most answers
        return value
    value = value.translate(_CONTROL)
    inside = _LABEL_INSIDE.fullmatch(value)
    value = (
        inside[1].strip()
        if inside
        else _LABEL.sub("", value, count=1)
        if _LABEL.match(value)
        else value
    )
    connective = _CONNECTIVE.match(value)
    if connective:
        value = (connective[1] or "") + value[connective.end() :]
    if placeholder := _PLACEHOLDER.fullmatch(value):
        return placeholder[1]
    return _LAST_BACKSLASHES.sub("", value) if value.endswith("\\") else value


def only_number(sentence: str) -> str | None:
    """The number or formula of a sentence that has exactly one ("She has 12 apples left").

    None for anything else, and for a sentence whose words change the number ("less than 12").
    """
    if len(sentence) > _MAX_SENTENCE:
        return None
    plain = _TEXT.sub(r" \1 ", sentence)
    formulas = list(_FORMULA.finditer(plain))
    around = _FORMULA.sub(" ", plain)
    amounts = [] if formulas else list(_AMOUNT.finditer(plain))
    if len(formulas) + len(amounts) != 1 or (formulas and any(c.isdigit() for c in around)):
        return None
    [amount] = formulas or amounts
    words = _words(plain[: amount.start()]), _words(plain[amount.end() :])
    if words[0] is None or words[1] is None:
        return None
    names = [word for word in words[0] + words[1] if word[0].isalpha()]
    if len(names) < 3 or len(words[0]) == 0:
        return None
    if any(word.lower() in _CHANGES or "n't" in word.replace("’", "'") for word in names):
        return None
    counted = f"{amount.group()} {words[1][0]}" if words[1] else ""
    _, percent, unit = (
        split_units(normalize(counted)) if words[1] and not formulas else ("", False, "")
    )
    return counted if percent or unit else amount.group()


def _words(text: str) -> list[str] | None:
    """The words and punctuation of a text; None if it has anything else, such as symbols."""
    text = text.replace("*", " ")
    rest = _PLAIN_WORD.sub("", text)
    return None if rest.strip() else _PLAIN_WORD.findall(text)
