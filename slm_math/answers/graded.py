"""A trace with its grades: each answer in it is graded once, for rewards, records and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slm_math.answers.equivalence import Decision
from slm_math.answers.grade import judge
from slm_math.types import Task, Trace


@dataclass(frozen=True)
class GradedTrace:
    """A task, what an agent did with it, and the decision on every answer in it.

    `decision` is that on the agent's answer. `decisions` has those on the answer and on all drafts
    and candidates that the agent noted, by their text.
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
        """The decision on an answer; one that the agent noted is not graded again."""
        decision = self.decisions.get(answer)
        return judge(answer, self.task) if decision is None else decision


def grade_trace(task: Task, trace: Trace) -> GradedTrace:
    """Grades the answer of a trace and its drafts and candidates, equal texts once."""
    drafts = (note.text for note in trace.notes if note.kind in ("draft", "candidate"))
    decisions = {answer: judge(answer, task) for answer in dict.fromkeys((trace.answer, *drafts))}
    return GradedTrace(task, trace, decisions[trace.answer], decisions)
