"""Rows of dialogues by shape: what a template writes around contents that it writes unchanged is
the same for all dialogues with the same roles and the same learned parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from slm_math.answers.thoughts import THOUGHT_MARK
from slm_math.data.written import Written
from slm_math.types import Chat, Image, Message, Text

# of each message its role, and of each of its parts whether it is learned
Shape: TypeAlias = tuple[tuple[str, tuple[bool, ...]], ...]
# the text before the first part, and the number of each part with the text after it
_Filled: TypeAlias = tuple[str, tuple[tuple[int, str], ...]]
# the pieces of a row, and their loss weights
_Layout: TypeAlias = tuple[tuple[_Filled | str | None, float], ...]

_PLACE = re.compile("\ue000([0-9]+)\ue001")  # characters of nobody's text


class DialogueShapes:
    """Writes dialogues of which it has seen one of the same shape.

    Args:
        written: the rows of a dialogue, from which the shapes are learned.
        special: texts that are neutralized in contents; `written` writes dialogues with one.
    """

    def __init__(
        self, written: Callable[[Chat, float], list[Written]], special: Sequence[str]
    ) -> None:
        self._written = written
        self._unusual = re.compile("|".join(map(re.escape, [*special, "\ue000"])))
        self._seen: set[tuple[Shape, float]] = set()
        self._layouts: dict[tuple[Shape, float], _Layout | None] = {}

    def written(self, chat: Chat, prompt_weight: float) -> list[Written] | None:
        """The rows of a dialogue; None for one that has to be written on its own: with images,
        special tokens, marks of thoughts, or turns in which nothing is learned.
        """
        texts: list[str] = []
        shape = []
        for message in chat:
            learned = []
            for part in message.content:
                if isinstance(part, Image):
                    return None
                texts.append(part.text)
                learned.append(not isinstance(part, Text) or part.learn)
            if True not in learned:
                return None
            shape.append((message.role, tuple(learned)))
        # what only two texts together make is none, and the dialogue is merely written slowly
        whole = "".join(texts)
        if self._unusual.search(whole) or THOUGHT_MARK.search(whole):
            return None
        key = tuple(shape), prompt_weight
        if key not in self._seen:  # of many dialogues each has a shape of its own
            self._seen.add(key)
            return None
        if key not in self._layouts:
            self._layouts[key] = self._layout(*key)
        layout = self._layouts[key]
        return None if layout is None else [_row(layout, texts)]

    def _layout(self, shape: Shape, prompt_weight: float) -> _Layout | None:
        """What surrounds the parts of a dialogue of this shape, where it is one row; None if that
        is not certain.
        """
        count = sum(len(learned) for _, learned in shape)
        try:
            rows = self._written(
                _chat(shape, [f"\ue000{n}\ue001" for n in range(count)]), prompt_weight
            )
            if len(rows) != 1 or not rows[0].ends_learned:
                return None
            layout = tuple((text and _split(text), weight) for text, weight in rows[0].pieces)
            # a template may treat blanks in a way of its own
            for texts in ([""] * count, ["\n "] * count):
                if self._written(_chat(shape, texts), prompt_weight) != [_row(layout, texts)]:
                    return None
        except ValueError:  # which the dialogue itself will raise, in its own words
            return None
        whole = "".join(text or "" for text, _ in rows[0].pieces)
        return None if THOUGHT_MARK.search(whole) else layout


def _chat(shape: Shape, texts: Sequence[str]) -> Chat:
    """A dialogue of a shape with these texts as its parts."""
    rest = iter(texts)
    return tuple(
        Message(role, tuple([Text(next(rest), learn=learn) for learn in learned]))  # type: ignore[arg-type]
        for role, learned in shape
    )


def _row(layout: _Layout, texts: Sequence[str]) -> Written:
    return Written(tuple([(piece and _filled(piece, texts), weight) for piece, weight in layout]))


def _split(text: str) -> _Filled:
    first, *rest = _PLACE.split(text)
    return first, tuple((int(place), after) for place, after in zip(rest[::2], rest[1::2]))


def _filled(piece: _Filled | str, texts: Sequence[str]) -> str:
    if isinstance(piece, str):
        return piece
    text, rest = piece
    for place, after in rest:
        text += texts[place] + after
    return text
