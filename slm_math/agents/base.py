"""What an agent is: plain code that yields requests and is resumed with their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from slm_math.answers import extract
from slm_math.prompts import load, render
from slm_math.types import Effect, Generate, Note, Problem, Reply, Workflow

T = TypeVar("T")
RETRY = 0.7  # temperature of a second try: a greedy one would only repeat itself


class Agent:
    """Solves a problem by yielding lists of effects; each `yield` returns one result per effect, in
    order.

    A `Generate` is answered by a `Reply`, a `RunPython` by a `RunResult`, a `Note` by None. An
    agent sees the problem only: the reference answer is not in its reach. `roles` names the engines
    it asks for, `uses_python` whether it runs code.
    """

    roles: tuple[str, ...] = ("solver",)
    uses_python: bool = False

    def solve(self, problem: Problem) -> Workflow[str | None]:
        """The workflow for one problem; returns the final answer, or None when there is none."""
        raise NotImplementedError

    def takes(self, slots: str, *names: str) -> None:
        """`takes("problem", "prompt")`: raises ValueError when the template `self.prompt` wants any
        other slot.

        The first prompt of an agent, `prompt` or `plan_prompt`, must show the problem.
        """
        for name in names:
            template = getattr(self, name)
            render(template, **dict.fromkeys(slots.split(), ""))
            if name in ("prompt", "plan_prompt") and "{problem}" not in load(template):
                raise ValueError(
                    f"prompt {template!r} has no {{problem}}: the model would not see what to solve"
                )


def parallel(workflows: Sequence[Workflow[T]]) -> Workflow[list[T]]:
    """Runs workflows side by side inside one agent: `answers = yield from parallel([...])`.

    Their requests of one round go out together; results come back in the order of `workflows`.
    Notes get the index of their workflow in front of their `branch`.
    """
    done: dict[int, T] = {}
    waiting: dict[int, list[Effect]] = {}
    notes: list[Effect] = []

    def advance(index: int, results: list[Any] | None) -> None:
        waiting.pop(index, None)
        try:
            effects = next(workflows[index]) if results is None else workflows[index].send(results)
            # nobody waits for notes
            while effects and all(isinstance(effect, Note) for effect in effects):
                notes.extend(map(labelled, effects, [index] * len(effects)))
                effects = workflows[index].send([None] * len(effects))
            if not effects:
                raise ValueError("a workflow yielded an empty list of requests")
            waiting[index] = [labelled(effect, index) for effect in effects]
        except StopIteration as end:
            done[index] = end.value

    for index in range(len(workflows)):
        advance(index, None)
    while waiting or notes:
        asked, said = dict(waiting), len(notes)
        results = yield [*notes, *(effect for effects in asked.values() for effect in effects)]
        notes.clear()
        start = said
        for index, effects in asked.items():
            advance(index, results[start : start + len(effects)])
            start += len(effects)
    return [done[index] for index in range(len(workflows))]


def labelled(effect: Effect, index: int) -> Effect:
    """An effect of workflow `index` of several."""
    return replace(effect, branch=(index, *effect.branch)) if isinstance(effect, Note) else effect


def stated(text: str) -> str | None:
    """The answer that a reply states, if it does."""
    return extract(text).value


def lost(reply: Reply, says: Callable[[str], object]) -> str | None:
    """Why a reply is no round: "empty", or "truncated" before it said what it was asked for; None
    when it is one.
    """
    if not reply.text.strip():
        return "empty"
    return None if reply.finish == "stop" or says(reply.text) else "truncated"


def ask(
    request: Generate, says: Callable[[str], object] = bool, retries: int = 1
) -> Workflow[Reply | None]:
    """One reply, or None. A reply is lost when it is empty, or cut off before it says what it was
    asked for.

    A lost reply is noted and asked for again, `retries` times, at a temperature above 0; it is
    never a round.

    Args:
        says: whether a text that was cut off says enough all the same.
    """
    for again in range(retries + 1):
        warm = replace(request, temperature=max(RETRY, request.temperature or 0.0))
        [reply] = yield [warm if again else request]
        why = lost(reply, says)
        if why is None:
            return reply
        yield [Note("lost", why, role=request.role)]
    return None


def heard(reply: Reply, says: Callable[[str], object] = stated) -> Workflow[bool]:
    """Whether a reply of the solver is none that is lost; a lost one is noted. For agents that ask
    only once.
    """
    why = lost(reply, says)
    if why is not None:
        yield [Note("lost", why, role="solver")]
    return why is None


def draft(reply: Reply, says: Callable[[str], object] = stated) -> Workflow[str | None]:
    """Notes the answer that a reply states as a draft, or a lost reply as such;
    returns the answer.
    """
    answer = stated(reply.text)
    if (yield from heard(reply, says)):
        yield [Note("draft", answer)]
    return answer
