"""Several samples, one of which a selector chooses after reading all of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.agents.base import Agent, parallel
from slm_math.agents.majority_vote import elect
from slm_math.agents.replies import is_usable, stated_answer, why_unusable
from slm_math.answers import classes
from slm_math.answers.thoughts import as_think
from slm_math.prompts import Prompt
from slm_math.shortening import shortened
from slm_math.types import Generate, Note, Problem, Workflow

# a number by itself; every repetition is bounded or the last, so that no text takes long
_OPEN = r"[\s*_`(\[{<$#\"']{0,8}"
_NUMBER = re.compile(
    rf"{_OPEN}(?:\\boxed{_OPEN})?(?:(?:solution|candidate|number)\b{_OPEN})?"
    r"([1-9][0-9]{0,3})(?![0-9])[\s*_`)\]}>$.!\"']*",
    re.IGNORECASE,
)
_MARK = re.compile(r"\bCHOICE\b[\s*_`]{0,8}[:=]", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A solution that states an answer."""

    text: str
    answer: str


@dataclass(frozen=True)
class Selector(Agent):
    """Samples `k` solutions; a selector reads all of them and chooses one (generative selection:
    GenSelect, Moshkov et al. 2025).

    Solutions without an answer are left out. Equal answers are not merged: that several solutions
    agree is evidence that the selector may use. The order depends on the problem and on all
    solutions, like a shuffle, so no place is better than another. Without a choice (see
    `choice_of`) the majority's answer is final, and where all solutions agree the selector is not
    asked.

    Args:
        k: number of solutions.
        temperature: of the solutions.
        top_p: of the solutions.
        select_prompt: shows the numbered solutions.
        show: the most characters of a solution that the selector sees. If a solution is longer, the
            selector sees its beginning and its end; in a reply with thoughts it sees what follows
            them. k times as
            much has to fit into the selector's context; where it does not, there is no choice.
    """

    roles = ("solver", "selector")
    minimums = {"k": 2, "show": 100}

    k: int = 4
    prompt: Prompt = Prompt("solve", "problem")
    temperature: float = 0.7
    top_p: float = 0.95
    select_prompt: Prompt = Prompt("select", "problem candidates")
    show: int = 2000

    def solve(self, problem: Problem) -> Workflow[str | None]:
        sampled = yield from parallel([self.candidate(problem) for _ in range(self.k)])
        candidates = [each for each in sampled if each is not None]
        answers = [each.answer for each in candidates]
        majority, _ = elect([(answer, 1.0) for answer in answers], problem)
        if len(classes(answers, problem.answer_type, problem.choices)) < 2:
            yield [Note("stop", "agreed" if answers else "no candidate")]
            return majority
        candidates = shuffled(candidates, problem)
        number = yield from self.ask_selector(problem, candidates)
        answer = None if number is None else candidates[number - 1].answer
        yield [Note("choice", answer, value=number, role="selector")]
        return majority if answer is None else answer

    def candidate(self, problem: Problem) -> Workflow[Candidate | None]:
        """A solution; None if it states no answer."""
        chat = problem.ask(self.prompt)
        [reply] = yield [Generate(chat, temperature=self.temperature, top_p=self.top_p)]
        answer = stated_answer(reply.text, problem.answer_type)
        if (yield from is_usable(reply)):
            yield [Note("candidate", answer)]
        return None if answer is None else Candidate(reply.text, answer)

    def ask_selector(
        self, problem: Problem, candidates: Sequence[Candidate]
    ) -> Workflow[int | None]:
        """The number that the selector chose, from 1; None for no choice. A reply that hit the
        length limit chooses nothing: its number may be the beginning of another.
        """
        chat = problem.ask(self.select_prompt, candidates=listed(candidates, self.show))
        [reply] = yield [Generate(chat, role="selector")]
        if reply.finish == "stop" and reply.text.strip():
            return choice_of(reply.text, len(candidates))
        reason = why_unusable(reply, lambda text: False)
        yield [Note("lost", reason, role="selector")]
        return None


def shuffled(candidates: Sequence[Candidate], problem: Problem) -> list[Candidate]:
    """The candidates in an order that the problem and all of them decide: the same in every run,
    and for sampled solutions as good as random.
    """
    order = sorted(candidates, key=lambda each: each.text)
    random.Random("\0".join([problem.id, *(each.text for each in order)])).shuffle(order)
    return order


def listed(candidates: Sequence[Candidate], show: int) -> str:
    """The candidates as numbered solutions of at most `show` characters each."""
    return "\n\n".join(
        f"Solution {number}:\n{shortened(without_thoughts(each.text), show)}"
        for number, each in enumerate(candidates, 1)
    )


def without_thoughts(text: str) -> str:
    """What a reply says after its thoughts; all of it if nothing follows them."""
    return as_think(text).rpartition("</think>")[2].strip() or text.strip()


def choice_of(text: str, count: int) -> int | None:
    """The number of a solution, 1 to `count`, that a selector's reply chooses; None in doubt.

    It is the number after the last "CHOICE:", with nothing behind it, or that of a reply that is
    nothing but a number. Several marks on one line, several numbers, a hedge ("2?", "2 or 3") or a
    number out of range are no choice.
    """
    plain = without_thoughts(text)
    marks = list(_MARK.finditer(plain))
    if len(marks) > 1 and "\n" not in plain[marks[-2].end() : marks[-1].start()]:
        return None
    stated = _NUMBER.fullmatch(plain[marks[-1].end() :] if marks else plain)
    number = int(stated[1]) if stated else 0
    return number if 1 <= number <= count else None
