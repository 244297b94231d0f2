"""What an option takes, in the words of people, for a value that it does not take."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from slm_math.patterns import lazy_pattern
from slm_math.signatures import Option
from slm_math.spelling import similar

MANY = ("agents", "engines", "sources")  # options that take a class for each name
# what a value should be, in the words of people
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
LITERAL = lazy_pattern(r"Expected a typing\.Literal\[(.*?)\](?:\. Got value: (.*))?$")


def of_length(text: str, option: Option | None) -> str:
    """What is expected of a list, with its length if the type of the option has one."""
    form = ast.unparse(option.annotation) if option and option.annotation else ""
    match = re.search(r"tuple\[([^\[\]]+)\]", form)
    if match is None or "..." in match[1]:
        return text
    return re.sub(r", such as '.*?',", f" of {match[1].count(',') + 1} values,", text, count=1)


def expected(kind: str, value: str, where: str) -> str:
    """What an option takes, if it is no class of ours."""
    if kind in ("tuple", "list", "collections.abc.Sequence"):
        return f"expected a list, such as '[{value.strip('[]()')}]', got {value}"
    if kind == "dict":
        many = where.rpartition(".")[2] in MANY
        form = f"--{where}.NAME {value}" if many else "'{name: value}'"
        return f"expected values by name, such as {form}, got {value}"
    return f"expected {_KINDS.get(kind, kind)}, got {value}"


def either(reasons: Sequence[str]) -> str:
    """One sentence of what an option of several types takes."""
    parts = [text.removeprefix("expected ").rpartition(", got ") for text in reasons]
    kinds = " or ".join(dict.fromkeys(kind for kind, _, _ in parts))
    return (
        f"expected {kinds}, got {parts[-1][2]}" if all(p[1] for p in parts) else "; ".join(reasons)
    )


def of_choices(reasons: Sequence[str], value: str) -> list[str]:
    """That a value is none of those that an option takes: one sentence for all of them."""
    matches = [match for match in map(LITERAL.match, reasons) if match]
    if not matches:
        return []
    choices = list(dict.fromkeys(re.findall(r"'([^']*)'", ", ".join(m[1] for m in matches))))
    got = next((match[2] for match in matches if match[2]), value)
    if not got or got.startswith(("{", "[")):
        return [f"expected one of {', '.join(choices)}"]
    return [f"{got} is none of {', '.join(choices)}{similar(got, choices)}"]
