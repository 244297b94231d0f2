"""Driving an agent by hand, request by request."""

from typing import Any

from slm_math.agents import Agent
from slm_math.types import (
    Chat,
    Generate,
    Image,
    Note,
    Problem,
    Reply,
    RunPython,
    RunResult,
    Workflow,
)

PROBLEM = Problem("p/1", "What is 3 + 4?")
CHOICE = Problem("p/2", "What is 3 + 4?", "mc", ("5", "7", "9"))
PICTURE = Image("seven.png")
PICTURED = Problem("p/3", "What is 3 + 4?", images=(PICTURE,))
FAILED = RunResult(
    False, error="line 1: NameError: name 'x' is not defined", error_type="NameError"
)
STOPPED = RunResult(False, error="stopped after 5 s", error_type="TimeoutError", timed_out=True)
SILENT = RunResult(True)


class Driven:
    """An agent that was run on scripted results: what it asked for (without notes), what it noted,
    and its answer.
    """

    def __init__(self, agent: Agent, results: list[list[Any]], problem: Problem = PROBLEM) -> None:
        self.asked: list[list[Any]] = []
        self.unused = 0
        self.notes: list[Note] = []
        self.answer: Any = "still running"
        script = iter(results)
        workflow = agent.solve(problem)
        try:
            effects = next(workflow)
            while True:
                self.notes += [effect for effect in effects if isinstance(effect, Note)]
                requests = [effect for effect in effects if not isinstance(effect, Note)]
                answers = iter(())
                if requests:
                    self.asked.append(requests)
                    given = next(script, None)
                    if given is None:
                        return
                    assert len(given) == len(requests), f"{len(requests)} requests: {requests}"
                    answers = iter(given)
                effects = workflow.send(
                    [None if isinstance(e, Note) else next(answers) for e in effects]
                )
        except StopIteration as end:
            self.answer = end.value
        self.unused = len(list(script))

    @property
    def steps(self) -> list[str]:
        """Who was asked, one entry a yield: "solver", "run", "solver+solver" for two requests at
        once.
        """
        return [
            "+".join("run" if isinstance(r, RunPython) else r.role for r in asked)
            for asked in self.asked
        ]

    @property
    def warmth(self) -> list[float | None]:
        """The temperature of every generation request."""
        return [r.temperature for asked in self.asked for r in asked if isinstance(r, Generate)]

    def chat(self, step: int) -> Chat:
        """What the (first) request of a step shows."""
        return self.asked[step][0].chat

    def last(self, step: int) -> str:
        """The text of the last message of a step's chat."""
        return self.chat(step)[-1].text

    def noted(self, kind: str) -> list[str | None]:
        return [note.text for note in self.notes if note.kind == kind]


def drive(agent: Agent, *answers: list[Any]) -> tuple[list[Any], Any]:
    """Runs an agent on scripted results; returns its requests and its answer."""
    driven = Driven(agent, list(answers))
    return driven.asked, driven.answer


def play(agent: Agent, *script: Any, problem: Problem = PROBLEM) -> Driven:
    """Runs an agent to its end on results, a list where several are asked for at once; all of them
    must be used.
    """
    driven = Driven(agent, [item if isinstance(item, list) else [item] for item in script], problem)
    assert driven.answer != "still running", f"not at its end after {driven.steps}"
    assert driven.unused == 0, f"at its end after {driven.steps}"
    return driven


class Flow(Agent):
    """An agent that is one given workflow: `Flow(lambda: ask(request))`."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def solve(self, problem: Problem) -> Workflow[Any]:
        return (yield from self.make())


def box(answer: object) -> Reply:
    return Reply(rf"So it is \boxed{{{answer}}}.")


def code(source: str = "print(3+4)") -> Reply:
    return Reply(f"```python\n{source}\n```")


def cut(text: str) -> Reply:
    """A reply that ran into the token budget."""
    return Reply(text, finish="length")


def judged(word: str) -> Reply:
    return Reply(f"I looked.\nVERDICT: {word}")


def printed(text: object) -> RunResult:
    return RunResult(True, f"{text}\n")
