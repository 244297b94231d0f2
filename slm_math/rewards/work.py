"""Rewards of what happened before the answer: programs that ran, verdicts of a verifier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from slm_math.agents.judging import reviewed
from slm_math.answers import equivalent, extract
from slm_math.answers.graded import GradedTrace
from slm_math.answers.verdicts import verdict
from slm_math.rewards.base import Reward, replies_of
from slm_math.rewards.credits import Credit
from slm_math.rewards.turns import leads_to, usable
from slm_math.types import Note, Run, RunResult, Trace, Turn


class CodeRan(Reward):
    """Whether the role's last program ran without an error; 0 if no program ran. An error that a
    later program repaired costs nothing.

    Args:
        passed: score when it ran to its end.
        failed: score when it ended in an error or was stopped.
    """

    def __init__(self, passed: float = 0.0, failed: float = -0.2, **common: Any) -> None:
        super().__init__(**common)
        self.passed, self.failed = passed, failed

    def __call__(self, graded: GradedTrace) -> float:
        results = _results(graded.trace, self.role)
        return 0.0 if not results else self.passed if results[-1].ok else self.failed


class CodeAgrees(Reward):
    """Does what the role's last successful program printed agree with the boxed (or tagged) answer
    of its last reply?

    What counts is the value of the program's last expression, else its last printed line; 0 without
    either, or without a box. The reference answer plays no part.

    Args:
        agrees: score of an equivalent answer.
        differs: score of another one.
    """

    def __init__(self, agrees: float = 0.1, differs: float = -0.2, **common: Any) -> None:
        super().__init__(**common)
        self.agrees, self.differs = agrees, differs

    def __call__(self, graded: GradedTrace) -> float:
        ran = [result for result in _results(graded.trace, self.role) if result.ok]
        replies = replies_of(graded.trace, self.role)
        boxed = extract(replies[-1].text) if replies else None
        lines = f"{ran[-1].stdout}\n{ran[-1].value}".split("\n") if ran else []
        printed = next((line.strip() for line in reversed(lines) if line.strip()), None)
        if (
            printed is None
            or boxed is None
            or boxed.value is None
            or boxed.method not in ("box", "tag")
        ):
            return 0.0
        problem = graded.task.problem
        same = equivalent(
            extract(printed).value or printed,
            boxed.value,
            answer_type=problem.answer_type,
            choices=problem.choices,
            tolerance=graded.task.tolerance,
        )
        return self.agrees if same else self.differs


class VerifierDecision(Reward):
    """Is the verifier's verdict on an answer that of the grader? Over several rounds, the mean over
    the verdicts, and where these scored differently, credit for each: a positive advantage goes to
    the usable turns that led to a verdict of the highest score, a negative one to those that led to
    one of the lowest.

    Verdicts and the answers that they are about are those that the agent noted; of an agent that
    notes none, a verdict is about the answer in the last reply of another role, and a reply whose
    program was run next is none yet. None when the verifier decided nothing.

    Args:
        right: score of CORRECT for a right answer, and of INCORRECT for any other.
        wrong: score of the opposite.
        unclear: score of UNCLEAR, which a reply without a verdict is, too.
    """

    def __init__(
        self,
        right: float = 1.0,
        wrong: float = -1.0,
        unclear: float = -0.3,
        role: str = "verifier",
        **common: Any,
    ) -> None:
        super().__init__(role=role, **common)
        self.right, self.wrong, self.unclear = right, wrong, unclear

    def __call__(self, graded: GradedTrace) -> float | Credit | None:
        verdicts = list(_verdicts(graded.trace, self.role))
        correct = {answer: graded.decide(answer).equal for answer in {each[2] for each in verdicts}}
        scores = {at: self._score(said, correct[answer]) for at, said, answer in verdicts}
        if not scores:
            return None
        mean = math.fsum(scores.values()) / len(scores)
        best, worst = max(scores.values()), min(scores.values())
        if best == worst or any(note.branch for note in graded.trace.notes):
            return mean
        ends = sorted({*scores, *_borders(graded.trace, self.role)})
        led = leads_to(graded.trace, self.role, ends)
        earned = [None if end is None else scores.get(ends[end]) for end in led]
        good = zip(earned, usable(graded.trace, self.role))
        return Credit(
            mean,
            turns=tuple(float(score == best and ok) for score, ok in good),
            blame=tuple(float(score == worst) for score in earned),
        )

    def _score(self, opinion: str, correct: bool) -> float:
        if opinion == "UNCLEAR":
            return self.unclear
        return self.right if (opinion == "CORRECT") == correct else self.wrong


class VerifierApproval(Reward):
    """What the verifier's last verdict means for the solver; 0 when there was none.

    Args:
        correct: score after CORRECT.
        incorrect: score after INCORRECT.
        unclear: score after UNCLEAR.
        verifier: the role that decides.
    """

    def __init__(
        self,
        correct: float = 0.3,
        incorrect: float = -0.1,
        unclear: float = 0.0,
        verifier: str = "verifier",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.scores = {"CORRECT": correct, "INCORRECT": incorrect, "UNCLEAR": unclear}
        self.verifier = verifier

    def __call__(self, graded: GradedTrace) -> float:
        opinions = [opinion for _, opinion, _ in _verdicts(graded.trace, self.verifier)]
        return self.scores[opinions[-1]] if opinions else 0.0


def _results(trace: Trace, role: str) -> list[RunResult]:
    """What the programs of a role did: those that ran after its turn and before the next."""
    results, speaker = [], ""
    for event in trace.events:
        if isinstance(event, Turn):
            speaker = event.request.role
        elif isinstance(event, Run) and speaker == role:
            results.append(event.result)
    return results


def _verdicts(trace: Trace, role: str) -> Iterator[tuple[int, str, str]]:
    """(place among the events, verdict, the verified answer), in order: from the agent's notes, or
    without notes from its turns.
    """
    noted = [
        (at, note)
        for at, note in enumerate(trace.events)
        if isinstance(note, Note) and (note.kind != "verdict" or note.role == role)
    ]
    if noted:  # an agent that notes anything notes its verdicts
        pairs = reviewed((note.kind, note.branch, (at, note)) for at, note in noted)
        for (_, draft), (at, decision) in pairs:
            if draft.text is not None and decision.text is not None:
                yield at, decision.text, draft.text
        return
    answer = None
    events = [(at, event) for at, event in enumerate(trace.events) if not isinstance(event, Note)]
    for (at, event), (_, after) in zip(events, (*events[1:], (0, None))):
        if isinstance(event, Run):
            continue
        if event.request.role != role:
            answer = extract(event.reply.text).value
        elif answer is not None and not isinstance(after, Run):
            yield at, verdict(event.reply.text), answer


def _borders(trace: Trace, role: str) -> Iterator[int]:
    """The places of what is judged: a turn before one leads to no verdict after it."""
    for at, event in enumerate(trace.events):
        if isinstance(event, Turn):
            if event.request.role != role and not trace.notes:
                yield at
        elif isinstance(event, Note) and event.kind in ("draft", "candidate"):
            yield at
