"""Argument parsers whose errors are short."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, NoReturn

from jsonargparse import ArgumentParser

from slm_math.config_files import ConfigFile

ENV_PREFIX = "SLM_MATH"
# lines of jsonargparse's messages without a reason: attempts of a union, the whole configuration
_NOISE = re.compile(
    r"^\s*(Does not validate|Subtypes:|Errors:|Given value|[-–]?\s*Expected a <class 'NoneType'>"
    r"|[-–]?\s*Expected a path but|Parser key \"(model|data|trainer)\":\s*$)"
)


class Parser(ArgumentParser):
    """A jsonargparse parser whose errors are one or two lines instead of a page.

    `renamed` maps the old names of options, which work for one version, to the new ones.
    """

    renamed: ClassVar[dict[str, str]] = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"slm-math: error: {short(message)}", file=sys.stderr)
        sys.exit(2)


class EvalParser(Parser):
    """The parser of `slm-math eval`."""

    renamed: ClassVar[dict[str, str]] = {
        "policy": "model",
        "sampling": "inference.sampling",
        "engine": "inference.engine",
        "slots": "inference.slots",
    }


def short(message: str) -> str:
    """The lines of a jsonargparse message that say what is wrong and where. For a misspelled class
    they name similar classes and all known ones.
    """
    lines = [
        line.strip().lstrip("-–").strip() for line in message.splitlines() if not _NOISE.match(line)
    ]
    lines = list(dict.fromkeys(line for line in lines if line))
    text = " ".join(lines) if lines else message.splitlines()[0]
    base = _base_class(text)
    text = re.sub(
        r"Expected a dot import path string: (\S+)", lambda m: _no_class(m[1], base), text
    )
    text = re.sub(
        r"Problem with given class_path '(\S+)': module \S+ has no attribute \S+",
        lambda m: _no_class(m[1], base),
        text,
    )
    text = re.sub(r"Option '(\S+)' is not accepted", lambda m: _no_option(m[1]), text)
    text = re.sub(
        r"^Parser key \"config\": File does not exist: ", "config file does not exist: ", text
    )
    return text if len(text) <= 600 else text[:600] + " ..."


# option -> the base class of what it takes
_BASES = {
    "source": "Source",
    "shots_source": "Source",
    "sources": "Source",
    "agent": "Agent",
    "agents": "Agent",
    "rewards": "Reward",
    "engines": "Engine",
    "model": "PolicyModule",
    "data": "SourceData",
    "sandbox": "Sandbox",
}


def _base_class(message: str) -> type | None:
    """The base class of the class that an error is about, by the option that the error names."""
    keys = [key.rpartition(".")[2] for key in re.findall(r'Parser key "([^"]+)"', message)]
    base = next((_BASES[key] for key in reversed(keys) if key in _BASES), None)
    return next((cls for cls in _our_classes() if cls.__name__ == base), None)


def _no_class(name: str, base: type | None) -> str:
    known = {cls.__name__ for cls in _named_classes() if base is None or issubclass(cls, base)}
    if base is not None:
        known.discard(base.__name__)
    text = f"there is no class {name}" + _similar(name.rpartition(".")[2], known)
    if base is None:
        return text
    return f"{text} (known: {', '.join(sorted(known))}; for a class of your own, its dotted path)"


def _no_option(name: str) -> str:
    known = {
        option for cls in _our_classes() for option in getattr(cls.__init__, "__annotations__", {})
    }
    return f"there is no option {name}" + _similar(name, known)


def _similar(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known - {name}), n=3)
    return f": did you mean {' or '.join(close)}?" if close else ""


# the modules whose classes a config may name
_NAMED = (
    "slm_math.agents",
    "slm_math.data",
    "slm_math.rewards",
    "slm_math.short_names",
    "slm_math.training",
    "callbacks",
)


def _named_classes() -> Iterator[type]:
    """The classes of slm-math that a config of the command may name."""
    return _classes(module for name, module in sys.modules.items() if name in _NAMED)


def _our_classes() -> Iterator[type]:
    """The public classes of the imported modules of slm-math and of its callbacks."""
    ours = ("slm_math", "callbacks")
    return _classes(m for name, m in sys.modules.items() if name.partition(".")[0] in ours)


def _classes(modules: Iterable[ModuleType]) -> Iterator[type]:
    for module in list(modules):
        yield from (
            value
            for value in vars(module).values()
            if isinstance(value, type) and not value.__name__.startswith("_")
        )


def with_nulls(arguments: list[str]) -> list[str]:
    """`--a.b null` as `--config '{"a": {"b": null}}'`, because jsonargparse reads a nested null as
    the text "None".
    """
    result: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        following = arguments[index + 1] if index + 1 < len(arguments) else None
        name, _, value = argument.partition("=")
        text = value if "=" in argument else following
        if not argument.startswith("--") or "." not in name or text != "null":
            result.append(argument)
            index += 1
            continue
        tree: Any = None
        for key in reversed(name[2:].split(".")):
            tree = {key: tree}
        result += ["--config", json.dumps(tree)]
        index += 1 if "=" in argument else 2
    return result


def command_parser(function: Callable[..., Any], name: str) -> Parser:
    """The parser of a command, from the signature and the docstring of its function."""
    kind = EvalParser if name == "eval" else Parser
    parser = kind(
        prog=f"slm-math {name}", default_env=True, env_prefix=f"{ENV_PREFIX}_{name.upper()}"
    )
    takes_config = "config" in function.__annotations__
    if not takes_config:
        parser.add_argument(
            "--config",
            action=ConfigFile,
            help="a YAML file; may be given several times, later files win",
        )
    if name == "eval":  # short names of classes are those of imported modules
        import_module("slm_math.short_names")
    parser.add_function_arguments(function, as_positional=False)
    return parser
