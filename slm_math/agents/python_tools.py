"""Python within the reasoning: the reply halts after a program, its output is put in, the reply goes on."""

from __future__ import annotations

from slm_math.agents.base import Agent
from slm_math.agents.coding import Session, program
from slm_math.answers import extract
from slm_math.prompts import render
from slm_math.types import Generate, Part, Problem, Reply, Text, Workflow, assistant, user


class PythonTools(Agent):
    """One assistant turn in which up to `runs` programs run where they were written; what one defines, later ones see.

    Output is context, never learnt. After the last run the reply goes on without halting.

    Args:
        runs: programs at most.
        prompt: template name, or a text file with a `{problem}` slot.
    """

    uses_python = True

    def __init__(self, runs: int = 5, prompt: str = "tools") -> None:
        if runs < 1:
            raise ValueError(f"PythonTools needs runs >= 1, got {runs}")
        self.runs = runs
        self.prompt = prompt
        render(prompt, problem="")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        asked = user(render(self.prompt, problem=problem.text), problem.images)
        session = Session()
        said: tuple[Part, ...] = ()
        for left in range(self.runs, -1, -1):
            chat = asked + assistant(*said) if said else asked
            # the fence that closes a block stands alone on its line
            [reply] = yield [Generate(chat, resume=bool(said), stop=("\n```\n",) if left else None)]
            said += (reply,)
            request = program(reply.text) if left and reply.text.rstrip().endswith("\n```") else None
            if request is None:
                break
            result = yield from session.run(request)
            gap = "" if reply.text.endswith("\n") else "\n"
            said += (Text(f"{gap}```output\n{result.text}\n```\n", learn=False),)
        return extract("".join(part.text for part in said if isinstance(part, Reply))).value
