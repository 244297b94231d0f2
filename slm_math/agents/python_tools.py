"""Python within the reasoning: the reply stops after a program, gets its output, and continues."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.blocks import Block, blocks
from slm_math.agents.coding import Session, combined
from slm_math.agents.replies import is_usable, stated_answer
from slm_math.answers.spoken import own_turn
from slm_math.prompts import Prompt
from slm_math.types import (
    Generate,
    Part,
    Problem,
    Reply,
    Text,
    Workflow,
    assistant,
)

FENCE = "\n```\n"  # the fence that closes a block stands alone on its line
STOPS_PER_RUN = 4  # most replies for each program that may run: a fence may also open a block


def blocks_up_to_program(text: str, ended: bool) -> list[Block]:
    """The blocks of a text, if its last one is a program and nothing follows it; [] otherwise.

    The program is closed, or it is marked as Python and the reply `ended` in it. It may belong to
    thinking that goes on, but not to thinking that is over.
    """
    text = text[own_turn(text)[0] :].rstrip()
    found = blocks(text)
    if not found or not found[-1].may_be_program or found[-1].end != len(text):
        return []
    return found if found[-1].closed or (ended and found[-1].language == "python") else []


@dataclass(frozen=True)
class PythonTools(Agent):
    """One assistant turn in which programs run where they are written.

    Later programs see what earlier ones defined. The output is context and never trained on. After
    the last run the reply continues to its end. Programs run where they are written, so also while
    the model still thinks.

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
            found = blocks_up_to_program(since_output, reply.finish == "stop")
            request = combined(found) if runs_left else None
            if request is not None:
                result = yield from session.run(request)
                gap = "" if since_output.endswith("\n") else "\n"
                if not found[-1].closed and found[-1].closing:
                    gap += f"{found[-1].closing}\n"
                turn += (Text(f"{gap}```output\n{result.text}\n```\n", learn=False),)
                since_output, runs_left = "", runs_left - 1
            elif not (runs_left and reply.finish == "stop" and reply.text.endswith(FENCE)):
                # the reply is at its end; at a fence that closes no program it continues
                yield from is_usable(reply)
                break
        written = "".join(part.text for part in turn if isinstance(part, Reply))
        return stated_answer(written, problem.answer_type)
