"""Answers that repeat the number which a problem asks to write in another form."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from slm_math.answers.copied import MAX_PROBLEM
from slm_math.answers.latex import normalize
from slm_math.patterns import lazy_pattern

_MAX_SENTENCE = 600
_SENTENCE_END = lazy_pattern(r"(?<=[.?!:])\s+|\n+")
_FORM = (
    r"(?:fractions?|decimals?|percent(?:age)?s?|integers?|mixed number|radicals?|ratios?|powers?"
    r"|(?:scientific|exponential|decimal|standard|percent|fraction\w*) notation|whole number)"
)
_CONVERTS = lazy_pattern(
    r"\b(?:express|write|rewrite|convert|change|represent|turn|simplify|reduce|transform|put)\b"
    rf"|\b(?:as|to|into|in|what|which) (?:an? |the )?(?:\w+ ){{0,3}}{_FORM}\b"
    r"|\b(?:in|to|into) (?:radians|degrees|(?:its )?(?:simplest|lowest) (?:form|terms))\b"
    r"|\b(?:decimal|fraction\w*|percent\w*|simplest|standard|expanded|scientific) "
    r"(?:form|equivalent|representation|expansion|notation|value)\b",
    re.IGNORECASE,
)
_REPEATS = lazy_pattern(r"(?:\\(?:l|c)?dots(?![a-zA-Z])|…|\.{2,})(?:\s*\.)?")
_SPELLINGS = [
    (lazy_pattern(rule), replacement)
    for rule, replacement in [
        (r"\\\(|\\\)|\\\[|\\\]|\$", ""),
        (r"(?<=\d)\s*\\frac\{(\d+)\}\{(\d+)\}", r"_\1/\2"),
        (r"(?<=\d)\s+(\d+)\s*/\s*(\d+)", r"_\1/\2"),
        (r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"\1/\2"),
        (r"(?<=\d),(?=\d{3})", ""),
        (r"\\%|\s*percent\b", "%"),
        (r"\^\{?\\circ\}?|\s*\bdegrees?\b", "°"),
        (r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1"),
        (r"(?<![\d.])0(?=\.\d)", ""),
        (r"[{}\s]", ""),
    ]
]
_NAMED = lazy_pattern(r"[a-zA-Z](?:\([a-z]\))?=")
_PLAIN = lazy_pattern(r"-?\d*\.?\d+")


def echoed(answer: str, gold: str, problem: str) -> bool:
    """Whether an answer is the number that the problem asks to convert, as the problem spells it.

    "Write 3/8 as a decimal" is not answered by 3/8, unless the reference is spelled like that.
    """
    if answer == gold or not any(char.isdigit() for char in answer):
        return False
    asked = _asked(problem[:MAX_PROBLEM])
    if not asked:
        return False
    said, wanted = (_NAMED.sub("", _spelled(text), count=1) for text in (answer, gold))
    if said == wanted or len(said) > 60:
        return False
    both_plain = _PLAIN.fullmatch(said) and _PLAIN.fullmatch(wanted)
    if both_plain and Fraction(said) == Fraction(wanted):  # 0.50 and .5 have one form
        return False
    first = re.compile(rf"[^\d]*?(?<![\d.,/^_*+=-]){re.escape(said)}(?![\d/^_*%°]|\.\d)")
    return any(first.match(sentence) for sentence in asked)


@lru_cache(maxsize=1024)
def _asked(problem: str) -> tuple[str, ...]:
    """The sentences of a problem that ask for a conversion, spelled in one way; the first number of
    each is the one to convert.
    """
    if not _CONVERTS.search(problem):
        return ()
    sentences = _SENTENCE_END.split(problem)
    asked: list[str] = []
    for sentence, following in zip(sentences, [*sentences[1:], ""]):
        if len(sentence) > _MAX_SENTENCE or not _CONVERTS.search(sentence):
            continue
        if sentence.endswith(":") or not any(char.isdigit() for char in sentence):
            sentence += following[:_MAX_SENTENCE]  # "Write as a fraction: 0.5"
        asked.append(_spelled(sentence))
    return tuple(asked)


def _spelled(text: str) -> str:
    """A text without blanks and math delimiters, its fractions, percents and dots in one way."""
    text = _REPEATS.sub("...", normalize(text))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text.rstrip(".") + ("..." if text.endswith("...") else "")
