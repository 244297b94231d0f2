"""Rewards of a reply and its answer: right, well formatted, readable, of some length."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from slm_math.answers import extract, readable
from slm_math.answers.graded import GradedTrace
from slm_math.answers.thoughts import as_think
from slm_math.rewards.base import Reward, answer_of, replies_of
from slm_math.rewards.credits import Credit
from slm_math.rewards.turns import of_the_change
from slm_math.types import Problem, Reply

Layout = Literal["boxed", "tags"]
Shape = Literal["ramp", "brief", "cosine", "window"]
Unit = Literal["tokens", "chars", "thinking"]
_TAGS = re.compile(r"(</?(?:think|answer)>)")


@dataclass(frozen=True)
class Counted:
    """What a reward of the answer looks at: the graded trace, the agent's answer if it counts,
    whether that is right, and the replies of the role.
    """

    graded: GradedTrace
    answer: str | None
    right: bool
    replies: list[Reply]

    @property
    def problem(self) -> Problem:
        return self.graded.task.problem


class _OfAnswer(Reward):
    """A reward that depends on the agent's answer.

    Args:
        finish: when True, an answer counts only if the role's last reply ended by itself, not by
            the token budget.
        layout: when set, the score is 0 unless the role's last reply has this format (see
            `Format`).
    """

    def __init__(self, finish: bool = True, layout: Layout | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.finish = finish
        self.layout: Layout | None = layout

    def __call__(self, graded: GradedTrace) -> float | Credit:
        replies = replies_of(graded.trace, self.role)
        if self.layout and not has_layout(self.layout, replies):
            return 0.0
        answer = answer_of(graded, self.role, self.finish)
        right = answer is not None and graded.correct
        return self.value(Counted(graded, answer, right, replies))

    def value(self, counted: Counted) -> float | Credit:
        """The score."""
        raise NotImplementedError


class Correct(_OfAnswer):
    """Is the agent's final answer right?

    Args:
        right: score of a right answer.
        wrong: score of a wrong answer.
        missing: score when there is no answer.
        unreadable: score of an answer that the grader cannot read (see `Parsable`); None scores it
            as wrong.
        credit: how the role's advantage is distributed over its turns, for agents with several
            drafts: "even", or "change", to the turns of the draft that made the answer right or
            wrong (see `of_the_change`).
    """

    def __init__(
        self,
        right: float = 1.0,
        wrong: float = 0.0,
        missing: float = 0.0,
        unreadable: float | None = None,
        credit: Literal["even", "change"] = "even",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.right, self.wrong, self.missing, self.unreadable = right, wrong, missing, unreadable
        self.credit: Literal["even", "change"] = credit
        if credit not in ("even", "change"):
            raise ValueError(f"Correct's credit must be even or change, got {credit!r}")

    def value(self, counted: Counted) -> float | Credit:
        score = self._score(counted)
        if self.credit == "even":
            return score
        return of_the_change(counted.graded, self.role, score, counted.right)

    def _score(self, counted: Counted) -> float:
        if counted.answer is None:
            return self.missing
        if counted.right:
            return self.right
        if self.unreadable is None or readable(counted.answer, counted.problem):
            return self.wrong
        return self.unreadable


class Format(_OfAnswer):
    r"""Does the role's last reply have the format that was asked for?

    Args:
        kind: "boxed": the answer stands in a non-empty `\boxed{}`; "tags": one
            `<think>...</think>`, then one `<answer>...</answer>`, and nothing else but blanks.
            A `<think>` that the prompt opens counts; marks of single families (`[THINK]`) do, too.
        passed: score of a reply with this format.
        failed: score of one without.
        wrong: score of one with this format but no right answer; None makes no difference.
    """

    def __init__(
        self,
        kind: Layout = "boxed",
        passed: float = 1.0,
        failed: float = 0.0,
        wrong: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.kind: Layout = kind
        self.passed, self.failed, self.wrong = passed, failed, wrong

    def value(self, counted: Counted) -> float:
        if not has_layout(self.kind, counted.replies):
            return self.failed
        return self.passed if self.wrong is None or counted.right else self.wrong


class Parsable(_OfAnswer):
    """Is there an answer that the grader can read: an option ("mc"), a number ("num"), mathematics
    or text ("math")?

    Args:
        passed: score of a readable answer; a right one always is.
        failed: score of an unreadable or missing answer.
    """

    def __init__(self, passed: float = 1.0, failed: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        self.passed, self.failed = passed, failed

    def value(self, counted: Counted) -> float:
        answer = counted.answer
        reads = answer is not None and (counted.right or readable(answer, counted.problem))
        return self.passed if reads else self.failed


class Length(_OfAnswer):
    """Rewards the length n of all replies of the role: `right` * f(n) where the answer is right,
    else `wrong` * f(n).

    With x = (n - low) / (high - low), cut to [0, 1], f is: "ramp", x; "brief", 1 - x; "cosine", (1
    + cos(pi x)) / 2; "window", 1 for low <= n <= high, else 0. "cosine" is CosFn of Yeo et al. 2025
    (Demystifying long chain-of-thought reasoning) with r_0 = `right` and r_L = 0 (`wrong`
    likewise): `Correct` adds what does not depend on the length.

    Args:
        shape: which f.
        unit: what n, low and high count: "tokens", "chars", or "thinking", the characters between
            the first `<think>` and `</think>`.
        low: length where f begins.
        high: length where f ends.
        right: factor for a right answer.
        wrong: factor for any other; a negative one with "ramp" is a penalty that grows with the
            length of wrong answers, which teaches short guesses.
    """

    def __init__(
        self,
        shape: Shape = "ramp",
        unit: Unit = "tokens",
        low: int = 0,
        high: int = 512,
        right: float = 1.0,
        wrong: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not 0 <= low < high:
            raise ValueError(f"Length needs 0 <= low < high, got {low} and {high}")
        self.shape: Shape = shape
        self.unit: Unit = unit
        self.low, self.high = low, high
        self.right, self.wrong = right, wrong

    def value(self, counted: Counted) -> float:
        factor = self.right if counted.right else self.wrong
        n = sum(_length(reply, self.unit) for reply in counted.replies)
        x = min(max((n - self.low) / (self.high - self.low), 0.0), 1.0)
        f = {
            "ramp": x,
            "brief": 1 - x,
            "cosine": (1 + math.cos(math.pi * x)) / 2,
            "window": float(self.low <= n <= self.high),
        }
        return factor * f[self.shape]


class Overlong(Reward):
    """Soft overlong punishment (Yu et al. 2025, DAPO, eq. 13), of right and wrong answers alike.

    With n the tokens of the role's longest reply: 0 up to limit - buffer, (limit - buffer - n) /
    buffer up to limit, -1 beyond.

    Args:
        limit: L_max, tokens: at most the token budget of one reply.
        buffer: L_cache, tokens.
    """

    def __init__(self, limit: int, buffer: int, **common: Any) -> None:
        super().__init__(**common)
        if not 0 < buffer <= limit:
            raise ValueError(
                f"Overlong needs 0 < buffer <= limit, got buffer {buffer} and limit {limit}"
            )
        self.limit, self.buffer = limit, buffer

    def __call__(self, graded: GradedTrace) -> float:
        n = max((reply.tokens for reply in replies_of(graded.trace, self.role)), default=0)
        return min(0.0, max(-1.0, (self.limit - self.buffer - n) / self.buffer))


def _length(reply: Reply, unit: Unit) -> int:
    if unit == "thinking":
        return len(as_think(reply.text).partition("<think>")[2].partition("</think>")[0])
    return reply.tokens if unit == "tokens" else len(reply.text)


def has_layout(layout: Layout, replies: list[Reply]) -> bool:
    text = replies[-1].text if replies else ""
    if layout == "boxed":
        return extract(text).method == "box"
    pieces = _TAGS.split(as_think(text).strip())
    between = "".join(pieces[::4]).strip()
    return pieces[1::2] == ["<think>", "</think>", "<answer>", "</answer>"] and not between
