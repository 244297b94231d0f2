"""Verdicts that a second grader does not share, and the accuracy as a range of both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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

    A sample is disputed if the second grader does not agree about the answer, or about the reply,
    in which it looks for the answer itself.

    `accepted` are disputed samples that we take for correct, `rejected` those that the second
    grader takes for correct; on `silent` ones it has no opinion.
    """

    accepted: int = 0
    rejected: int = 0
    silent: int = 0
    asked: int = 0
    examples: list[Dispute] = field(default_factory=list)

    def add(self, dispute: Dispute) -> bool:
        """Counts a sample, and says whether it is disputed."""
        if not dispute.opinion.verdicts:
            self.silent += 1
            return False
        self.asked += 1
        if all(one == dispute.correct for one in dispute.opinion.verdicts):
            return False
        self.accepted += dispute.correct
        self.rejected += not dispute.correct
        if len(self.examples) < EXAMPLES:
            self.examples.append(dispute)
        return True

    def lines(self, bounds: tuple[float, float], n: int) -> Iterator[str]:
        """The range `bounds` of the accuracy of `n` samples, what it leaves out, and the disputed
        answers with all readings, as plain lines.
        """
        low, high = bounds
        yield (
            f"second opinion (math-verify): accuracy {100 * low:.1f} % if every disputed verdict "
            f"is wrong, {100 * high:.1f} % if every one is right; of {self.asked} verdicts "
            f"{self.accepted + self.rejected} are disputed ({self.accepted} correct here, "
            f"{self.rejected} there), no opinion on {self.silent}"
        )
        yield (
            "  this range is not a confidence interval: it leaves out the sampling error of "
            f"n = {n}, what both graders get wrong, and samples without an opinion, which count as "
            "they do here"
        )
        yield from map(_line, self.examples)
        if (more := self.accepted + self.rejected - len(self.examples)) > 0:
            yield f"  and {more} more"


def range_of(problems: Iterable[tuple[int, int, int, int, int]]) -> tuple[float, float]:
    """The accuracy, a mean over problems, if every disputed verdict is wrong, and if every one is
    right, given for problems how many samples they have, how many of these are correct, how many
    correct and how many incorrect ones are disputed, and how many such problems there are.
    """
    known = list(problems)
    n = max(sum(one[-1] for one in known), 1)
    low = math.fsum(times * (right - taken) / size for size, right, taken, _, times in known)
    high = math.fsum(times * (right + left) / size for size, right, _, left, times in known)
    return low / n, high / n


def _line(dispute: Dispute) -> str:
    here = "correct" if dispute.correct else f"incorrect ({dispute.reason})"
    opinion = dispute.opinion
    there = [
        f"{'correct' if right else 'incorrect'} there, which {does} {reading} for {opinion.gold}"
        for right, does, reading in (
            (opinion.correct, "reads", opinion.answer),
            (opinion.reply_correct, "finds in the reply", opinion.found),
        )
        if right is not None
    ]
    answer = dispute.answer or "no answer"
    return f"  {dispute.place}: {answer} for {dispute.gold}: {here} here; {'; '.join(there)}"
