"""Expressions such as `8*6+35`, and what can be written about them: steps, programs, mistakes."""

from __future__ import annotations

import operator
import random
import re
from functools import lru_cache

_EXPRESSIONS = 1 << 14  # remembered: a problem asks for its own several times, drills repeat theirs

OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


@lru_cache(_EXPRESSIONS)
def evaluate(expression: str) -> int:
    """The value of an expression such as `8*6+35`. Raises ValueError if a division is not exact."""
    return int(worked(expression)[-1].rpartition("=")[2])


@lru_cache(_EXPRESSIONS)
def worked(expression: str) -> tuple[str, ...]:
    """One equation per step from left to right: `8*6+35` -> ("8*6=48", "48+35=83"). A product must
    come first.
    """
    total, *steps = re.findall(r"[-+*/]?\d+", expression)
    lines = [] if steps else [f"{total}={total}"]
    for step in steps:
        left, right, sign = int(total), int(step[1:]), step[0]
        if sign == "/" and left % right:
            raise ValueError(f"{left}/{right} does not come out even")
        total = str(OPERATIONS[sign](left, right))
        lines.append(f"{left}{step}={total}")
    return tuple(lines)


def expression_of(solution: str) -> str:
    """The expression that a worked solution works out, whose lines are those of `worked`."""
    first, *others = [line.partition("=")[0] for line in solution.splitlines() if "=" in line]
    return first + "".join(re.sub(r"^\d+", "", other) for other in others)


def program(expression: str, claim: int | None = None) -> str:
    """The assistant's program, which prints the value, or whether the value `claim` is correct."""
    value = expression.replace("/", "//")
    return f"```python\nprint({value if claim is None else f'{value}=={claim}'})\n```"


def reasoning(expression: str) -> str:
    """A worked solution that ends in its answer."""
    return "\n".join([*worked(expression), f"#### {evaluate(expression)}"])


def mistaken(draw: random.Random, expression: str) -> int:
    """A wrong answer: an arithmetic error, a wrong operation, or a missing step."""
    right = evaluate(expression)
    steps = [int(line.rpartition("=")[2]) for line in worked(expression)]
    swapped = evaluate(expression.translate(str.maketrans("+-", "-+")))
    slips = [
        right + draw.choice((-20, -10, -2, -1, 1, 2, 10, 20)),
        steps[0],
        swapped,
        draw.randint(1, 99),
    ]
    return draw.choice([slip for slip in slips if slip > 0 and slip != right] or [right + 1])


def attempt(draw: random.Random, expression: str) -> str:
    """A worked solution that is right, or one whose last step is wrong."""
    if draw.random() < 0.5:
        return reasoning(expression)
    *lines, last = worked(expression)
    answer = mistaken(draw, expression)
    return "\n".join([*lines, f"{last.rpartition('=')[0]}={answer}", f"#### {answer}"])
