"""Rewards of what came of a first attempt: it was right, it was improved, it was chosen."""

from __future__ import annotations

from typing import Any

from slm_math.answers.graded import GradedTrace
from slm_math.rewards.base import Reward, answer_of, replies_of
from slm_math.rewards.credits import Credit
from slm_math.types import Note, Turn


class FirstAttempt(Reward):
    """Is the first draft right? The turns up to it get the credit.

    Args:
        right: score of a right draft.
        wrong: score of any other, and of none.
    """

    def __init__(self, right: float = 1.0, wrong: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        self.right, self.wrong = right, wrong

    def __call__(self, graded: GradedTrace) -> Credit:
        before, draft = first_draft(graded, self.role)
        right = draft is not None and graded.decide(draft.text).equal
        after = len(replies_of(graded.trace, self.role)) - before
        return Credit(self.right if right else self.wrong, (*[1.0] * before, *[0.0] * after))


class LastAttempt(Reward):
    """Is the agent's answer right? The turns after the first draft get the credit; all turns
    where there is no draft.

    Args:
        right: score of a right answer.
        wrong: score of any other, and of none.
        finish: when True, an answer counts only if the role's last reply ended by itself, as in
            `Correct`.
    """

    def __init__(
        self, right: float = 1.0, wrong: float = 0.0, finish: bool = True, **common: Any
    ) -> None:
        super().__init__(**common)
        self.right, self.wrong, self.finish = right, wrong, finish

    def __call__(self, graded: GradedTrace) -> Credit:
        last = last_is_right(graded, self.role, self.finish)
        return Credit(self.right if last else self.wrong, later_turns(graded, self.role))


class Improvement(Reward):
    """What the later attempts made of the first: r(answer) - r(first draft), with r = 1 for right
    and 0 for wrong; 1, 0 or -1. The turns after the first draft get the credit.

    With `weight` alpha it is the bonus alpha * (r(second) - r(first)) of Kumar et al. 2024 (SCoRe,
    stage II), who recommend alpha above 1. For the turns after the first draft, -r(first) is a
    baseline that they cannot change; credit to the first attempt would pay for a wrong one. 0
    without a draft.

    Args:
        finish: when True, an answer counts only if the role's last reply ended by itself, as in
            `Correct`.
    """

    def __init__(self, finish: bool = True, **common: Any) -> None:
        super().__init__(**common)
        self.finish = finish

    def __call__(self, graded: GradedTrace) -> Credit:
        _, draft = first_draft(graded, self.role)
        credit = later_turns(graded, self.role)
        if draft is None:
            return Credit(0.0, credit)
        last = last_is_right(graded, self.role, self.finish)
        return Credit(float(last) - float(graded.decide(draft.text).equal), credit)


class SelectorChoice(Reward):
    """Did the role choose a right candidate? None where the candidates are all right or all wrong:
    then the choice makes no difference.

    `Correct` is no substitute: without a choice the agent falls back to the majority's answer, and
    a selector that chooses nothing would be paid for it.

    Args:
        right: score of a right candidate.
        wrong: score of a wrong one.
        missing: score when the role chose none.
    """

    def __init__(
        self,
        right: float = 1.0,
        wrong: float = 0.0,
        missing: float = 0.0,
        role: str = "selector",
        **common: Any,
    ) -> None:
        super().__init__(role=role, **common)
        self.right, self.wrong, self.missing = right, wrong, missing

    def __call__(self, graded: GradedTrace) -> float | None:
        notes = graded.trace.notes
        candidates = [note.text for note in notes if note.kind == "candidate"]
        if len({graded.decide(text).equal for text in candidates if text is not None}) < 2:
            return None
        choices = [note for note in notes if note.kind == "choice" and note.role == self.role]
        if not choices:
            return None
        if choices[-1].text is None:
            return self.missing
        return self.right if graded.decide(choices[-1].text).equal else self.wrong


def last_is_right(graded: GradedTrace, role: str, finish: bool) -> bool:
    """Whether the agent's answer is right, if it counts (see `answer_of`)."""
    return answer_of(graded, role, finish) is not None and graded.correct


def later_turns(graded: GradedTrace, role: str) -> tuple[float, ...]:
    """Weights of a role's turns: 1 after the first draft, 0 up to it."""
    before, _ = first_draft(graded, role)
    return (*[0.0] * before, *[1.0] * (len(replies_of(graded.trace, role)) - before))


def first_draft(graded: GradedTrace, role: str) -> tuple[int, Note | None]:
    """The number of turns of a role up to the first draft of the workflow, and the draft; all of
    them, and None, without one. Drafts of workflows that run side by side are no attempts.
    """
    turns = 0
    for event in graded.trace.events:
        if isinstance(event, Turn):
            turns += event.request.role == role
        elif isinstance(event, Note) and event.kind == "draft" and not event.branch:
            return turns, event
    return turns, None
