"""A graded trace: each answer in it is graded once, for rewards, records and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slm_math.answers.equivalence import Decision
from slm_math.answers.grade import grade_answer
from slm_math.types import Task, Trace


@dataclass(frozen=True)
class GradedTrace:
    """A task, the trace of an agent that solved it, and the decisions on all answers in the trace.

    `decision` is the decision on the agent's answer. `decisions` maps the text of the answer, and
    of each draft and candidate that the agent noted, to its decision.
    """

    task: Task
    trace: Trace
    decision: Decision
    decisions: Mapping[str | None, Decision] = field(default_factory=dict)

    @property
    def correct(self) -> bool:
        """Whether the agent's answer is right."""
        return self.decision.equal

    def decide(self, answer: str | None) -> Decision:
        """The decision on an answer; answers in the trace are not graded again."""
        decision = self.decisions.get(answer)
        return grade_answer(answer, self.task) if decision is None else decision


def grade_trace(task: Task, trace: Trace) -> GradedTrace:
    """Grade the answer of a trace and its drafts and candidates; equal texts are graded once."""
    drafts = (note.text for note in trace.notes if note.kind in ("draft", "candidate"))
    answers = dict.fromkeys((trace.answer, *drafts))
    decisions = {answer: grade_answer(answer, task) for answer in answers}
    return GradedTrace(task, trace, decisions[trace.answer], decisions)
