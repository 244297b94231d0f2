"""A workflow that runs again: what is known of it answers its requests, up to a turn or beyond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from slm_math.types import Effect, Generate, Note, Workflow

T = TypeVar("T")
Place = tuple[int, int]  # of a request for a reply: the number of the try, and its own, from 1


def rerun(
    workflow: Workflow[T],
    answer: Callable[[Effect, Place], Any],
    happened: Callable[[Effect, Any], object] = lambda effect, result: None,
) -> Workflow[T]:
    """The same workflow, some of whose requests are answered at once.

    Args:
        answer: gets a `Generate` with its place among the requests for replies, or a `RunPython`
            (with the place of the last reply), and returns its result, or the request to yield
            instead. Side by side requests are asked in order.
        happened: is told each effect with its result, in the order of a trace.
    """
    numbers: Counter[int] = Counter()
    place = (0, 0)
    results: list[Any] | None = None
    while True:
        try:
            effects = next(workflow) if results is None else workflow.send(results)
        except StopIteration as end:
            return end.value
        results = []
        for effect in effects:
            if isinstance(effect, Generate):
                numbers[effect.attempt] += 1
                place = (effect.attempt, numbers[effect.attempt])
            results.append(None if isinstance(effect, Note) else answer(effect, place))
        asked = [n for n, one in enumerate(results) if isinstance(one, Effect)]
        if asked:
            for n, result in zip(asked, (yield [results[n] for n in asked]), strict=True):
                results[n] = result
        for effect, result in zip(effects, results):
            happened(effect, result)
