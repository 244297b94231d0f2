"""An evaluation of a planted pair, for tests of ablations."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from slm_math.ablation.arms import Reruns
from slm_math.ablation.command import run_arms
from slm_math.ablation.rerun import NamedTurn
from slm_math.ablation.worth import Worth
from slm_math.agents import Agent, SolverVerifier
from slm_math.engines.base import Engine
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.evaluation.runs import FinishedEvaluation, read_finished
from slm_math.rollout.scheduler import Executors
from slm_math.types import Problem, RunPython, RunResult, Sampling, Task

SAMPLED = {"default": Sampling(1.0)}


def tasks(n: int) -> list[Task]:
    return [Task(Problem(f"p/{i}", f"What is {i} + 7?"), str(i + 7)) for i in range(n)]


class NoPrograms:
    """A sandbox that no program may reach."""

    def identity(self) -> dict[str, str]:
        return {}

    def submit(self, request: RunPython) -> int:
        raise AssertionError(f"{request} was not recorded")

    def poll(self, timeout: float = 0.0) -> list[tuple[int, RunResult]]:
        return []

    def cancel(self, ticket: int) -> None: ...

    @property
    def busy(self) -> int:
        return 0


def executors(engine: Engine, sandbox: object | None = None) -> Executors:
    return Executors({"default": engine}, SAMPLED, sandbox or NoPrograms())


def evaluated(
    folder: Path,
    engine: Engine,
    problems: int,
    agent: Agent = SolverVerifier(rounds=2, runs=0),
    samples: int = 1,
) -> FinishedEvaluation:
    plan = Plan(agent, tasks(problems), samples)
    evaluate(plan, executors(engine), Output(folder / "pair"))
    return read_finished("pair", folder / "pair")


def ablated(
    run: FinishedEvaluation,
    engine: Engine,
    turn: str = "verifier",
    draws: int = 0,
    agent: Agent = SolverVerifier(rounds=2, runs=0),
) -> dict[str, Worth]:
    reruns = Reruns.of(run, agent, NamedTurn.of(turn))
    folder = run.folder / "ablate" / turn.replace(":", "-")
    found, _ = run_arms(reruns, executors(engine), folder, draws, console=Console(quiet=True))
    return found
