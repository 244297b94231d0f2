"""Numbers of a configuration, checked where they are set: a learning rate of NaN or a batch of no
rows would train in silence, or fail far away from its cause.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises ValueError, which begins with the option's `name`, unless the value is a finite number
    with low <= value <= high and above < value < below.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high and above < number < below:
            return
    bounds = {"of at least": low, "above": above, "of at most": high, "below": below}
    texts = [f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound)]
    raise _refusal(name, f"a number {' and '.join(texts) or 'that is finite'}", value)


def check_whole(name: str, value: Any, low: int = 1, optional: bool = False) -> None:
    """Raises ValueError, which begins with the option's `name`, unless the value is a whole number
    that is at least `low`, or None if the option is `optional`.
    """
    if value is None and optional:
        return
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise _refusal(name, "a whole number", value)
    if value < low:
        raise _refusal(name, f"at least {low}", value)


def check_pair(name: str, values: Any, **bounds: float) -> None:
    """Raises ValueError, which begins with the option's `name`, unless there are two numbers within
    the bounds of `check_number`.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise _refusal(name, "two numbers", values)
    for value in values:
        check_number(name, value, **bounds)


def check_choices(name: str, options: Any) -> None:
    """Raises ValueError, which begins with `name` and the option, unless every option of a class of
    options (a dataclass) that is one of some texts is one of them.
    """
    for option, hint in get_type_hints(type(options)).items():
        value, known = getattr(options, option), get_args(hint)
        if get_origin(hint) is Literal and value not in known:
            raise _refusal(f"{name}.{option}", f"one of {', '.join(known)}", value)


def _refusal(name: str, wanted: str, value: Any) -> ValueError:
    shown = "null" if value is None else f"{value!r:.40}"
    return ValueError(f"{name} must be {wanted}, got {shown}")


def as_share(name: str, value: Any) -> float:
    """A share between 0 and 1 that was written as 2%, or as 0.02. Raises ValueError, which begins
    with the option's `name`, for anything else, such as 2, which may stand for either.
    """
    text = str(value).strip()
    number = text.removesuffix("%").strip()
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if isinstance(value, bool) or not 0 < share < 1:
        raise _refusal(name, "a share between 0 and 1, such as 2% or 0.02", value)
    return share
