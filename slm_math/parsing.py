"""Argument parsers whose errors are short."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

ENV_PREFIX = "SLM_MATH"


class Parser(ArgumentParser):
    """A jsonargparse parser that answers a mistake in a line or two instead of a page."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"slm-math: error: {short(message)}", file=sys.stderr)
        sys.exit(2)


def short(message: str) -> str:
    """The lines of a jsonargparse message that say what is wrong and where."""
    return message


def own_parser(function: Callable[..., Any], name: str) -> Parser:
    """The parser of one of our own commands, from the function's signature and docstring."""
    parser = Parser(prog=f"slm-math {name}", default_env=True, env_prefix=f"{ENV_PREFIX}_{name.upper()}")
    parser.add_argument("--config", action="config", help="a YAML file; may be given several times, later ones win")
    parser.add_function_arguments(function, as_positional=False)
    return parser
