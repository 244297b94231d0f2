"""What an agent is: plain code that yields requests and is resumed with their results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from slm_math.types import Effect, Problem, Workflow

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


_FENCE = re.compile(r"^[ \t]*```[ \t]*(python|py|python3)?[ \t]*$", re.IGNORECASE | re.MULTILINE)


def program(text: str) -> str | None:
    """The last fenced Python block of a reply, or None; a block that was cut off runs to the end of the text."""
    marks = list(_FENCE.finditer(text))
    for i in range(len(marks) - 1, -1, -1):
        if marks[i].group(1):
            end = marks[i + 1].start() if i + 1 < len(marks) else len(text)
            return text[marks[i].end() : end].strip("\n")
    if len(marks) >= 2:  # a block without a language
        return text[marks[-2].end() : marks[-1].start()].strip("\n")
    return None


_VERDICT = re.compile(r"\b(?:(NOT)\s+)?(INCORRECT|CORRECT|UNCLEAR)\b")


def verdict(text: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR: the last verdict word that a verifier wrote in capitals, whole words only.

    "NOT CORRECT" is INCORRECT; a text without a verdict is UNCLEAR.
    """
    found = _VERDICT.findall(text.rpartition("VERDICT:")[2]) or _VERDICT.findall(text)
    if not found:
        return "UNCLEAR"
    negated, word = found[-1]
    return {"CORRECT": "INCORRECT", "INCORRECT": "UNCLEAR", "UNCLEAR": "UNCLEAR"}[word] if negated else word
