"""Which turns of a role led to which draft or verdict, and which of them decided the answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from slm_math.answers.graded import GradedTrace
from slm_math.rewards.credits import Credit
from slm_math.types import Note, Trace, Turn


def leads_to(trace: Trace, role: str, ends: Sequence[int]) -> list[int | None]:
    """For every turn of a role the number of the first end that comes with it or after it, None
    where none comes.

    Args:
        ends: places in `trace.events`, in order.
    """
    places = [bisect_left(ends, at) for at, _ in _turns(trace, role)]
    return [place if place < len(ends) else None for place in places]


def usable(trace: Trace, role: str) -> list[bool]:
    """For every turn of a role whether the agent could use the reply: it noted none as lost."""
    lost = {
        at - 1
        for at, event in enumerate(trace.events)
        if isinstance(event, Note) and event.kind == "lost"
    }
    return [at not in lost for at, _ in _turns(trace, role)]


def of_the_change(graded: GradedTrace, role: str, score: float, right: bool) -> float | Credit:
    """A score of the answer, with credit for the turns that led to the draft that made the answer
    right or wrong.

    With c_k whether the answer was right after draft k (a draft without an answer leaves the one
    before in place), and a last c of the agent's answer, that is the last draft whose c_k is not
    that of the one before. If all are right, it is the first one. If none is right, there is no
    such draft, and no turn is preferred.

    A positive advantage of a right answer goes to the usable turns of the role that led to this
    draft, a negative one of a wrong answer to all of these turns; the opposite cases come from
    other rewards, and are distributed evenly. So are those of agents that note no draft, or whose
    drafts stand side by side.

    Args:
        score: of the trace.
        right: whether the reward counts the answer as right.
    """
    trace = graded.trace
    states: list[bool] = []
    ends: list[int] = []
    for at, event in enumerate(trace.events):
        if isinstance(event, Note) and event.kind == "draft":
            if event.branch:
                return score
            stays = event.text is None and states
            states.append(states[-1] if stays else graded.decide(event.text).equal)
            ends.append(at)
    if not ends:
        return score
    states.append(right)
    ends.append(len(trace.events))
    changes = [k for k in range(1, len(states)) if states[k] != states[k - 1]]
    if not changes and not right:
        return score
    decisive = changes[-1] if changes else 0
    led = [draft == decisive for draft in leads_to(trace, role, ends)]
    nobody = (0.0,) * len(led)
    if right:
        earned = tuple(map(float, (one and ok for one, ok in zip(led, usable(trace, role)))))
        return Credit(score, earned, blame=nobody)
    return Credit(score, nobody, blame=tuple(map(float, led)))


def _turns(trace: Trace, role: str) -> list[tuple[int, Turn]]:
    """The turns of a role, and their places in `trace.events`."""
    return [
        (at, event)
        for at, event in enumerate(trace.events)
        if isinstance(event, Turn) and event.request.role == role
    ]
