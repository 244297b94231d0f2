"""Rows to imitate: the turns of a worked dialogue as token ids and loss weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slm_math.answers.thoughts import THOUGHT_MARK, closed_at_end, opening_of
from slm_math.data.written import Written


@dataclass(frozen=True)
class Span:
    """A text of an assistant's turn; `learn` is False for one that was injected."""

    text: str
    learn: bool = True


@dataclass(frozen=True)
class Turn:
    """An assistant's turn: the text before it, and what the assistant writes up to the end; if
    `learn` is False it is context, its end included.
    """

    before: str
    spans: tuple[Span, ...]
    learn: bool = True


@dataclass(frozen=True)
class Frame:
    """What a template writes around an assistant's message: `lead` after the generation prompt,
    `tail` before the end of the turn, and the end if it writes one.
    """

    lead: str = ""
    tail: str = ""
    end: str = ""

    def around(self, before: str, spans: Sequence[Span], whole: str) -> tuple[Span, ...]:
        """The spans as the template renders them after `before` in `whole`, which is learned with
        them; only the spans if it renders something else (many templates drop thoughts).
        """
        for lead in dict.fromkeys((self.lead, "")):
            for inner in (tuple(spans), stripped(spans)):
                text = "".join(span.text for span in inner)
                if whole.startswith(before + lead + text + self.tail + self.end):
                    return (Span(lead), *inner, Span(self.tail))
        return tuple(spans)


def stripped(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans without blanks around the whole."""
    if not spans:
        return ()
    first, last = Span(spans[0].text.lstrip(), spans[0].learn), len(spans) - 1
    inner = [first, *spans[1:]]
    inner[last] = Span(inner[last].text.rstrip(), inner[last].learn)
    return tuple(inner)


def continuation(before: str, content: str) -> str:
    """What an assistant's message adds to the prompt: without the opening of a thought, or the
    empty thought, that stands at the end of the prompt already.
    """
    opening, closed = opening_of(before), closed_at_end(before)
    if closed and content.startswith(closed):
        return content[len(closed) :]
    bare = content.lstrip()
    if opening is None or not bare.startswith(opening.mark):
        return content
    return bare[len(opening.mark) :].removeprefix(opening.blanks)


def thought_through(before: str, spans: Sequence[Span], lead: str) -> tuple[Span, ...]:
    """The spans of a worked solution after a prompt that may open a thought: the opening is not
    repeated, and a solution without thoughts closes it first (with `lead`, if that does).

    Raises ValueError for a thought that never ends, for a second one, and for other marks.
    """
    opening = opening_of(before)
    content = "".join(span.text for span in spans)
    _check_marks(before, content, lead)
    if opening is None:
        return tuple(spans)
    rest = continuation(before, content)
    mark = THOUGHT_MARK.match(rest.lstrip())
    if opening.closing in rest:
        first = spans[0].text[len(content) - len(rest) :]
        return (Span(first, spans[0].learn), *spans[1:])
    if rest != content or mark is not None:
        raise ValueError(
            f"the chat template opens a thought with {opening.mark}, and a solution begins with "
            f"{(mark.group() if mark and rest == content else opening.mark)} but has no "
            f"{opening.closing}: end its thoughts with this mark, or leave the solution out "
            f"({content[:60]!r})"
        )
    closed = lead if opening.closing in lead else f"\n{opening.closing}\n\n"
    return (Span(closed), *spans)


def _check_marks(before: str, content: str, lead: str) -> None:
    """Raises ValueError for a solution whose thoughts do not go with those that the template
    writes: the model would learn a second thought, or one that never ends.
    """
    opening, closed = opening_of(before), closed_at_end(before)
    if not (opening or closed or THOUGHT_MARK.search(lead)):
        return
    marks = [mark for mark in THOUGHT_MARK.finditer(content) if not mark["close_6"]]
    closes = [any(mark.groups()) for mark in marks]
    if not marks or (opening and closes in ([True], [False])):
        return
    at_once = not content[: marks[0].start()].strip()
    if not closed and closes == [False, True] and at_once:
        return
    found = " ".join(mark.group() for mark in marks)
    wanted = "no thought, as it closes one itself" if closed else "one thought at the beginning"
    raise ValueError(
        f"a solution has {found}, and with this chat template it must have {wanted}: change the "
        f"solution, or chat_template_kwargs ({content[:60]!r})"
    )


def rows(turns: Iterable[Turn], end: str, prompt_weight: float) -> list[Written]:
    """Rows of a dialogue; a new one begins where the text before a turn does not go on from the
    turn before. `end` is the text that ends a turn.
    """
    made: list[list[tuple[str | None, float]]] = []
    text = ""
    for turn in turns:
        if not made or (text and not turn.before.startswith(text)):
            made.append([])
            text = ""
        pieces = made[-1]
        pieces.append((turn.before[len(text) :], prompt_weight))
        text = turn.before
        for learn, spans in itertools.groupby(turn.spans, key=lambda span: span.learn):
            written = "".join(span.text for span in spans)
            pieces.append((written, float(learn and turn.learn)))
            text += written
        pieces.append((None, float(turn.learn)))
        text += end
    return [Written(tuple(pieces)) for pieces in made]
