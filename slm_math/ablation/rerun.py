"""One recorded workflow, run again with one turn changed: its prefix comes from the record, and so
does every later reply whose request is the recorded one; only the others are sampled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slm_math.agents import Agent
from slm_math.agents.replaying import Place, rerun
from slm_math.claims.regrade import reply_of
from slm_math.claims.replay import messages_of, recorded_messages
from slm_math.records.record import Record, TurnEvent
from slm_math.rollout.scheduler import event_of
from slm_math.types import (
    Effect,
    Generate,
    Note,
    Problem,
    Reply,
    Run,
    RunPython,
    RunResult,
    Turn,
    Workflow,
)

PROGRAM = "program"
ALL = "all"
_NAME = re.compile(r"(?P<role>\w[\w.-]*)(?::(?P<which>[1-9]\d*|all))?")


@dataclass(frozen=True)
class NamedTurn:
    """A turn of every workflow: the reply of this number of a role, or the program of this number;
    `which` None stands for all of them.
    """

    role: str
    which: int | None = 1

    @classmethod
    def of(cls, text: str) -> NamedTurn:
        """`verifier` (the first one), `verifier:2`, `verifier:all`, `program:1`. Raises ValueError
        for anything else.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(
                f"--turn {text!r}: name a role or program, and which of its turns: verifier, "
                "verifier:2, verifier:all, program:1"
            )
        which = match["which"] or "1"
        return cls(match["role"], None if which == ALL else int(which))

    @property
    def name(self) -> str:
        return f"{self.role}:{self.which or ALL}"

    @property
    def is_program(self) -> bool:
        return self.role == PROGRAM

    def count(self, record: Record) -> int:
        """How many turns of this name a workflow has; none that broke, which is left as it is."""
        own = record.runs if self.is_program else [t for t in record.turns if t.role == self.role]
        return 0 if record.error is not None else len(own)

    def reached(self, record: Record) -> bool:
        """Whether a workflow has this turn."""
        return self.count(record) >= (self.which or 1)


@dataclass
class Rerun:
    """A workflow of a record without a turn, or with the turn drawn again.

    Args:
        record: of the workflow.
        turn: which turn is changed.
        results: of the programs of the record.
        draw: None leaves the turn out: its reply is empty, also when the agent asks the same
            question again, and its program prints nothing. A number draws the reply again; each
            number is another draw.

    `events` are those of the workflow, with the recorded ones.
    """

    record: Record
    turn: NamedTurn
    results: Sequence[RunResult]
    draw: int | None = None
    events: list[Turn | Run | Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._replies: dict[Place, TurnEvent] = {}
        numbers: Counter[int] = Counter()
        for event in self.record.turns:
            numbers[event.attempt] += 1
            self._replies[event.attempt, numbers[event.attempt]] = event
        self._programs = {
            (run.code, run.earlier): result
            for run, result in zip(self.record.runs, self.results, strict=True)
        }
        self._seen = 0  # turns of this name so far
        self._emptied: list[Any] = []  # what was asked and got nothing
        self._repeated: Counter[int] = Counter()  # requests that ask it again, by try

    def workflow(self, agent: Agent, problem: Problem) -> Workflow[str | None]:
        """What the agent does."""
        return rerun(agent.solve(problem), self._answer, self._happened)

    def _answer(self, effect: Effect, place: Place) -> Any:
        if isinstance(effect, RunPython):
            if self._is_the_turn(PROGRAM):
                return RunResult(ok=True)
            return self._programs.get((effect.code, effect.earlier), effect)
        assert isinstance(effect, Generate)
        attempt, own = place
        place = attempt, own - self._repeated[attempt]
        number = place if attempt else place[1:]
        asked = (effect.role, messages_of(effect.chat))
        if self._is_the_turn(effect.role):
            if self.draw is not None:
                return replace(effect, draw=("drawn again", self.draw, *number))
            self._emptied.append(asked)
            return Reply("")
        event = self._replies.get(place)
        if event and (event.role, recorded_messages(event.prompt)) == asked:
            return reply_of(event)
        if asked in self._emptied:  # no later request gets another number for that
            self._repeated[attempt] += 1
            return Reply("")
        return replace(effect, draw=number)

    def _is_the_turn(self, role: str) -> bool:
        if role != self.turn.role:
            return False
        self._seen += 1
        return self.turn.which is None or self._seen == self.turn.which

    def _happened(self, effect: Effect, result: Any) -> None:
        self.events.append(event_of(effect, result))
