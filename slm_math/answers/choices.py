"""Multiple choice: the letters that an answer names, directly or by the value of a choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from slm_math.answers.approximation import approximates
from slm_math.answers.equivalence import HARD, MAX_ANSWER, NO, YES, Decision, same
from slm_math.answers.latex import normalize
from slm_math.patterns import lazy_pattern

_WRAPPED = lazy_pattern(r"\\(?:text|vec)\{([^{}]*)\}")
_CALLED = lazy_pattern(
    r"^(?:the )?(?:correct )?(?:options?|choices?|answers?)(?: is| are)?\b[ :]*", re.IGNORECASE
)
_SEVERAL = lazy_pattern(r"\s*(?:,|;|&|\band\b|\s)\s*")
_ONE = lazy_pattern(r"[\[(]?\s*([A-Za-z])\s*[\])]?[.:)]?")
_DENIED = lazy_pattern(
    r"\b(?:not|no|nor|wrong|incorrect|false|or|maybe|possibly|perhaps|neither)\b|=|\?",
    re.IGNORECASE,
)
_HEDGED = lazy_pattern(r"\b(?:or|either)\b", re.IGNORECASE)
_STATED = lazy_pattern(
    r"(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*[.):,=]|([A-Z])(?: [-–]| (?=[0-9(])))\s*(.+)", re.DOTALL
)

_OWN_LETTER = lazy_pattern(r"\s*(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*[.):])\s*(?=\S)")

Choices: TypeAlias = "Sequence[str | float] | Mapping[str, object] | str | None"


def in_order(choices: Choices) -> tuple[str, ...]:
    """Choices of any shape as texts in the order of their letters.

    The shapes are a list of texts or numbers, whose texts may begin with their own letters; a
    mapping of letters to texts; a mapping of "label" and "text" to lists; lines that begin with
    letters. Raises ValueError for anything else.
    """
    if choices is None or (isinstance(choices, tuple) and not choices):
        return ()
    if isinstance(choices, Mapping):
        return _of_mapping(choices)
    if isinstance(choices, str):
        lines = [line.strip() for line in choices.splitlines() if line.strip()]
        if len(lines) < 2 or _own_letters(lines) is None:
            raise _unordered(choices, "a text has to have a line per choice, such as '(A) 12 cm'")
        choices = lines
    if isinstance(choices, (set, frozenset)) or not isinstance(choices, Iterable):
        raise _unordered(choices, "they need the order of their letters")
    texts = [_text(choice, choices) for choice in choices]
    letters_of = _own_letters(texts)
    if letters_of is not None and letters_of != sorted(letters_of):
        return tuple(text for _, text in sorted(zip(letters_of, texts)))
    return tuple(texts)


def _of_mapping(choices: Mapping[str, object]) -> tuple[str, ...]:
    labels, texts = (choices.get("label"), choices.get("text"))
    if isinstance(labels, Iterable) and isinstance(texts, Iterable):
        pairs = dict(zip(map(str, labels), texts))
    else:
        pairs = {str(key): text for key, text in choices.items()}
    named = {key.strip(" ().:").upper(): _text(text, choices) for key, text in pairs.items()}
    expected = [chr(ord("A") + index) for index in range(len(pairs))]
    if sorted(named) != expected:
        raise _unordered(choices, "the keys have to be the letters A, B, C and so on")
    return tuple(named[letter] for letter in expected)


def _text(choice: object, choices: object) -> str:
    if isinstance(choice, bool) or not isinstance(choice, (str, int, float)):
        raise _unordered(choices, f"{choice!r:.40} is no text")
    return str(choice)


def _own_letters(texts: Sequence[str]) -> list[str] | None:
    """The letters with which choices begin; None unless they are A, B, C ... in any order."""
    found = [match and (match[1] or match[2]).upper() for match in map(_OWN_LETTER.match, texts)]
    own = [letter for letter in found if letter]
    expected = [chr(ord("A") + index) for index in range(len(texts))]
    return own if sorted(own) == expected else None


def _unordered(choices: object, why: str) -> ValueError:
    return ValueError(
        f"choices {choices!r:.80} cannot be read: {why}; pass a list of texts, or a mapping such as"
        " {'A': '12 cm', 'B': '15 cm'}"
    )


def check_reference(gold: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError if the reference is the index of a choice."""
    index = isinstance(gold, str) and gold.strip().isdecimal() and choices
    if not isinstance(gold, str) or (index and letters(gold, choices) is None):
        raise ValueError(
            f"the reference of a multiple-choice problem is a letter or the text of a choice, not"
            f" {gold!r:.40}: an index has to be made a letter"
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
    equal = [i for i, choice in enumerate(choices) if _plain(choice) == _plain(text)]
    equal = equal or [i for i, choice in enumerate(choices) if _equals_choice(text, choice)]
    if len(equal) == 1:
        return frozenset(chr(ord("A") + equal[0]))
    if one:
        return frozenset(one[1].upper())
    if _HEDGED.search(plain):
        return frozenset()
    stated = _STATED.fullmatch(plain)
    if stated is None:
        return _by_value(text, choices)
    letter = (stated[1] or stated[2] or stated[3]).upper()
    if not choices:
        contradicted = _DENIED.search(plain) or _ONE.fullmatch(stated[4])
        return frozenset() if contradicted else frozenset(letter)
    index = ord(letter) - ord("A")
    # also the statement before " .*" were stripped: these marks may belong to its value
    unstripped = _STATED.fullmatch(_plain(text))
    values = [stated[4], stated[4].strip("()"), *([unstripped[4]] if unstripped else [])]
    if index < len(choices) and any(
        _equals_choice(value, choices[index]) or approximates(value, choices[index])
        for value in values
    ):
        return frozenset(letter)
    # in y = 8.66 and c = 5, the letter is the name of what was asked for
    is_name = "=" in plain and stated[2] is not None
    is_name = is_name and (stated[2].islower() or index >= len(choices))
    return (is_name and _by_value(text, choices)) or frozenset()


def _by_value(text: str, choices: tuple[str, ...]) -> frozenset[str] | None:
    """The letter of the only choice that equals the value behind an equals sign or, if none does,
    that the text gives rounded as a decimal; None unless it is exactly one choice.
    """
    sides = normalize(text).strip(" .$").split("=")
    value = sides[-1]
    equal = [i for i, choice in enumerate(choices) if len(sides) == 2 and same(value, choice).equal]
    equal = equal or [i for i, choice in enumerate(choices) if approximates(value, choice)]
    return frozenset(chr(ord("A") + equal[0])) if len(equal) == 1 else None


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
