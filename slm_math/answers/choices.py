"""Multiple choice: the letters that an answer names, directly or by the value of a choice."""

from __future__ import annotations

import re

from slm_math.answers.equivalence import HARD, MAX_ANSWER, NO, YES, Decision, same
from slm_math.answers.latex import normalize

_WRAPPED = re.compile(r"\\(?:text|vec)\{([^{}]*)\}")
_CALLED = re.compile(
    r"^(?:the )?(?:correct )?(?:options?|choices?|answers?)(?: is| are)?\b[ :]*", re.IGNORECASE
)
_SEVERAL = re.compile(r"\s*(?:,|;|&|\band\b|\s)\s*")
_ONE = re.compile(r"[\[(]?\s*([A-Za-z])\s*[\])]?[.:)]?")
_DENIED = re.compile(
    r"\b(?:not|no|nor|wrong|incorrect|false|or|maybe|possibly|perhaps|neither)\b|=|\?",
    re.IGNORECASE,
)
_HEDGED = re.compile(r"\b(?:or|either)\b", re.IGNORECASE)
_STATED = re.compile(
    r"(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*[.):,=]|([A-Z])(?: [-–]| (?=[0-9])))\s*(.+)", re.DOTALL
)


def same_choice(answer: str, gold: str, choices: tuple[str, ...]) -> Decision:
    """Whether an answer names exactly the letters that the reference names.

    If either names no letter, the two are compared as values.
    """
    if max(len(answer), len(gold)) > MAX_ANSWER:
        return HARD
    if not normalize(answer):
        return Decision(False, "empty")
    if _plain(answer).casefold() == _plain(gold).casefold():
        return YES
    gold_letters = letters(gold, choices)
    answer_letters = letters(answer, choices)
    if gold_letters and answer_letters is not None:
        return YES if answer_letters == gold_letters else NO
    return same(answer, gold)


def letters(text: str, choices: tuple[str, ...]) -> frozenset[str] | None:
    """The letters that a text names; an empty set if they contradict it, None if there are none."""
    plain = _CALLED.sub("", _plain(text)).strip(" .*")
    one = _ONE.fullmatch(plain)
    if one and (not choices or ord(one[1].upper()) - ord("A") < len(choices)):
        return frozenset(one[1].upper())
    named = [_ONE.fullmatch(part) for part in _SEVERAL.split(plain)]
    if one is None and all(named):
        return frozenset(part[1].upper() for part in named if part)
    known = {chr(ord("A") + i) for i in range(max(len(choices), 5))}
    if 1 < len(plain) == len(set(plain)) and known.issuperset(plain):  # "AC"
        return frozenset(plain)
    equal = [i for i, choice in enumerate(choices) if _equals_choice(text, choice)]
    if len(equal) == 1:
        return frozenset(chr(ord("A") + equal[0]))
    if one:
        return frozenset(one[1].upper())
    if _HEDGED.search(plain):
        return frozenset()
    stated = _STATED.fullmatch(plain)
    if stated is None:
        return None
    letter = (stated[1] or stated[2] or stated[3]).upper()
    if not choices:
        contradicted = _DENIED.search(plain) or _ONE.fullmatch(stated[4])
        return frozenset() if contradicted else frozenset(letter)
    index = ord(letter) - ord("A")
    # also the statement before " .*" were stripped: these marks may belong to its value
    unstripped = _STATED.fullmatch(_plain(text))
    agrees = index < len(choices) and (
        _equals_choice(stated[4], choices[index])
        or (unstripped is not None and _equals_choice(unstripped[4], choices[index]))
    )
    return frozenset(letter) if agrees else frozenset()


def names_option(text: str) -> bool:
    """Whether a text names one letter or several, whatever the choices are."""
    return len(text) <= MAX_ANSWER and bool(letters(text, ()))


def _plain(text: str) -> str:
    return " ".join(_WRAPPED.sub(r" \1 ", normalize(text)).split())


def _equals_choice(text: str, choice: str) -> bool:
    """Whether a text equals a choice, with or without the choice's own letter."""
    plain = normalize(choice)
    stated = _STATED.fullmatch(plain)
    return same(text, choice).equal or (stated is not None and same(text, stated[4]).equal)
