"""What an agent is: plain code that yields requests and is resumed with their results."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

from slm_math.types import Effect, Problem, RunPython, RunResult, Workflow

T = TypeVar("T")


class Agent:
    """Solves a problem by yielding lists of effects; each `yield` returns one result per effect, in order.

    A `Generate` is answered by a `Reply`, a `RunPython` by a `RunResult`. An agent sees the problem only: the
    reference answer is not in its reach. `roles` names the engines it asks for, `uses_python` whether it runs code.
    """

    roles: tuple[str, ...] = ("solver",)
    uses_python: bool = False

    def solve(self, problem: Problem) -> Workflow[str | None]:
        """The workflow for one problem; returns the final answer, or None when there is none."""
        raise NotImplementedError


def parallel(workflows: Sequence[Workflow[T]]) -> Workflow[list[T]]:
    """Runs workflows side by side inside one agent: `answers = yield from parallel([...])`.

    Their requests of one round go out together; results come back in the order of `workflows`.
    """
    done: dict[int, T] = {}
    waiting: dict[int, list[Effect]] = {}

    def advance(index: int, results: list[Any] | None) -> None:
        waiting.pop(index, None)
        try:
            waiting[index] = next(workflows[index]) if results is None else workflows[index].send(results)
        except StopIteration as end:
            done[index] = end.value

    for index in range(len(workflows)):
        advance(index, None)
    while waiting:
        asked = dict(waiting)
        results = yield [effect for effects in asked.values() for effect in effects]
        start = 0
        for index, effects in asked.items():
            advance(index, results[start : start + len(effects)])
            start += len(effects)
    return [done[index] for index in range(len(workflows))]


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


_WORDS = r"\b(?:(NOT)\s+)?(INCORRECT|CORRECT|UNCLEAR)\b"
_ANY_CASE, _CAPITALS = re.compile(_WORDS, re.IGNORECASE), re.compile(_WORDS)
_MARK = re.compile("VERDICT:", re.IGNORECASE)


def verdict(text: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR: the last such word after "VERDICT:", else the last one written in capitals.

    Whole words only; "NOT CORRECT" is INCORRECT; a text without a verdict is UNCLEAR.
    """
    *_, after = _MARK.split(text)
    found = (_ANY_CASE.findall(after) if _MARK.search(text) else []) or _CAPITALS.findall(text)
    if not found:
        return "UNCLEAR"
    negated, word = found[-1]
    word = word.upper()
    return {"CORRECT": "INCORRECT", "INCORRECT": "UNCLEAR", "UNCLEAR": "UNCLEAR"}[word] if negated else word
