"""Programs within an agent: finding them in replies, running them, remembering what they defined."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from slm_math.agents.base import ask, stated
from slm_math.prompts import render
from slm_math.types import Chat, Generate, Reply, RunPython, RunResult, Workflow, assistant, user


def program(text: str) -> RunPython | None:
    """The fenced Python of a reply as one request, or None.

    Models define things in one block and use them in the next: the last block runs after the ones before it, whose
    output and errors are not shown. A block that was cut off runs to the end of the text; blocks without a language
    count when there is none in Python; indented blocks (in a list, say) are dedented.
    """
    blocks: list[tuple[str, list[str]]] = []
    fence = ""
    for line in text.splitlines():
        mark = line.strip()
        if fence:
            if mark == fence:
                fence = ""
            else:
                blocks[-1][1].append(line)
        elif mark.startswith(("```", "~~~")) and "`" not in mark[3:]:
            fence = mark[:3]
            blocks.append((mark[3:].strip().lower(), []))
    for wanted in (lambda language: language.startswith("py"), lambda language: not language):
        codes = [textwrap.dedent("\n".join(lines)).strip("\n") for language, lines in blocks if wanted(language)]
        if codes:
            return RunPython(codes[-1], tuple(codes[:-1]), turns=1)
    return None


class Session:
    """The Python state of one trace: what one block defines, later blocks see. `result = yield from session.run(...)`.

    It lives in the agent and ends with its workflow. The sandbox repeats the earlier blocks for every new one, so the
    state is the same wherever a block runs. A request that ended its process (time, memory, output, a crash) is
    forgotten with all its blocks.
    """

    def __init__(self) -> None:
        self.blocks: tuple[str, ...] = ()
        self.turns = 0

    def run(self, request: RunPython) -> Workflow[RunResult]:
        """Run a block (and those that it brings along) after all before it."""
        blocks = self.blocks + request.earlier
        [result] = yield [RunPython(request.code, blocks, self.turns + request.turns)]
        stopped = result.timed_out or result.out_of_memory or result.truncated or result.error_type in ("Crash", "Exit")
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
    says: Callable[[str], object] = stated,
) -> Workflow[tuple[Chat, Reply | None]]:
    """Replies until one has no program: each program runs, and its output (or error) goes back.

    At most `runs` programs, which see what those before them defined; what comes after the last is asked for with
    `last_prompt`. Returns the chat up to the last reply, and that reply; None when it was lost (see `ask`; a reply
    that was cut off counts when it holds a whole program, or `says` so).
    """
    session = Session()
    for left in range(runs, -1, -1):
        reply = yield from ask(Generate(chat, role, temperature=temperature), lambda text: written(text) or says(text))
        request = program(reply.text) if reply is not None and left else None
        if reply is None or request is None:
            return chat, reply
        result = yield from session.run(request)
        prompt = last_prompt if left == 1 and last_prompt else output_prompt
        chat += assistant(reply) + user(render(prompt, output=result.text))
    raise AssertionError("the last reply is returned")


def develop(
    chat: Chat, repair_prompt: str, repairs: int, role: str = "solver", temperature: float | None = None
) -> Workflow[tuple[Chat, RunResult | None]]:
    """Asks for a program and runs it; one that fails goes back with its error, up to `repairs` times.

    Returns the chat with all replies, and the last result; None when there was no program.
    """
    for left in range(repairs, -1, -1):
        reply = yield from ask(Generate(chat, role, temperature=temperature), written)
        request = program(reply.text) if reply is not None else None
        if reply is None or request is None:
            return chat, None
        [result] = yield [request]
        chat += assistant(reply)
        if result.ok or not left:
            return chat, result
        chat += user(render(repair_prompt, output=result.text))
    raise AssertionError("the last result is returned")


def written(text: str) -> bool:
    """Whether a text holds a program, and the end of it."""
    return text.count("```") % 2 == 0 and program(text) is not None


def printed(result: RunResult) -> str | None:
    """What a program came to: the value of its last expression, else its last printed line; None when it failed."""
    lines = [line.strip() for line in f"{result.stdout}\n{result.value}".splitlines() if line.strip()]
    if not result.ok or not lines:
        return None
    return stated(lines[-1]) or lines[-1]
