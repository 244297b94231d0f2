"""Twins of the problems of `Arithmetic`: the same story with numbers that nothing trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from slm_math.data.arithmetic_families import Posed, is_posed, numbers_for
from slm_math.data.arithmetic_steps import evaluate
from slm_math.data.base import Split
from slm_math.data.draws import Draw

OTHER: dict[Split, Split] = {"test": "validation", "validation": "test"}
_DRAWS = 3000  # with as many digits as the parent's numbers; then others


def twinned(
    problems: Sequence[Posed], split: Split, seed: int
) -> Iterator[tuple[Posed, Posed | None]]:
    """Each problem with its twin, None where no numbers are left (and for training problems).

    A twin has the numbers of a problem of the other held-out split, of the same digits as far as
    possible, and another answer; no two twins of a family have the same numbers.
    """
    draw = Draw(f"{seed} twins {split}")
    seen: set[tuple[str, str]] = set()
    for parent in problems:
        twin = _twin(draw, parent, OTHER[split], seen) if split in OTHER else None
        if twin is not None:
            seen.add((twin.family.name, twin.expression))
        yield parent, twin


def _twin(draw: Draw, parent: Posed, split: Split, seen: set[tuple[str, str]]) -> Posed | None:
    digits = [len(str(number)) for number in parent.numbers]
    for attempt in range(4 * _DRAWS):
        numbers = numbers_for(draw, parent.family)
        alike = digits == [len(str(number)) for number in numbers]
        if not (alike or attempt > _DRAWS) or not is_posed(parent.family, numbers, split):
            continue
        twin = replace(parent, numbers=numbers)
        new = (twin.family.name, twin.expression) not in seen
        if new and evaluate(twin.expression) != evaluate(parent.expression):
            return twin
    return None
