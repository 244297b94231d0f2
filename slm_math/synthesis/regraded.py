"""Perturbed drafts, graded again: only one whose answer has become wrong is a wrong draft.

A perturbation can leave the answer right (the mistake is in a step that nothing follows from, or a
unit is another way to say the same). Such a draft has a visible mistake and a right answer, so that
either label would teach something false: it is dropped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from slm_math.answers import UNDECIDED, extract
from slm_math.answers.grade import grade_answer
from slm_math.data.attempts import Attempt
from slm_math.synthesis.built import order
from slm_math.synthesis.perturb import perturbed
from slm_math.types import Draft

TRIES = 8  # perturbations of one draft and kind, until the answer of one is wrong


@dataclass(frozen=True)
class Outcome:
    """A draft with a wrong answer; None if there is none. `still_right` counts the perturbations
    whose answer was right.
    """

    draft: Draft | None = None
    still_right: int = 0


def perturbed_answer(attempt: Attempt, draft: Draft, kind: str, seed: int) -> Outcome:
    """The first perturbation of a right draft whose answer, read from the text again, is wrong."""
    if _stated(draft.text, attempt) != draft.answer:  # the answer of a program, or of a vote
        return Outcome()
    rng = random.Random(order(seed, kind, attempt.problem.statement, draft.text))
    still_right = 0
    for _, text in zip(range(TRIES), perturbed(draft.text, kind, rng, attempt.problem.statement)):
        answer = _stated(text, attempt)
        if answer is None:
            continue
        verdict = is_right(answer, attempt)
        if verdict is False:
            return Outcome(Draft(text, answer), still_right)
        still_right += verdict is True
    return Outcome(None, still_right)


def is_right(answer: str, attempt: Attempt) -> bool | None:
    """The verdict on another answer to the same problem; None if the grader cannot decide."""
    decision = grade_answer(answer, attempt.task)
    return None if decision.reason in UNDECIDED else decision.equal


def _stated(text: str, attempt: Attempt) -> str | None:
    stated = extract(text, answer_type=attempt.record.answer_type)
    return None if stated.hedged else stated.value
