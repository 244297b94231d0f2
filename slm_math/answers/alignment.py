"""Differences of spelling that only show beside the reference: bound letters, constants, commas."""

from __future__ import annotations

import re

from slm_math.answers.names import FUNCTION_OF, renamed
from slm_math.patterns import lazy_pattern

_QUALIFIER = lazy_pattern(
    r"[\s,(]*(?:\\text\{[\s,(]*)?(?<![a-zA-Z])(?:for (?:all|any|every|each|some)(?![a-zA-Z])|where "
    r"(?=[a-zA-Z](?![a-zA-Z]))|\\forall(?![a-zA-Z])).*$"
)
_DOMAIN = lazy_pattern(r"[\s,(]+[a-z] ?\\in ?\\mathbb ?\{?[RQ]\}?\)?$")
_INTEGER = lazy_pattern(
    r"[\s,(]*(?:\\text\{[\s,]*(?:for|where)?(?: an?y?)?(?: integers?)?\s*\}\s*)?"
    r"([a-z]) ?(?:\\in ?\\mathbb ?\{?([ZN])\}?|\\text\{ ?(?:is|be) an?y? integer ?\})\)?$"
)
_CONSTANT = lazy_pattern(r"(.*\+ ?)([CcKk])")
_CONSTANTS = ("C", "c", "K", "k")
_COMMA = lazy_pattern(r"([-+]?\d+),(\d+)")
_GROUP = lazy_pattern(r"[-+]?[1-9]\d{0,2},\d{3}")
_POINT = lazy_pattern(r"[-+]?\d+\.\d+")


def aligned(answer: str, gold: str) -> tuple[str, str]:
    """The two answers without differences that carry no meaning beside the other one."""
    if "=" in answer and "=" in gold:
        answer, gold = _without_qualifiers(answer, gold)
    if "," in answer and _POINT.fullmatch(gold):
        answer = _decimal_comma(answer, gold)
    elif "," in gold and _POINT.fullmatch(answer):
        gold = _decimal_comma(gold, answer)
    if gold[-1:] in _CONSTANTS and answer[-1:] in _CONSTANTS and answer[-1] != gold[-1]:
        answer = _same_constant(answer, gold)
    if "\\mathbb" in gold or "integer" in gold:
        return _same_parameter(answer, gold)
    return answer, gold


def _without_qualifiers(answer: str, gold: str) -> tuple[str, str]:
    """Without "for all x" after an equation; two different ones stay."""
    ends = [_QUALIFIER.search(text) or _DOMAIN.search(text) for text in (answer, gold)]
    if ends[0] and ends[1] and _bare(ends[0][0]) != _bare(ends[1][0]):
        return answer, gold
    kept = [text[: end.start()] if end else text for text, end in zip((answer, gold), ends)]
    return (kept[0], kept[1]) if all("=" in text for text in kept) else (answer, gold)


def _bare(text: str) -> str:
    return re.sub(r"\\text|[\s{}()$,]", "", text)


def _decimal_comma(text: str, other: str) -> str:
    """`3,14` as 3.14 beside a number with a decimal point; 1,234 stays a thousands group."""
    comma = _COMMA.fullmatch(text)
    if comma and not _GROUP.fullmatch(text) and f"{comma[1]}.{comma[2]}" == other:
        return other
    return text


def _same_constant(answer: str, gold: str) -> str:
    """The constant of integration in the case of the reference: `+ c` for `+ C`."""
    ends = [_CONSTANT.fullmatch(text) for text in (answer, gold)]
    if not ends[0] or not ends[1]:
        return answer
    letters = set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", ends[0][1]))) - {"e"}
    # c is a constant of its own only beside a function of one variable
    return (
        ends[0][1] + ends[1][2] if len(letters) == 1 and not letters & set(_CONSTANTS) else answer
    )


def _same_parameter(answer: str, gold: str) -> tuple[str, str]:
    """Families of solutions with the integer parameter of the reference: `k` for `n`."""
    ends = [_INTEGER.search(text) for text in (answer, gold)]
    if not ends[0] or not ends[1] or (ends[0][2] or "Z") != (ends[1][2] or "Z"):
        return answer, gold
    bodies = [text[: end.start()] for text, end in zip((answer, gold), ends) if end]
    if not all(bodies):
        return answer, gold
    (old, new), body = (ends[0][1], ends[1][1]), bodies[0]
    changed = body if old == new else renamed(body, {old: new})
    return (changed, bodies[1]) if changed is not None else (answer, gold)


def same_function(answer: str, gold: str, value: str) -> str | None:
    """`value` of the function `answer` with the arguments of `gold`: f(m) = 2m for f(n).

    `answer` and `gold` are names such as `f(m)`; None if they are not the same function.
    """
    a, g = FUNCTION_OF.fullmatch(answer), FUNCTION_OF.fullmatch(gold)
    if not a or not g:
        return value if {answer, gold} == {"y", "f(x)"} else None
    letters = [match[2].replace(" ", "").split(",") for match in (a, g)]
    if a[1] != g[1] or len(letters[0]) != len(letters[1]):
        return None
    if any(len(set(names)) < len(names) or any(len(x) != 1 for x in names) for names in letters):
        return None
    if not all(letter.islower() for names in letters for letter in names):  # P(A) is not P(B)
        return None
    return renamed(value, dict(zip(*letters)))
