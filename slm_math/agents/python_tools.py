"""Python within the reasoning: the reply stops after a program, gets its output, and continues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from slm_math.agents.base import Agent
from slm_math.agents.coding import Session, blocks, program
from slm_math.agents.replies import is_usable, stated_answer
from slm_math.prompts import Prompt
from slm_math.types import (
    Generate,
    Part,
    Problem,
    Reply,
    RunPython,
    Text,
    Workflow,
    assistant,
)

FENCE = "\n```\n"  # the fence that closes a block stands alone on its line
STOPS_PER_RUN = 4  # most replies for each program that may run: a fence may also open a block


def ends_in_program(text: str) -> bool:
    """Whether a text ends with a closed block of Python."""
    fenced = blocks(text.rstrip())
    if not fenced or fenced[-1].last_line != len(text.rstrip().splitlines()) - 1:
        return False
    last = fenced[-1]
    return last.closed and (last.language or "py").startswith("py") and bool(last.code.strip())


@dataclass(frozen=True)
class PythonTools(Agent):
    """One assistant turn in which programs run where they are written.

    Later programs see what earlier ones defined. The output is context and never trained on. After
    the last run the reply continues to its end.

    Args:
        runs: programs at most.
        prompt: template name, or a text file with a `{problem}` slot.
    """

    uses_python = True
    minimums = {"runs": 1}

    runs: int = 5
    prompt: Prompt = Prompt("tools", "problem")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        question = problem.ask(self.prompt)
        session = Session()
        turn: tuple[Part, ...] = ()
        since_output, runs_left = "", self.runs
        for _ in range(STOPS_PER_RUN * self.runs):
            chat = question + assistant(*turn) if turn else question
            [reply] = yield [
                Generate(chat, resume=bool(turn), stop=(FENCE,) if runs_left else None)
            ]
            turn, since_output = (*turn, reply), since_output + reply.text
            if runs_left and ends_in_program(since_output):
                result = yield from session.run(cast(RunPython, program(since_output)))
                gap = "" if since_output.endswith("\n") else "\n"
                turn += (Text(f"{gap}```output\n{result.text}\n```\n", learn=False),)
                since_output, runs_left = "", runs_left - 1
            elif not (runs_left and reply.finish == "stop" and reply.text.endswith(FENCE)):
                # the reply is at its end; at a fence that closes no program it continues
                yield from is_usable(reply)
                break
        written = "".join(part.text for part in turn if isinstance(part, Reply))
        return stated_answer(written, problem.answer_type)
