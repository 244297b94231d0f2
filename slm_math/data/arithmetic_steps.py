"""Expressions such as `8*6+35`, and what can be written about them: steps, programs, mistakes."""

from __future__ import annotations

import random
import re


def evaluate(expression: str) -> int:
    """The value of e.g. `8*6+35`; a division must come out even."""
    return int(worked(expression)[-1].rpartition("=")[2])


def worked(expression: str) -> list[str]:
    """One equation per step, e.g. `8*6+35` -> ["8*6=48", "48+35=83"], from left to right (products
    stand first).
    """
    total, *steps = re.findall(r"[-+*/]?\d+", expression)
    lines = [] if steps else [f"{total}={total}"]
    for step in steps:
        left, right = int(total), int(step[1:])
        if step[0] == "/" and left % right:
            raise ValueError(f"{left}/{right} does not come out even")
        total = str(
            {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[step[0]]
        )
        lines.append(f"{left}{step}={total}")
    return lines


def program(expression: str, claim: int | None = None) -> str:
    """The program that prints the value, or whether a claim is right, as an assistant writes it."""
    value = expression.replace("/", "//")
    return f"```python\nprint({value if claim is None else f'{value}=={claim}'})\n```"


def reasoning(expression: str) -> str:
    """A worked solution that ends in its answer."""
    return "\n".join([*worked(expression), f"#### {evaluate(expression)}"])


def mistaken(draw: random.Random, expression: str) -> int:
    """A wrong answer: a slip of the arithmetic, a wrong operation, or a step left out."""
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
