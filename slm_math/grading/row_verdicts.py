"""What a row itself says of its completions: verdicts, and the answers that its tool extracted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from slm_math.data.json_lines import RowError
from slm_math.foreign.paths import MISSING, first_of, lookup
from slm_math.foreign.shapes import Shape
from slm_math.foreign.tools import verdict
from slm_math.grading.fields import VERDICT, NoField, there
from slm_math.grading.texts import as_text


class RowVerdict(NamedTuple):
    """Of one sample: its verdicts by the name of the field or metric, and the extracted answer."""

    verdicts: tuple[tuple[str, bool], ...] = ()
    answer: str | None = None


NOTHING_SAID = RowVerdict()


def row_verdicts(
    row: Mapping[str, Any], name: str | None, shape: Shape | None, samples: int
) -> list[RowVerdict]:
    """What is said of each sample; of a verdict on several samples together, nothing.

    `name` is the only verdict that counts, if given. Raises RowError if its field holds none.
    """
    if name is not None:
        found = {name: _named(row, name, shape, samples)}
    elif shape is not None:
        found = shape.verdicts(row)
    else:
        found = {path: lookup(row, path) for path in there(row, VERDICT)}
    if shape is None and not found:  # most rows, and grading is fast
        return [NOTHING_SAID] * samples
    verdicts = {key: _each(value, samples) for key, value in found.items()}
    answers = _each(None if shape is None else first_of(row, shape.answers)[1], samples)
    return [
        RowVerdict(
            tuple(
                (key, accepted)
                for key, values in verdicts.items()
                if (accepted := verdict(values[sample])) is not None
            ),
            as_text(answers[sample]),
        )
        for sample in range(samples)
    ]


def check_named(row: Mapping[str, Any], name: str | None, shape: Shape | None) -> None:
    """Raises NoField if a row has no verdict of this name."""
    of_tool = {} if shape is None else shape.verdicts(row)
    if name is not None and name not in of_tool and lookup(row, name) is MISSING:
        raise NoField("verdict", f"field {name!r} is missing")


def _each(value: Any, samples: int) -> list[Any]:
    """A value for each sample, from the first one on; of one value for several samples, none."""
    if isinstance(value, list):
        return (value + [None] * samples)[:samples] if len(value) <= samples else [None] * samples
    return [value] if samples == 1 else [None] * samples


def _named(row: Mapping[str, Any], name: str, shape: Shape | None, samples: int) -> Any:
    of_tool = {} if shape is None else shape.verdicts(row)
    value = of_tool[name] if name in of_tool else lookup(row, name)
    if value is MISSING:
        return [None] * samples
    values = value if isinstance(value, list) else [value]
    if any(item is not None and verdict(item) is None for item in values):
        raise RowError(f"field {name!r} (the verdict) is neither true nor false")
    if len(values) > samples:
        raise RowError(f"field {name!r} holds {len(values)} verdicts for {samples} samples")
    return values + [None] * (samples - len(values))
