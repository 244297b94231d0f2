"""Programs within an agent: finding them in replies, running them, remembering what
they defined.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from slm_math.agents.base import ask, stated
from slm_math.prompts import render
from slm_math.types import Chat, Generate, Reply, RunPython, RunResult, Workflow, assistant, user

NO_PROGRAM = RunResult(False, error="There was no program in the reply.")
_OPENS = re.compile(r"(?:^|.*[^`~])(```|~~~)\s*(?:py[\w.]*)\s*$|^(```|~~~)([^`]*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a text: its language in lower case, its lines, whether it was closed, and
    where it ends.
    """

    language: str
    lines: tuple[str, ...]
    closed: bool
    last_line: int

    @property
    def code(self) -> str:
        return textwrap.dedent("\n".join(self.lines)).strip("\n")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text, in order. A fence opens at the start of a line, one for Python
    also at its end.
    """
    found: list[Block] = []
    fence, language, lines = "", "", []
    every = text.splitlines()
    for number, line in enumerate(every):
        mark = line.strip()
        if fence and mark == fence:
            found.append(Block(language, tuple(lines), True, number))
            fence = ""
        elif fence:
            lines.append(line)
        elif opened := _OPENS.match(mark):
            fence = opened[1] or opened[2]
            language, lines = "python" if opened[1] else opened[3].strip().lower(), []
    if fence:
        found.append(Block(language, tuple(lines), False, len(every) - 1))
    return found


def program(text: str) -> RunPython | None:
    """The fenced Python of a reply as one request, or None.

    Models define things in one block and use them in the next: the last block runs after the ones
    before it, whose output and errors are not shown. A block that was cut off runs to the end of
    the text; blocks without a language count when there is none in Python; indented blocks (in a
    list, say) are dedented; empty ones are none.
    """
    found = blocks(text)
    for wanted in (lambda language: language.startswith("py"), lambda language: not language):
        codes = [block.code for block in found if wanted(block.language) and block.code.strip()]
        if codes:
            return RunPython(codes[-1], tuple(codes[:-1]), turns=1)
    return None


class Session:
    """The Python state of one trace: what one block defines, later blocks see. `result = yield from
    session.run(...)`.

    It lives in the agent and ends with its workflow. The sandbox repeats the earlier blocks for
    every new one, so the state is the same wherever a block runs. A request that ended its process
    (time, memory, output, a crash) is forgotten with all its blocks.
    """

    def __init__(self) -> None:
        self.blocks: tuple[str, ...] = ()
        self.turns = 0

    def run(self, request: RunPython) -> Workflow[RunResult]:
        """Run a block (and those that it brings along) after all before it."""
        blocks = self.blocks + request.earlier
        [result] = yield [RunPython(request.code, blocks, self.turns + request.turns)]
        stopped = (
            result.timed_out
            or result.out_of_memory
            or result.output_overflow
            or result.error_type in ("Crash", "Exit")
        )
        if not stopped:
            self.blocks, self.turns = (*blocks, request.code), self.turns + request.turns
        return result


def work(
    chat: Chat,
    output_prompt: str,
    runs: int,
    role: str = "solver",
    temperature: float | None = None,
    last_prompt: str | None = None,
    repair_prompt: str | None = None,
    says: Callable[[str], object] = stated,
) -> Workflow[tuple[Chat, Reply | None]]:
    """Replies until one has no program: each program runs, and its output (or error) goes back.

    At most `runs` programs, which see what those before them defined. The output is shown with
    `output_prompt`; that of the last with `last_prompt`, an error before it with `repair_prompt`,
    where these are given. Returns the chat up to the last reply, and that reply; None when it was
    lost (see `ask`; a reply that was cut off counts when it holds a whole program that may run, or
    `says` so).
    """
    session = Session()
    for left in range(runs, -1, -1):
        enough = (lambda text: written(text) or says(text)) if left else says
        reply = yield from ask(Generate(chat, role, temperature=temperature), enough)
        request = program(reply.text) if reply is not None and left else None
        if reply is None or request is None:
            return chat, reply
        result = yield from session.run(request)
        special = last_prompt if left == 1 else None if result.ok else repair_prompt
        prompt = special or output_prompt
        chat += assistant(reply) + user(render(prompt, output=result.text))
    raise AssertionError("the last reply is returned")


def develop(
    chat: Chat,
    repair_prompt: str,
    repairs: int,
    role: str = "solver",
    temperature: float | None = None,
) -> Workflow[tuple[Chat, RunResult | None]]:
    """Asks for a program and runs it; one that fails goes back with its error, up to `repairs`
    times.

    Returns the chat with all replies, and the last result, `NO_PROGRAM` where a reply had none;
    None when the first reply was lost.
    """
    result = None
    for left in range(repairs, -1, -1):
        reply = yield from ask(Generate(chat, role, temperature=temperature), written)
        if reply is None:
            break
        chat += assistant(reply)
        request = program(reply.text)
        if request is None:
            return chat, result or NO_PROGRAM
        [result] = yield [request]
        if result.ok or not left:
            break
        chat += user(render(repair_prompt, output=result.text))
    return chat, result


def written(text: str) -> bool:
    """Whether a text holds a program, and the end of it."""
    return program(text) is not None and all(block.closed for block in blocks(text))


def since(before: Chat, chat: Chat, reply: Reply) -> str:
    """All that was said from one point of a chat on, a last reply included: the work behind an
    answer.
    """
    return "\n\n".join([*(message.text for message in chat[len(before) :]), reply.text])


def printed(result: RunResult) -> str | None:
    """What a program came to: the value of its last expression, else its last printed line; None
    when it failed.
    """
    lines = [
        line.strip() for line in f"{result.stdout}\n{result.value}".splitlines() if line.strip()
    ]
    if not result.ok or not lines:
        return None
    return stated(lines[-1]) or lines[-1]
