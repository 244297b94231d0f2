"""Argument parsers whose errors are short."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

ENV_PREFIX = "SLM_MATH"
# what jsonargparse says around the reason: union bookkeeping and dumps of the whole configuration
_NOISE = re.compile(
    r"^\s*(Does not validate|Subtypes:|Errors:|Given value|[-–]?\s*Expected a <class 'NoneType'>"
    r"|[-–]?\s*Expected a path but|Parser key \"(model|data|trainer)\":\s*$)"
)


class Parser(ArgumentParser):
    """A jsonargparse parser that answers a mistake in a line or two instead of a page."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"slm-math: error: {short(message)}", file=sys.stderr)
        sys.exit(2)


def short(message: str) -> str:
    """The lines of a jsonargparse message that say what is wrong and where, a misspelt class with
    what may be meant.
    """
    lines = [
        line.strip().lstrip("-–").strip() for line in message.splitlines() if not _NOISE.match(line)
    ]
    lines = list(dict.fromkeys(line for line in lines if line))
    text = " ".join(lines) if lines else message.splitlines()[0]
    text = re.sub(r"Expected a dot import path string: (\S+)", lambda m: _no_class(m[1]), text)
    text = re.sub(
        r"Problem with given class_path '(\S+)': module \S+ has no attribute \S+",
        lambda m: _no_class(m[1]),
        text,
    )
    text = re.sub(r"Option '(\S+)' is not accepted", lambda m: _no_option(m[1]), text)
    text = re.sub(
        r"^Parser key \"config\": File does not exist: ", "config file does not exist: ", text
    )
    return text if len(text) <= 600 else text[:600] + " ..."


def _no_class(name: str) -> str:
    return f"there is no class {name}" + _meant(
        name.rpartition(".")[2], {cls.__name__ for cls in _ours()}
    )


def _no_option(name: str) -> str:
    known = {option for cls in _ours() for option in getattr(cls.__init__, "__annotations__", {})}
    return f"there is no option {name}" + _meant(name, known)


def _meant(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known - {name}), n=3)
    return f": did you mean {' or '.join(close)}?" if close else ""


def _ours() -> Iterator[type]:
    """The classes that a config may name by class_path."""
    for module in [
        m for name, m in sys.modules.items() if name.partition(".")[0] in ("slm_math", "callbacks")
    ]:
        yield from (value for value in vars(module).values() if isinstance(value, type))


def with_nulls(arguments: list[str]) -> list[str]:
    """`--a.b null` as `--config '{"a": {"b": null}}'`: jsonargparse takes a nested null for the
    text "None".
    """
    found: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        following = arguments[index + 1] if index + 1 < len(arguments) else None
        name, _, value = argument.partition("=")
        given = value if "=" in argument else following
        if not argument.startswith("--") or "." not in name or given != "null":
            found.append(argument)
            index += 1
            continue
        tree: Any = None
        for key in reversed(name[2:].split(".")):
            tree = {key: tree}
        found += ["--config", json.dumps(tree)]
        index += 1 if "=" in argument else 2
    return found


def own_parser(function: Callable[..., Any], name: str) -> Parser:
    """The parser of one of our own commands, from the function's signature and docstring."""
    parser = Parser(
        prog=f"slm-math {name}", default_env=True, env_prefix=f"{ENV_PREFIX}_{name.upper()}"
    )
    takes_config = "config" in function.__annotations__
    if not takes_config:
        parser.add_argument(
            "--config",
            action="config",
            help="a YAML file; may be given several times, later ones win",
        )
    parser.add_function_arguments(function, as_positional=False)
    return parser
