"""Find the part of a reply that answers: without thinking, later turns and invented questions."""

from __future__ import annotations

import re

from slm_math.answers.thoughts import MARK_WORDS, THOUGHT_MARK
from slm_math.answers.turns import Span, final_channel, may_hold, turn
from slm_math.patterns import lazy_pattern

# A base model tends to invent the next question of a list and to answer that, too.
_NEXT_QUESTION = lazy_pattern(
    r"^[ \t#*]*(?:"
    r"(?:(?:next |new )?(?:question|problem|exercise)(?P<part> \d+)?\**:"
    r"|q\d*:|human:|user:|\[?instruction\]?:|### ?instruction)"
    r"|(?P<after>(?:question|problem|exercise|example) \d+\**[.:)]"
    r"|(?:question|problem|exercise)(?: \d+)?\**[ \t]*$"
    r"|(?:let(?:'s|’s| us)|now let(?:'s|’s| us)) [a-z]{2,9} (?:another|the next|a new|one more) "
    r"(?:problem|question|exercise|example)|input:|(?:题目|问题|用户)[:：]"
    r"|example:|assistant:|(?:user|human|assistant)[ \t]*$))",
    re.IGNORECASE | re.MULTILINE,
)
# a text without any of these holds no `_NEXT_QUESTION`
_HINTS = (
    "Q", "q", "ser", "roblem", "xercise", "xample", "nput", "uman", "nstruction", "ssistant",
    "PROB",
)  # fmt: skip
_HINTS_ANYWHERE = ("题目", "问题", "用户")
_ANSWERED = lazy_pattern(r"\\boxed|\\fbox|####|</answer>|answer is|answer:", re.IGNORECASE)
_MEANS = lazy_pattern(r"[^#*\s]")


def spoken(text: str) -> Span:
    """The (start, end) of the part of a reply that answers.

    It lies after the thinking, before the end of the turn and before any invented question.
    """
    start, end = own_turn(text)
    for hint in _HINTS if text.isascii() else (*_HINTS, *_HINTS_ANYWHERE):
        if hint in text:
            break
    else:
        return start, end
    questions = list(_NEXT_QUESTION.finditer(text, start, end))
    if questions:
        answered, opening = _ANSWERED.search(text, start, end), _MEANS.search(text, start, end)
        for question in questions:
            # it may be a part of the same problem, unless the problem was answered before it
            own = question["part"] or question["after"]
            part = own and not (answered and answered.start() < question.start())
            if opening and opening.start() < question.start() and not part:
                return start, question.start()
    return start, end


def own_turn(text: str) -> Span:
    """The (start, end) of a reply after the thinking and before the end of the turn."""
    channel = final_channel(text)
    start, end = channel or turn(text)
    marked = "<" in text or "[" in text or not text.isascii()
    if marked and channel is None and may_hold(text, MARK_WORDS):
        start, end = _after_thinking(text, start, end)
    return start, end


def without_thoughts(text: str) -> tuple[str, str]:
    """What a reply thinks and what it answers, both without the marks of thoughts."""
    start, end = own_turn(text)
    return THOUGHT_MARK.sub("", text[:start]).strip(), text[start:end].strip()


def _after_thinking(text: str, start: int, end: int) -> Span:
    """The span after the last closed block of thinking, up to a block that is not closed."""
    opened = None
    for mark in THOUGHT_MARK.finditer(text, start, end):
        if any(mark.groups()):
            start, opened = mark.end(), None
        elif opened is None:
            opened = mark.start()
    return start, end if opened is None else opened
