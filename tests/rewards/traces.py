"""Small traces to score, and the rewards of the configurations."""

from pathlib import Path

import slm_math.rewards
from slm_math.answers import extract
from slm_math.answers.graded import grade_trace
from slm_math.config_files import load
from slm_math.rewards import (
    CodeAgrees,
    CodeRan,
    Correct,
    Format,
    Length,
    Parsable,
    Reward,
    VerifierApproval,
    VerifierDecision,
    score,
)
from slm_math.types import Generate, Problem, Reply, Run, RunResult, Task, Trace, Turn

CONFIGS = Path(__file__).parents[2] / "configs" / "rewards"
MATH = Task(Problem("p/1", "What is 3 + 4?"), "7")
MC = Task(Problem("p/2", "How long is it?", "mc", ("12 cm", "15 cm", "18 cm")), "B")
NUM = Task(Problem("p/3", "How long is it?", "num"), "3.14", tolerance=0.01)


def say(text: str, role: str = "solver", finish="stop", tokens: int = 0) -> Turn:
    return Turn(Generate((), role), Reply(text, finish=finish, counted=tokens))


def ran(stdout: str = "", value: str = "", error: str = "") -> Run:
    return Run("code", RunResult(not error, stdout, error, value=value))


def trace(*events: Turn | Run | str, error: str | None = None, task: Task = MATH) -> Trace:
    """A trace whose answer is that of the solver's last reply."""
    events = tuple(say(event) if isinstance(event, str) else event for event in events)
    said = [
        event.reply.text
        for event in events
        if isinstance(event, Turn) and event.request.role == "solver"
    ]
    return Trace(
        task.problem, 0, events, extract(said[-1]).value if said and not error else None, error
    )


def rewards(name: str, **weights: float) -> list[Reward]:
    """The rewards of a configuration; `weights` replaces some by the part's name."""
    config = load((CONFIGS / f"{name}.yaml").read_text())["model"]["rewards"]
    found = [
        getattr(slm_math.rewards, entry["class_path"])(**entry["init_args"]) for entry in config
    ]
    for reward in found:
        reward.weight = weights.get(reward.name, reward.weight)
    return found


def reward_of(
    name: str, what: Trace, role: str = "solver", task: Task = MATH, **weights: float
) -> float:
    return score(rewards(name, **weights), grade_trace(task, what), (role,)).totals[role]


def tagged(answer: str, chars: int) -> str:
    """A think / answer reply with so many characters of thinking."""
    return f"<think>{'x' * chars}</think><answer>{answer}</answer>"


PARTS = [Correct, Format, Parsable, Length, CodeRan, CodeAgrees, VerifierApproval, VerifierDecision]
NESTED = r"\{" * 240 + "7" + r"\}" * 240
RIGHT, WRONG, EMPTY = r"\boxed{7}", r"\boxed{8}", ""
NO, YES = say("VERDICT: INCORRECT", "verifier"), say("VERDICT: CORRECT", "verifier")
