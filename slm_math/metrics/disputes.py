"""Verdicts that a second grader does not share, and the accuracy as a range of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from slm_math.answers.second_opinion import Opinion

EXAMPLES = 10  # disputes that are shown


class Dispute(NamedTuple):
    """A sample whose answer the two graders do not agree on: its name, the answer, the reference,
    our verdict with its reason, and what the second grader reads.
    """

    place: str
    answer: str
    gold: str
    correct: bool
    reason: str
    opinion: Opinion


@dataclass
class Disputes:
    """Counts of a stream of verdicts.

    `accepted` are disputed samples that we take for correct, `rejected` those that the second
    grader takes for correct; of `silent` ones it has no opinion.
    """

    accepted: int = 0
    rejected: int = 0
    silent: int = 0
    asked: int = 0
    examples: list[Dispute] = field(default_factory=list)

    def add(self, dispute: Dispute) -> bool:
        """Counts a sample, and says whether it is disputed."""
        if dispute.opinion.correct is None:
            self.silent += 1
            return False
        self.asked += 1
        if dispute.opinion.correct == dispute.correct:
            return False
        self.accepted += dispute.correct
        self.rejected += not dispute.correct
        if len(self.examples) < EXAMPLES:
            self.examples.append(dispute)
        return True

    def bounds(self, correct: float, n: int) -> tuple[float, float]:
        """The accuracy if all disputed samples were wrong, and if all were right, of `n` samples of
        which `correct` are correct by our verdicts.
        """
        return (correct - self.accepted) / max(n, 1), (correct + self.rejected) / max(n, 1)

    def lines(self, correct: float, n: int) -> Iterator[str]:
        """The range, and the disputed answers with both readings, as plain lines."""
        low, high = self.bounds(correct, n)
        yield (
            f"second opinion (math-verify): accuracy {100 * low:.1f} to {100 * high:.1f} %; of "
            f"{self.asked} verdicts {self.accepted + self.rejected} are disputed ({self.accepted} "
            f"correct here, {self.rejected} there), no opinion on {self.silent}"
        )
        for each in self.examples:
            here = "correct" if each.correct else f"incorrect ({each.reason})"
            there = "correct" if each.opinion.correct else "incorrect"
            yield (
                f"  {each.place}: {each.answer} for {each.gold}: {here} here, {there} there, which "
                f"reads {each.opinion.answer} for {each.opinion.gold}"
            )
        if (more := self.accepted + self.rejected - len(self.examples)) > 0:
            yield f"  and {more} more"
