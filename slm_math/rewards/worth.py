"""A reward whose credit is what each turn was worth, found by sampling how else it may go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slm_math.agents.base import Agent, parallel
from slm_math.agents.replaying import Place, rerun
from slm_math.answers.graded import GradedTrace
from slm_math.ranges import check_whole
from slm_math.rewards.base import Reward, Scored
from slm_math.rewards.credits import Credit
from slm_math.types import Effect, Generate, RunPython, Trace, Turn, Workflow


class TurnWorth(Reward):
    """Is the agent's answer right? The credit is the worth of each turn: how often the answer is
    right in continuations that are sampled after it, less in those that are sampled before it.

    With V_j the share of right answers over `draws` continuations from the first j replies of a
    trace (V of all replies is its own outcome), turn j is worth V_j - V_(j-1), as in VinePPO
    (Kazemnejad et al. 2024, arXiv:2410.01679). A positive advantage goes to turns of
    positive worth, a negative one to turns of negative worth, in proportion; what it sums to stays
    as it is. It takes up to 2 x draws workflows for every turn of the role.

    Args:
        agent: the agent that is trained, with the same settings.
        draws: continuations from each state.
    """

    def __init__(self, agent: Agent, draws: int = 4, **common: Any) -> None:
        super().__init__(**common)
        check_whole("TurnWorth.draws", draws)
        self.agent, self.draws = agent, draws
        self.roles = tuple(agent.roles)
        self.uses_python = agent.uses_python

    def __call__(self, graded: GradedTrace) -> Workflow[Scored]:
        turns = graded.trace.turns
        own = [n for n, turn in enumerate(turns) if turn.request.role == self.role]
        states = sorted({state for n in own for state in (n, n + 1)} - {len(turns)})
        values = yield from self.values(graded, states)
        values[len(turns)] = float(graded.correct)
        worth = [values[n + 1] - values[n] for n in own]
        earned = tuple(max(each, 0.0) for each in worth)
        return Credit(float(graded.correct), earned, blame=tuple(max(-each, 0.0) for each in worth))

    def values(self, graded: GradedTrace, states: list[int]) -> Workflow[dict[int, float]]:
        """The share of right answers over continuations from the first replies of a trace, for
        each number of them in `states`.
        """
        trace = graded.trace
        continuations = [
            rerun(self.agent.solve(trace.problem), _Known(trace, state).answer)
            for state in states
            for _ in range(self.draws)
        ]
        answers = (yield from parallel(continuations)) if continuations else []
        right = [graded.decide(answer).equal for answer in answers]
        return {
            state: sum(right[place * self.draws : (place + 1) * self.draws]) / self.draws
            for place, state in enumerate(states)
        }


class _Known:
    """The first replies of a trace and the outputs of its programs, as answers of requests."""

    def __init__(self, trace: Trace, replies: int) -> None:
        self.replies = dict(list(_numbered(trace))[:replies])
        self.programs = {(run.code, run.earlier): run.result for run in trace.runs}

    def answer(self, effect: Effect, place: Place) -> Any:
        if isinstance(effect, RunPython):
            return self.programs.get((effect.code, effect.earlier), effect)
        assert isinstance(effect, Generate)
        turn = self.replies.get(place)
        if turn is None:
            return effect
        if (turn.request.role, turn.request.chat) != (effect.role, effect.chat):
            raise ValueError(
                "TurnWorth's agent asks for something else than the agent that is trained: give "
                "both the same class and settings"
            )
        return turn.reply


def _numbered(trace: Trace) -> Iterator[tuple[Place, Turn]]:
    """The turns of a trace by the places of their requests."""
    numbers: dict[int, int] = {}
    for turn in trace.turns:
        attempt = turn.request.attempt
        numbers[attempt] = numbers.get(attempt, 0) + 1
        yield (attempt, numbers[attempt]), turn
