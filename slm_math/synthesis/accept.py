"""What makes a solution good enough to be kept. It may know the reference answer, so it stands
outside of agents.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

from slm_math.agents import Agent
from slm_math.agents.coding import program, program_answer
from slm_math.agents.replies import stated_answer
from slm_math.answers import classes
from slm_math.answers.grade import grade_answer
from slm_math.answers.graded import grade_trace
from slm_math.ranges import check_number, check_whole
from slm_math.rewards import Reward
from slm_math.rewards.base import check_names
from slm_math.rewards.scores import assembled, called
from slm_math.types import Reply, Run, Task, Trace, Workflow


@dataclass(frozen=True)
class Ruling:
    """What is decided after a try.

    Args:
        accepted: whether a solution is kept; there are no further tries then.
        reason: one or a few words on the newest try, such as "equal", "different", "truncated".
        printed: the value that the program of the solution printed, where it had to.
        score: its reward, or its share of the votes.
        chosen: which of the tries is kept; by default the newest.
    """

    accepted: bool
    reason: str
    printed: str | None = None
    score: float | None = None
    chosen: int = -1


Judged: TypeAlias = Ruling | Workflow[Ruling]


class Accept:
    """Decides whether a solution is kept. A subclass defines `accepts`, on one try, or `judge`, on
    all of a problem.

    `needs_gold`: problems need a reference answer. `roles` names the engines that it asks,
    `uses_python` whether it runs programs.
    """

    needs_gold: bool = True
    roles: tuple[str, ...] = ()
    uses_python: bool = False

    def check(self, agent: Agent, tries: int) -> None:
        """Raises ValueError if no solution of this agent could ever be kept in so many tries."""

    def judge(self, task: Task, traces: Sequence[Trace], tries: int) -> Judged:
        """The ruling after a try.

        Args:
            task: the problem, with its reference answer.
            traces: the agent's own traces of all tries so far, but those that an endpoint failed;
                the newest is the last one.
            tries: how many the plan has.
        """
        if is_truncated(traces[-1]):
            return Ruling(False, "truncated")
        return self.accepts(task, traces[-1])

    def accepts(self, task: Task, trace: Trace) -> Judged:
        """The ruling on one try whose last reply is whole."""
        raise NotImplementedError


def solution_reply(trace: Trace) -> Reply | None:
    """The last reply that states the answer of a trace, else the last reply; None without one."""
    replies = [turn.reply for turn in trace.turns]
    kind = trace.problem.answer_type
    stating = (r for r in reversed(replies) if stated_answer(r.text, kind) == trace.answer)
    return next(stating, replies[-1] if replies else None)


def is_truncated(trace: Trace) -> bool:
    """Whether the solution ends at the token limit: nobody should learn to write on and on."""
    reply = solution_reply(trace)
    return reply is not None and reply.finish == "length"


class Right(Accept):
    """The answer is right by the grader that evaluates and trains."""

    def accepts(self, task: Task, trace: Trace) -> Judged:
        decision = grade_answer(trace.answer, task)
        return Ruling(decision.equal, decision.reason)


class CodeVerified(Accept):
    """The answer is right, and the program of the solution prints it, too.

    If the agent runs programs, the last one that ran counts; otherwise the program of the reply
    that states the answer is run in the sandbox.
    """

    uses_python = True

    def accepts(self, task: Task, trace: Trace) -> Workflow[Ruling]:
        decision = grade_answer(trace.answer, task)
        if not decision.equal:
            return Ruling(False, decision.reason)
        if trace.runs:
            run = trace.runs[-1]
        else:
            reply = solution_reply(trace)
            request = program(reply.text) if reply is not None else None
            if request is None:
                return Ruling(False, "no program")
            [result] = yield [request]
            run = Run(request.code, result, request.earlier)
        printed = program_answer(run)
        if printed is None:
            return Ruling(False, run.result.error or "the program printed nothing")
        same = grade_answer(printed, replace(task, gold=cast(str, trace.answer))).equal
        if not (same and grade_answer(printed, task).equal):
            return Ruling(False, "the program printed another value", printed)
        return Ruling(True, decision.reason, printed)


class Above(Accept):
    """A reward is above a bound; it may ask a judge model.

    Args:
        reward: any reward of one of the agent's own roles, or a list of them, as training has
            them: their weighted sum counts.
        bound: the score must be greater.
    """

    def __init__(self, reward: Reward | list[Reward], bound: float) -> None:
        check_number("bound", bound)
        self.reward, self.bound = reward, bound
        self.roles = tuple(dict.fromkeys(role for each in self.rewards for role in each.roles))
        self.uses_python = any(each.uses_python for each in self.rewards)
        if not any(each.weight for each in self.rewards):
            raise ValueError("accept: no reward counts: name one whose weight is not 0")

    @property
    def rewards(self) -> list[Reward]:
        """The rewards, also if it is one alone."""
        return self.reward if isinstance(self.reward, list) else [self.reward]

    def check(self, agent: Agent, tries: int) -> None:
        for reward in self.rewards:
            if reward.role not in agent.roles:
                raise ValueError(
                    f"accept: the reward {type(reward).__name__} is for role {reward.role!r}; the "
                    f"roles of {type(agent).__name__} are {', '.join(agent.roles)}: set reward.role"
                )
        check_names(self.rewards)

    def accepts(self, task: Task, trace: Trace) -> Workflow[Ruling]:
        graded = grade_trace(task, trace)
        roles = list(dict.fromkeys(reward.role for reward in self.rewards))
        values = called(self.rewards, graded, roles)
        for key, value in values.items():
            if isinstance(value, Generator):
                values[key] = yield from value
        scores = assembled(self.rewards, graded, roles=roles, values=values, errors={})
        score = math.fsum(scores.totals.values())
        if math.isnan(score):
            return Ruling(False, "no score")
        return Ruling(score > self.bound, f"score {score:.4g}", score=score)


class Majority(Accept):
    """Where nobody knows the answer: that of most tries, if enough of them agree.

    All tries of the plan are sampled. The largest class of equivalent answers must be larger than
    any other, and the first solution of this class is kept.

    Args:
        share: the least share of all tries that states the answer; tries without an answer count.
        votes: the fewest tries that state it.
    """

    needs_gold = False

    def __init__(self, share: float = 0.5, votes: int = 2) -> None:
        check_number("share", share, above=0, high=1)
        check_whole("votes", votes)
        self.share, self.votes = share, votes

    def check(self, agent: Agent, tries: int) -> None:
        if tries < max(2, self.votes):
            raise ValueError(
                f"accept: Majority needs at least {max(2, self.votes)} tries in the plan, got "
                f"{tries}: answers of one try agree with themselves"
            )

    def judge(self, task: Task, traces: Sequence[Trace], tries: int) -> Judged:
        kind, choices = task.problem.answer_type, task.problem.choices
        voters = [
            index
            for index, trace in enumerate(traces)
            if trace.answer is not None and not is_truncated(trace)
        ]
        newest = "a vote" if len(traces) - 1 in voters else "no vote"
        if len(traces) < tries or not voters:
            return Ruling(False, newest)
        groups = classes([cast(str, traces[i].answer) for i in voters], kind, choices)
        first, *others = sorted(groups, key=len, reverse=True)
        share = len(first) / tries
        tied = bool(others) and len(others[0]) == len(first)
        accepted = share >= self.share and len(first) >= self.votes and not tied
        return Ruling(accepted, newest, score=share, chosen=voters[first[0]])
