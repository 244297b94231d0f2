"""Python within the reasoning: the reply halts after a program, its output is put in, the reply
goes on.
"""

from __future__ import annotations

from typing import cast

from slm_math.agents.base import Agent, heard
from slm_math.agents.coding import Session, blocks, program
from slm_math.answers import extract
from slm_math.prompts import render
from slm_math.types import (
    Generate,
    Part,
    Problem,
    Reply,
    RunPython,
    Text,
    Workflow,
    assistant,
    user,
)

FENCE = "\n```\n"  # the fence that closes a block stands alone on its line
HALTS = 4  # replies per program at most


def closes(text: str) -> bool:
    """Whether a text ends in a whole program."""
    found = blocks(text.rstrip())
    ends = (
        bool(found)
        and found[-1].closed
        and found[-1].last_line == len(text.rstrip().splitlines()) - 1
    )
    return ends and (found[-1].language or "py").startswith("py") and bool(found[-1].code.strip())


class PythonTools(Agent):
    """One assistant turn in which up to `runs` programs run where they were written; what one
    defines, later ones see.

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
        self.takes("problem", "prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        asked = user(render(self.prompt, problem=problem.text), problem.images)
        session = Session()
        said: tuple[Part, ...] = ()
        # what was said since the last output, programs that may still run
        stretch, left = "", self.runs
        for _ in range(HALTS * self.runs):
            chat = asked + assistant(*said) if said else asked
            [reply] = yield [Generate(chat, resume=bool(said), stop=(FENCE,) if left else None)]
            said, stretch = (*said, reply), stretch + reply.text
            if left and closes(stretch):
                result = yield from session.run(cast(RunPython, program(stretch)))
                gap = "" if stretch.endswith("\n") else "\n"
                said += (Text(f"{gap}```output\n{result.text}\n```\n", learn=False),)
                stretch, left = "", left - 1
            elif not (left and reply.finish == "stop" and reply.text.endswith(FENCE)):
                yield from heard(reply)
                break  # not one of the halts at a fence that opens, or that closes something else
        return extract("".join(part.text for part in said if isinstance(part, Reply))).value
