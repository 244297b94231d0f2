"""The marks with which models of many families enclose their thoughts."""

from __future__ import annotations

import re
from typing import NamedTuple

from slm_math.patterns import lazy_pattern

_NAMES = r"(?:seed:)?(?:think|thinking|thought|reasoning|scratchpad)\s*"
THOUGHT_MARK = lazy_pattern(
    rf"<(?P<close>/)?(?:{_NAMES})>|\[(?P<close_2>/)?THINK\]|◁(?P<close_3>/)?think▷"
    r"|<\|(?:begin|(?P<close_4>end))_of_thought\|>|<\|(?:START|(?P<close_5>END))_THINKING\|>"
    r"|<\|(?P<close_6>begin_of_solution|START_RESPONSE)\|>",
    re.IGNORECASE,
)
# a text without any of these holds no `THOUGHT_MARK`
MARK_WORDS = ("think", "thought", "reasoning", "scratchpad", "of_solution", "start_response")
_CLOSING = (
    ("<|begin_of", "<|end_of"),
    ("<|START_", "<|END_"),
    ("<", "</"),
    ("[", "[/"),
    ("◁", "◁/"),
)
# Marks that only models write whose templates have them; <think> is also asked for in prompts.
_FAMILY = lazy_pattern(
    r"<(/?)seed:think>|\[(/?)THINK\]|◁(/?)think▷|<\|(?:begin|(end))_of_thought\|>"
    r"|<\|(?:START|(END))_THINKING\|>"
)


class Opening(NamedTuple):
    """The end of a prompt that opens a thought: the mark, and the blanks after it."""

    mark: str
    blanks: str

    @property
    def text(self) -> str:
        return self.mark + self.blanks

    @property
    def closing(self) -> str:
        """The mark that closes the thought."""
        begin, end = next(pair for pair in _CLOSING if self.mark.startswith(pair[0]))
        return end + self.mark[len(begin) :]


def opening_of(prompt: str) -> Opening | None:
    """The thought that a prompt opens at its end; None if it opens none."""
    bare = prompt.rstrip()
    for mark in THOUGHT_MARK.finditer(bare, max(0, len(bare) - 40)):
        if mark.end() == len(bare) and not any(mark.groups()):
            return Opening(mark.group(), prompt[len(bare) :])
    return None


def closed_at_end(prompt: str) -> str:
    """The empty thought with which a prompt ends, blanks included; "" if it ends with none."""
    tail = prompt[-120:]
    marks = list(THOUGHT_MARK.finditer(tail))[-2:]
    if len(marks) < 2 or tail[marks[1].end() :].strip():
        return ""
    opens, closes = (any(mark.groups()) for mark in marks)
    between = tail[marks[0].end() : marks[1].start()]
    return "" if opens or not closes or between.strip() else tail[marks[0].start() :]


def as_think(text: str) -> str:
    """`text` with the marks of single families written as `<think>` and `</think>`."""
    return _FAMILY.sub(lambda mark: "</think>" if any(mark.groups()) else "<think>", text)
