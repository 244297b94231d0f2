"""A solver whose accuracy on each problem is known, to test what is measured of solvers.

    from slm_math.engines.planted import PlantedSolver

    solver = PlantedSolver(tasks, accuracy=0.6, concentration=2.0)
    solver.probability("p/1"), solver.is_right("p/1", sample=0)

It is an engine: agents, grader, records, comparisons and training see its replies as those of a
model, and must find what was planted. `PlantedPair` also plays a verifier, whose worth is known.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from slm_math.agents.solver_verifier import NOT_CHECKED
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.ranges import check_number
from slm_math.types import Reply, Task

WRONG = (1, 1, 2, 3)  # what is added to a number for a wrong answer; one of them is the likeliest


class PlantedSolver(Engine):
    """Answers each sample of a problem rightly with a probability of the problem's own.

    Args:
        tasks: the problems that it may be asked, whose reference answers are whole numbers.
        accuracy: the mean of the probabilities.
        concentration: a + b of the beta distribution of the probabilities; a large number makes all
            alike, a small one makes problems nearly always or nearly never solved.
        seed: of the probabilities; solvers with one seed find the same problems hard.
        run: of the luck of samples.
        alike: the share of the samples in which luck is that of all runs, so that a solver of the
            same accuracy gives the same answer.
    """

    name = "the planted solver"

    def __init__(
        self,
        tasks: Sequence[Task],
        accuracy: float,
        concentration: float = 2.0,
        seed: int = 0,
        run: int = 0,
        alike: float = 0.0,
    ) -> None:
        check_number("accuracy", accuracy, above=0, below=1)
        check_number("concentration", concentration, above=0)
        check_number("alike", alike, low=0, high=1)
        self.golds = {task.problem.id: int(task.gold) for task in tasks}
        self.accuracy, self.concentration, self.seed = accuracy, concentration, seed
        self.run, self.alike = run, alike
        self._tickets = 0
        self._open: dict[int, Request] = {}

    def probability(self, problem: str) -> float:
        """That a sample of this problem is right."""
        draw = random.Random(f"{self.seed} {problem}")
        a, b = self.accuracy * self.concentration, (1 - self.accuracy) * self.concentration
        return draw.betavariate(a, b)

    def is_right(self, problem: str, sample: int, turn: int = 1) -> bool:
        """Whether the sample's reply of this number, from 1, is right."""
        return self._luck(problem, sample, turn).random() < self.probability(problem)

    def _luck(self, problem: str, sample: int, turn: int) -> random.Random:
        shared = random.Random(f"all runs {problem} {sample} {turn}")
        if shared.random() < self.alike:
            return shared
        return random.Random(f"run {self.run} {problem} {sample} {turn}")

    def answer(self, problem: str, sample: int, turn: int = 1) -> str:
        """What the reply answers."""
        luck, gold = self._luck(problem, sample, turn), self.golds[problem]
        right = luck.random() < self.probability(problem)
        return str(gold if right else gold + luck.choice(WRONG))

    # the interface of an engine

    def identity(self) -> dict[str, Any]:
        planted = ("accuracy", "concentration", "seed", "run", "alike")
        return super().identity() | {name: getattr(self, name) for name in planted}

    def submit(self, request: Request) -> int:
        self._tickets += 1
        self._open[self._tickets] = request
        return self._tickets

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        done, self._open = self._open, {}
        return [(ticket, self._reply(request)) for ticket, request in done.items()]

    def _reply(self, request: Request) -> Reply:
        problem, sample, *_, turn = request.key[2:]
        answer = self.answer(str(problem), int(sample), int(turn))
        text = f"So it is \\boxed{{{answer}}}."
        return Reply(text, counted=len(text.split()))

    def cancel(self, ticket: int) -> None:
        self._open.pop(ticket, None)

    @property
    def busy(self) -> int:
        return len(self._open)


class PlantedPair(PlantedSolver):
    """A solver and its verifier in `SolverVerifier(rounds=2, runs=0)`, whose worth is known.

    Args:
        tasks: the problems, whose reference answers are whole numbers.
        accuracy: the probability that a first draft is right.
        recognizes: the probabilities of CORRECT for a right draft, and of INCORRECT for a wrong
            one.
        repaired: the probabilities that a draft after a critique is right: one that says what is
            wrong, and one that says nothing.
        run: of the luck of all draws.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        accuracy: float,
        recognizes: tuple[float, float],
        repaired: tuple[float, float],
        run: int = 0,
    ) -> None:
        super().__init__(tasks, accuracy, run=run)
        for name, pair in (("recognizes", recognizes), ("repaired", repaired)):
            for value in pair:
                check_number(name, value, low=0, high=1)
        self.recognizes, self.repaired = recognizes, repaired

    @property
    def ends_right(self) -> tuple[float, float]:
        """The accuracy with the verifier, and where its first reply is left out."""
        p, (right, wrong), (told, untold) = self.accuracy, self.recognizes, self.repaired
        return p * right + p * (1 - right) * told + (1 - p) * wrong * told, untold

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"recognizes": self.recognizes, "repaired": self.repaired}

    def _reply(self, request: Request) -> Reply:
        luck = random.Random(f"run {self.run} {request.key}")
        gold, last = self.golds[str(request.key[2])], request.chat[-1].text
        if request.role == "verifier":
            is_right = f"\\boxed{{{gold}}}" in last
            sees = luck.random() < self.recognizes[0 if is_right else 1]
            verdict = "CORRECT" if sees == is_right else "INCORRECT"
            text = f"I looked at it.\nVERDICT: {verdict}"
        else:
            chance = self.accuracy
            if len(request.chat) > 1:
                chance = self.repaired[1 if NOT_CHECKED in last else 0]
            number = gold if luck.random() < chance else gold + luck.choice(WRONG)
            text = f"So it is \\boxed{{{number}}}."
        return Reply(text, counted=len(text.split()))
