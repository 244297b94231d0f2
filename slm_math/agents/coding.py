"""Programs of an agent: finding them in replies, running them, keeping what they defined."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from slm_math.agents.blocks import Block, blocks
from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.answers.spoken import own_turn
from slm_math.prompts import Prompt
from slm_math.types import (
    Chat,
    Generate,
    Reply,
    Run,
    RunPython,
    RunResult,
    Workflow,
    assistant,
    user,
)

NO_PROGRAM = Run("", RunResult(False, error="There was no program in the reply."))
# values of a last expression that only say that it was evaluated: print(x); [print(x) for x in y]
_NO_VALUE = re.compile(r"(?:None|[(\[{](?:None,? ?)+[)\]}])")
_BOOL = ("True", "False")
# last lines whose value is a status or a number of characters
_RETURNS_STATUS = re.compile(r"(?:main|run_main)\(.*\)\s*;?\s*(?:#.*)?")
_RETURNS_LENGTH = re.compile(r"(?:[\w.]+\.)?write\(.*\)\s*;?\s*(?:#.*)?")


def program(text: str) -> RunPython | None:
    """The Python of a reply as one request, or None.

    Models define names in one block and use them in the next. Therefore the last block runs after
    the blocks before it, whose output and errors are not shown. An open block extends to the end of
    the text. Blocks without a language count if no block is marked as Python, except those after
    "Output:" and the like. Indented blocks (in a list, for example) are dedented; empty blocks are
    ignored. Programs in the thinking before a reply are drafts, and do not run.
    """
    return combined(_own_blocks(text))


def combined(found: Sequence[Block]) -> RunPython | None:
    """The program of these blocks."""
    for language in ("python", ""):
        codes = [block.code for block in found if block.language == language and block.code.strip()]
        if codes:
            return RunPython(codes[-1], tuple(codes[:-1]), turns=1)
    return None


def has_whole_program(text: str) -> bool:
    """Whether a text holds a program, and every block in it is closed."""
    found = _own_blocks(text)
    return combined(found) is not None and all(block.closed for block in found)


def _own_blocks(text: str) -> list[Block]:
    start, end = own_turn(text)
    return blocks(text[start:end])


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
) -> Workflow[tuple[Chat, Run | None]]:
    """Asks for a program and runs it. A program that fails goes back with its error, up to
    `repairs` times.

    Returns the chat with all replies, and the last run: `NO_PROGRAM` if no reply had a program,
    None if the first reply was unusable.
    """
    run = None
    for repairs_left in range(repairs, -1, -1):
        reply = yield from usable_reply(
            Generate(chat, role, temperature=temperature), has_whole_program
        )
        if reply is None:
            break
        chat += assistant(reply)
        request = program(reply.text)
        if request is None:
            return chat, run or NO_PROGRAM
        [result] = yield [request]
        run = Run(request.code, result, request.earlier)
        if result.ok or not repairs_left:
            break
        chat += user(repair_prompt.fill(output=result.text))
    return chat, run


def transcript_since(before: Chat, chat: Chat, reply: Reply) -> str:
    """All messages of `chat` that `before` does not have, and a last reply: the work behind an
    answer.
    """
    return "\n\n".join([*(message.text for message in chat[len(before) :]), reply.text])


def program_answer(run: Run) -> str | None:
    """The answer of a program: the value of its last expression, else the last line that it
    printed; None if it failed or printed nothing.

    After output, a value that says nothing about the problem does not count: None, True or False
    (`x == 3` checks the answer that was printed), the status 0 of `main()`, the number of
    characters that `write` returns.
    """
    if not run.result.ok:
        return None
    printed, value = last_line(run.result.stdout), last_line(run.result.value)
    if value is None or (printed is not None and is_by_product(value, run.code)):
        value = printed
    return value and (stated_answer(value) or value)


def is_by_product(value: str, code: str) -> bool:
    """Whether the value of the last expression of a program is not what the program computes."""
    last = last_line(code) or ""
    return (
        value in _BOOL
        or _NO_VALUE.fullmatch(value) is not None
        or (value in ("0", "1") and _RETURNS_STATUS.fullmatch(last) is not None)
        or (value.isdecimal() and _RETURNS_LENGTH.fullmatch(last) is not None)
    )


def last_line(text: str) -> str | None:
    """The last line of a text that is not blank, without blanks around it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
