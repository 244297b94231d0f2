"""Count the steps of a comparison, so that its limit does not depend on the speed of the machine.

A step is a node of an expression that gets a value, at usual precision, or a tenth of an object
that sympy makes. Only the algebra process counts.
"""

from __future__ import annotations

from typing import Any

_OBJECT = 10  # steps for an object of a library
_left = 0


class OutOfSteps(BaseException):
    """The question takes more steps than allowed. No `except Exception` may catch it."""


def allow(steps: int) -> None:
    """Start to count: so many steps are left."""
    global _left
    _left = steps


def left() -> int:
    return max(_left, 0)


def spend(steps: int) -> None:
    """Take steps. Raises OutOfSteps when none are left."""
    global _left
    _left -= steps
    if _left < 0:
        raise OutOfSteps


def count_libraries() -> None:
    """Count what sympy does, by hooks that cost next to nothing.

    Every expression of sympy is made by `Basic.__new__`, and every numeric value by `evalf`. The
    parser of LaTeX is not counted: it remembers forms, so that its work depends on what it has read
    before. The length of the text bounds it.
    """
    from sympy.core import evalf
    from sympy.core.basic import Basic

    make, value = Basic.__new__, evalf.evalf

    def counted_make(cls: Any, *args: Any) -> Any:
        spend(_OBJECT)
        return make(cls, *args)

    def counted_value(*args: Any) -> Any:
        spend(_OBJECT)
        return value(*args)

    Basic.__new__ = counted_make  # pyright: ignore[reportAttributeAccessIssue]
    evalf.evalf = counted_value
