"""Argument parsers whose errors are short."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, NoReturn

from jsonargparse import ArgumentParser, Namespace

from slm_math.command_table import ONE_PROBLEM, TRAINING, form
from slm_math.config_files import ConfigFile, environment_with_new_names
from slm_math.everyday import fitted
from slm_math.messages import short
from slm_math.spelling import similar
from slm_math.visible import visible

ENV_PREFIX = "SLM_MATH"
CONFIG_HELP = (
    "a YAML file, or the name of one that comes with slm-math (see slm-math configs); may be given "
    "several times, later ones win"
)
# the old names of options of training commands
RENAMED = {
    f"model.{name}": f"model.inference.{name}" for name in ("sampling", "engine", "slots", "vllm")
}
# a class as the value of an option: GSM8K, my_data.Mine, {class_path: GSM8K, limit: 100}
_CLASS = re.compile(r"(\w+\.)*[A-Z]\w*$|\{.*\bclass_path\b", re.DOTALL)


class Parser(ArgumentParser):
    """A jsonargparse parser whose errors are one or two lines instead of a page.

    `renamed` maps the old names of options, which work for one version, to the new ones.
    """

    renamed: ClassVar[dict[str, str]] = {}
    _environment: dict[str, str] | None = None  # with the new names of options

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # the beginning of a name may be that of another option in the next version
        super().__init__(*args, **({"allow_abbrev": False} | kwargs))
        # argparse takes -1e-4 for the name of an option
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE
        )

    def format_help(self) -> str:
        return fitted(super().format_help())

    def _load_env_vars(self, env: Mapping[str, str], defaults: bool) -> Namespace:
        """Reads the environment, in which options may have their old names, too."""
        if self._environment is None:  # it is read several times, and noted once
            prefix = f"{self.env_prefix}_"
            options = [action.dest for action in self._actions]
            self._environment = environment_with_new_names(env, prefix, options, self.renamed)
            if self.env_prefix != ENV_PREFIX:  # that of all commands
                _refuse_unknown(self._environment, prefix.upper(), options)
        return super()._load_env_vars(env=self._environment, defaults=defaults)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # the parser of a class inside; the outer one says where it is
            super().error(message, ex)
        arguments = getattr(self, "args", None) or [""]
        # the parser of training has the command among its arguments
        command = arguments[0] if arguments[0] in TRAINING else self.prog.split()[-1]
        shown = visible(short(message, arguments, command))
        print(f"slm-math: error: {shown}", file=sys.stderr)
        sys.exit(2)


class EvalParser(Parser):
    """The parser of `slm-math eval`."""

    renamed: ClassVar[dict[str, str]] = {
        "policy": "model",
        "sampling": "inference.sampling",
        "engine": "inference.engine",
        "slots": "inference.slots",
    }


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


def one_model(arguments: list[str]) -> list[str]:
    """The arguments with the way to a model that the command line does not name set to null, where
    it names the other one: a folder instead of random weights that a file before asks for, or these
    instead of a folder.
    """
    ways = ("--model.policy.path", "--model.policy.scratch")
    named = [
        [n for n, each in enumerate(arguments) if re.match(rf"{re.escape(way)}(?![\w+-])", each)]
        for way in ways
    ]
    if bool(named[0]) == bool(named[1]):
        return arguments
    first = min(named[0] + named[1])
    files = [n for n, each in enumerate(arguments[:first]) if re.match(r"(--config|-c)(=|$)", each)]
    if not files:
        return arguments
    end = files[-1] + (1 if "=" in arguments[files[-1]] else 2)
    other = ways[bool(named[0])].rpartition(".")[2]
    tree = {"model": {"policy": {other: None}}}
    return [*arguments[:end], "--config", json.dumps(tree), *arguments[end:]]


def classes_first(arguments: list[str]) -> list[str]:
    """The arguments with the options of a class behind the class that they belong to, so that
    `--data.source GSM8K --data ProblemData` is `--data ProblemData --data.source GSM8K`.

    The order stays as it is otherwise, and where a class is named before. No option moves past a
    config file: later files win over it.
    """
    units: list[list[str]] = []  # an option and its values
    for argument in arguments:
        if argument == "-c" or argument.startswith("--") or not units:
            units.append([])
        units[-1].append(argument)
    names = [unit[0].partition("=")[0].removesuffix(".class_path") for unit in units]
    classes: dict[str, int] = {}  # option -> where it names a class for the first time
    for index, (unit, name) in enumerate(zip(units, names)):
        value = " ".join(unit).removeprefix(unit[0].partition("=")[0]).lstrip("= ")
        if name.startswith("--") and (_CLASS.match(value) or _is_benchmark(name, value)):
            classes.setdefault(name, index)

    def place(index: int) -> tuple[int, int, int]:
        parts = names[index].split(".")
        above = [".".join(parts[:count]) for count in range(1, len(parts))]
        at = max([index, *(classes[name] for name in above if name in classes)])
        if {"--config", "-c"} & set(names[index:at]):
            at = index
        return at, len(parts), index  # of options behind the same class, the outer ones first

    return [word for index in sorted(range(len(units)), key=place) for word in units[index]]


def _refuse_unknown(environment: Mapping[str, str], prefix: str, options: list[str]) -> None:
    """Raises ValueError for a variable of a command that sets none of its options."""
    groups = {option.rpartition(".")[0] for option in options}  # whose options are all there
    for name in sorted(environment):
        option = name.removeprefix(prefix).lower().replace("__", ".")
        if not name.startswith(prefix) or option[:1] in ("_", "."):
            continue
        above = {option[:n] for n, character in enumerate(option) if character == "."}
        if option not in options and not above & (set(options) - groups):
            raise ValueError(
                f"the environment variable {name} sets no option"
                + similar(name, [prefix + each.upper().replace(".", "__") for each in options])
            )


def _is_benchmark(name: str, value: str) -> bool:
    """Whether an option names a benchmark, whose class has a name in lower case."""
    return name.endswith("source") and value.isidentifier() and value != "null"


def command_parser(function: Callable[..., Any], name: str) -> Parser:
    """The parser of a command, from the signature and the docstring of its function."""
    kind = EvalParser if name == "eval" else Parser
    variables = f"{ENV_PREFIX}_{name.upper().replace('-', '_')}"
    parser = kind(prog=f"slm-math {name}", usage=form(name), default_env=True, env_prefix=variables)
    takes_config = "config" in function.__annotations__
    if not takes_config:
        parser.add_argument(
            "--config",
            action=ConfigFile,
            help=CONFIG_HELP,
        )
    # short names of classes are those of imported modules
    if name in ("eval", "check-data", "generate-cot", "solve", "serve-agent"):
        import_module("slm_math.short_names")
    parser.add_function_arguments(function, as_positional=False)
    if name in ONE_PROBLEM:  # so that its options need no class
        parser.set_defaults({"agent": {"class_path": "slm_math.agents.SingleShot"}})
    first = (inspect.getdoc(function) or "").partition("\n")[0]
    for group in parser._action_groups:  # jsonargparse takes the first line for a sentence
        if first and (group.title or "").startswith(first):
            group.title = first_sentence(function).rstrip(".")
    return parser


def first_sentence(function: Callable[..., Any]) -> str:
    """What a function does, by its docstring, without an example."""
    paragraph = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.?]) ", paragraph.partition(": `slm-math")[0])[0]
