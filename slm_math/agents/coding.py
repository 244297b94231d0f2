"""Programs of an agent: finding them in replies, running them, keeping what they defined."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.prompts import Prompt
from slm_math.types import Chat, Generate, Reply, RunPython, RunResult, Workflow, assistant, user

NO_PROGRAM = RunResult(False, error="There was no program in the reply.")
_OPENS = re.compile(r"(?:^|.*[^`~])(```|~~~)\s*(?:py[\w.]*)\s*$|^(```|~~~)([^`]*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a text: its language in lower case, its lines, whether its fence is closed,
    and the number of its last line in the text.
    """

    language: str
    lines: tuple[str, ...]
    closed: bool
    last_line: int

    @property
    def code(self) -> str:
        return textwrap.dedent("\n".join(self.lines)).strip("\n")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text, in order. A fence opens at the start of a line; one for Python
    may also stand at the end of a line.
    """
    result: list[Block] = []
    fence, language, lines = "", "", []
    all_lines = text.splitlines()
    for number, line in enumerate(all_lines):
        stripped = line.strip()
        if fence and stripped == fence:
            result.append(Block(language, tuple(lines), True, number))
            fence = ""
        elif fence:
            lines.append(line)
        elif opening := _OPENS.match(stripped):
            fence = opening[1] or opening[2]
            language, lines = "python" if opening[1] else opening[3].strip().lower(), []
    if fence:
        result.append(Block(language, tuple(lines), False, len(all_lines) - 1))
    return result


def program(text: str) -> RunPython | None:
    """The fenced Python of a reply as one request, or None.

    Models define names in one block and use them in the next. Therefore the last block runs after
    the blocks before it, whose output and errors are not shown. An open block extends to the end of
    the text. Blocks without a language count if no block is marked as Python. Indented blocks (in a
    list, for example) are dedented; empty blocks are ignored.
    """
    fenced = blocks(text)
    for accepts in (lambda language: language.startswith("py"), lambda language: not language):
        codes = [block.code for block in fenced if accepts(block.language) and block.code.strip()]
        if codes:
            return RunPython(codes[-1], tuple(codes[:-1]), turns=1)
    return None


def has_whole_program(text: str) -> bool:
    """Whether a text holds a program, and every block in it is closed."""
    return program(text) is not None and all(block.closed for block in blocks(text))


class Session:
    """The Python state of one trace: later blocks see what earlier blocks defined.

    `result = yield from session.run(request)`. The state belongs to the agent and ends with its
    workflow. The sandbox runs the earlier blocks again before every new one, so the state is the
    same wherever a block runs. A request whose process was stopped (time, memory, output) or died
    is forgotten with all its blocks.
    """

    def __init__(self) -> None:
        self.blocks: tuple[str, ...] = ()
        self.turns = 0

    def run(self, request: RunPython) -> Workflow[RunResult]:
        """Runs a block, and the blocks that its request brings along, after all earlier ones."""
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


def reply_with_tools(
    chat: Chat,
    output_prompt: Prompt,
    runs: int,
    *,
    role: str = "solver",
    temperature: float | None = None,
    last_prompt: Prompt | None = None,
    repair_prompt: Prompt | None = None,
    is_complete: Callable[[str], object] = stated_answer,
) -> Workflow[tuple[Chat, Reply | None]]:
    """Asks until a reply has no program; each program runs, and its output or error goes back.

    Returns the chat up to the last reply, and that reply; None instead of an unusable reply (see
    `usable_reply`).

    Args:
        output_prompt: shows the output of a program.
        runs: programs at most. Each sees what the earlier ones defined.
        last_prompt: shows the output of the last program instead.
        repair_prompt: shows the error of any program but the last instead.
        is_complete: whether a reply that hit the length limit has what the agent needs. If programs
            are left, a whole program is enough.
    """
    session = Session()
    for runs_left in range(runs, -1, -1):
        reply = yield from usable_reply(
            Generate(chat, role, temperature=temperature),
            (lambda text: has_whole_program(text) or is_complete(text))
            if runs_left
            else is_complete,
        )
        request = program(reply.text) if reply is not None and runs_left else None
        if reply is None or request is None:
            return chat, reply
        result = yield from session.run(request)
        special = last_prompt if runs_left == 1 else None if result.ok else repair_prompt
        chat += assistant(reply) + user((special or output_prompt).fill(output=result.text))
    raise AssertionError("the last reply is returned")


def write_program(
    chat: Chat,
    repair_prompt: Prompt,
    repairs: int,
    *,
    role: str = "solver",
    temperature: float | None = None,
) -> Workflow[tuple[Chat, RunResult | None]]:
    """Asks for a program and runs it. A program that fails goes back with its error, up to
    `repairs` times.

    Returns the chat with all replies, and the last result: `NO_PROGRAM` if no reply had a program,
    None if the first reply was unusable.
    """
    result = None
    for repairs_left in range(repairs, -1, -1):
        reply = yield from usable_reply(
            Generate(chat, role, temperature=temperature), has_whole_program
        )
        if reply is None:
            break
        chat += assistant(reply)
        request = program(reply.text)
        if request is None:
            return chat, result or NO_PROGRAM
        [result] = yield [request]
        if result.ok or not repairs_left:
            break
        chat += user(repair_prompt.fill(output=result.text))
    return chat, result


def transcript_since(before: Chat, chat: Chat, reply: Reply) -> str:
    """All messages of `chat` that `before` does not have, and a last reply: the work behind an
    answer.
    """
    return "\n\n".join([*(message.text for message in chat[len(before) :]), reply.text])


def program_answer(result: RunResult) -> str | None:
    """The answer of a program: the value of its last expression, else the last line that it
    printed; None if it failed or printed nothing.
    """
    lines = [
        line.strip() for line in f"{result.stdout}\n{result.value}".splitlines() if line.strip()
    ]
    if not result.ok or not lines:
        return None
    return stated_answer(lines[-1]) or lines[-1]
