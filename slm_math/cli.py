"""The command line: Lightning's commands through LightningCLI, all others through jsonargparse. A
command is imported when it runs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from itertools import pairwise
from typing import Any

from slm_math.command_table import (
    COMMANDS,
    FLAGS,
    LISTS,
    ONE_PROBLEM,
    OPTIONAL,
    POSITIONAL,
    RUNS_AGENTS,
    TRAINING,
    example,
    usage,
)
from slm_math.stopping import Stopped, outlive, say, started_by_launcher, stoppable

# packages of the extra `train`, which `grade` does not need
TRAIN = frozenset(
    """torch lightning transformers peft torchmetrics accelerate aiohttp certifi huggingface_hub
    pyarrow numpy jinja2 latex2mathml matplotlib pygments""".split()  # noqa: SIM905
)

# what is said of a command that was stopped: training tells itself what it saved, once it has begun
HOW_TO_RESUME = {
    "fit": " A checkpoint that is there is resumed with --ckpt_path last_if_any.",
    **dict.fromkeys(
        ("eval", "generate-cot", "grade", "build-data", "download"),
        " Results so far are saved; run the same command to resume.",
    ),
}

# errors of libraries, and of modules that are not imported here, whose message is enough for a user
USER_ERRORS = {
    "MisconfigurationException",
    "SandboxError",
    "EngineError",
    "ModelError",
    "Unusable",
    "BudgetSpent",
    "SafetensorError",
    "UsageError",  # of wandb
    "AuthenticationError",
    "YAMLError",
}


def run(arguments: list[str] | None = None) -> None:
    """Runs one command. Errors that the user can correct are printed in one or two lines; with
    SLM_MATH_TRACEBACK=1 they come with a traceback. Signals and a closed output stop a command, and
    their exit statuses are those of a shell.
    """
    parent = os.getppid() if started_by_launcher() else None
    try:
        with stoppable():
            _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as error:
        stop = Stopped.of(error)
        if parent is not None and stop.status:  # the first rank says what there is to say
            outlive(parent)
        elif parent is None and not stop.reported:
            command = next(iter(sys.argv[1:] if arguments is None else arguments), "")
            say(f"{stop.how}.{HOW_TO_RESUME.get(command, '')}")
        sys.exit(stop.status)


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        from slm_math import __version__

        print(__version__)
        return
    if arguments[0] == "__complete":  # the script of a shell asks
        from slm_math.completing import complete

        print("\n".join(complete(arguments[1:])))
        return
    if arguments[0] not in TRAINING and arguments[0] not in COMMANDS:
        fail(_no_command(arguments[0]))
    if {"-h", "--help"} & set(arguments):
        # before what takes seconds to import
        from slm_math.everyday import EVERYDAY, everyday_help

        if arguments[-1] == "all":
            del arguments[-1]
        elif arguments[0] in EVERYDAY:
            print(everyday_help(arguments[0]))
            return
        print(f"example: {example(arguments[0])}", end="\n\n", flush=True)
    from slm_math.messages import short
    from slm_math.parsing import one_model, with_nulls

    arguments = [arguments[0], *one_model(with_nulls(arguments[1:]))]
    sys.path.append(os.getcwd())  # configs may name classes of the user's project
    try:
        if arguments[0] == "plan" and not {"-h", "--help"} & {*arguments}:
            _plan(arguments[1:])
        elif arguments[0] in COMMANDS:
            _command(arguments[0], arguments[1:])
        else:
            _training(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN:
            raise
        from slm_math.extras import install

        fail(f"`slm-math {arguments[0]}` needs the package {error.name}: {install('train')}")
    except Exception as error:
        is_user_error = (
            isinstance(error, ValueError | OSError)
            or type(error).__name__ in USER_ERRORS
            or str(error).startswith("Early stopping conditioned on metric")
        )
        if not is_user_error or os.environ.get("SLM_MATH_TRACEBACK"):
            raise
        notes = getattr(error, "__notes__", [])  # whose code it was: an agent, a reward
        hint = "; SLM_MATH_TRACEBACK=1 shows where" if notes else ""
        fail(short(str(error)) + "".join(f" ({note}{hint})" for note in notes[:1]))


# words of other tools -> the command
_COMMANDS_ELSEWHERE = {"train": "fit", "evaluate": "eval", "chat": "solve", "score": "grade"}


def _no_command(name: str) -> str:
    from slm_math.spelling import meant, similar

    if name.startswith("-"):
        return f"the command comes before its options: {example('fit')}"
    elsewhere = meant([_COMMANDS_ELSEWHERE[name]] if name in _COMMANDS_ELSEWHERE else [])
    hint = elsewhere or similar(name, [*TRAINING, *COMMANDS])
    return f"there is no command {name!r}{hint or ';'} slm-math --help lists them"


def fail(message: str) -> None:
    from slm_math.visible import visible

    print(f"slm-math: error: {visible(message)}", file=sys.stderr)
    sys.exit(2)


def _command(name: str, arguments: list[str]) -> None:
    from importlib import import_module

    from slm_math.collection import without_collection

    if name in ONE_PROBLEM and "torch" not in sys.modules and sys.stderr.isatty():
        say(f"{name}: loading PyTorch")
    module, _, attribute = COMMANDS[name][0].partition(":")
    with without_collection():
        from slm_math.config_files import arguments_with_new_names
        from slm_math.parsing import classes_first, command_parser
        from slm_math.settings import refuse_overridden

        function = getattr(import_module(module), attribute)
    arguments = _as_lists(arguments, LISTS.get(name, ()))
    arguments = _with_values(arguments, OPTIONAL.get(name, ()))
    if name in POSITIONAL:
        positional, arguments = _positional(arguments, FLAGS.get(name, ()))
        arguments = [
            *_as_options(name, positional),
            *("--out" if argument == "-o" else argument for argument in arguments),
        ]
    if name == "download":
        arguments = _gathered(arguments)
    parser = command_parser(function, name)
    arguments = arguments_with_new_names(arguments, parser.renamed)
    if "config" not in function.__annotations__:
        refuse_overridden(arguments, parser.renamed)
    arguments = classes_first(arguments)
    parsed = parser.parse_args(arguments)
    if "config" not in function.__annotations__:
        parsed.pop("config", None)
    if name in RUNS_AGENTS:
        from slm_math.records.files import configuration

        configuration.set(json.loads(parser.dump(parsed, format="json", skip_none=False)))
    function(**vars(parser.instantiate_classes(parsed)))


def _plan(arguments: list[str]) -> None:
    """`plan` takes the options of `fit`, and two of its own."""
    from slm_math.config_files import arguments_with_new_names
    from slm_math.early import refuse
    from slm_math.parsing import RENAMED, classes_first
    from slm_math.spelling import similar, with_dashes

    device, as_json, rest = None, False, []
    remaining = deque(arguments)
    while remaining:
        name, equals, value = remaining.popleft().partition("=")
        if name == "--device":
            device = value if equals else remaining.popleft() if remaining else ""
        elif name == "--json":
            as_json = value != "false"
        elif "." not in name and (own := similar(name.lstrip("-"), ("device", "json"))):
            raise ValueError(with_dashes(f"there is no option {name.lstrip('-')}{own}", arguments))
        else:
            rest.append(name + equals + value)
    rest = arguments_with_new_names(rest, RENAMED)
    refuse("fit", rest, RENAMED, begins=False)
    from slm_math.plan_command import run_plan

    run_plan(classes_first(rest), device, as_json)


def _as_lists(arguments: list[str], names: tuple[str, ...]) -> list[str]:
    """`--against A B`, or `--against A --against B`, as `--against=["A", "B"]`, for the options of
    these names; numbers stay numbers.
    """
    result: list[str] = []
    earlier: dict[str, list[str]] = {name: [] for name in names}
    remaining = deque(arguments)
    while remaining:
        name, equals, value = remaining.popleft().partition("=")
        if name not in names:
            result.append(name + equals + value)
            continue
        values = [value] if equals else []
        while not equals and remaining and not remaining[0].startswith("-"):
            values.append(remaining.popleft())
        is_list = len(values) == 1 and values[0].startswith("[")
        earlier[name] += values
        listed = ", ".join(each if _is_number(each) else json.dumps(each) for each in earlier[name])
        result.append(f"{name}={values[0] if is_list else f'[{listed}]'}")
    return result


def _with_values(arguments: list[str], names: tuple[str, ...]) -> list[str]:
    """`--copy` as `--copy=` where no value follows, for the options of these names."""
    following = [*arguments[1:], "-"]
    return [
        f"{argument}=" if argument in names and after.startswith("-") else argument
        for argument, after in zip(arguments, following)
    ]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _as_options(name: str, positional: list[str]) -> list[str]:
    """Positional arguments as options: `results FOLDER FOLDER`, `overlap TRAIN TEST`."""
    options = POSITIONAL[name].split()
    filled = [f"--{option}={value}" for option, value in zip(options, positional)]
    if options[-1].endswith("*"):
        single = len(options) - 1
        rest = positional[single:]
        return filled[:single] + ([f"--{options[-1][:-1]}={json.dumps(rest)}"] if rest else [])
    if len(positional) > len(options):
        raise ValueError(
            f"slm-math {name} takes {len(options)} ({', '.join(options)}), got "
            f"{', '.join(positional)}"
        )
    return filled


def _positional(arguments: list[str], flags: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The positional arguments, and all others, with flags as `--flag=true`."""
    positional: list[str] = []
    rest: list[str] = []
    remaining = deque(arguments)
    while remaining:
        argument = remaining.popleft()
        if not argument.startswith("-") or argument == "-":
            positional.append(argument)
        elif argument in flags and (not remaining or remaining[0] not in ("true", "false")):
            rest.append(f"{argument}=true")
        else:
            rest.append(argument)
            if (
                remaining
                and "=" not in argument
                and argument not in ("-h", "--help", "--print_config")
            ):
                rest.append(remaining.popleft())
    return positional, rest


def _gathered(arguments: list[str]) -> list[str]:
    """Several `--config FILE` as one list, for a command that reads configs as data."""
    files = [value for option, value in pairwise(arguments) if option == "--config"]
    rest = [
        a
        for i, a in enumerate(arguments)
        if a != "--config" and (i == 0 or arguments[i - 1] != "--config")
    ]
    return [*rest, f"--config={json.dumps(files)}"] if files else rest


def _training(arguments: list[str]) -> Any:
    from slm_math.collection import without_collection
    from slm_math.config_files import arguments_with_new_names
    from slm_math.early import refuse
    from slm_math.parsing import RENAMED, classes_first
    from slm_math.records.run_lock import unlock_all
    from slm_math.starting import ended, start, starting

    arguments = arguments_with_new_names(arguments, RENAMED)
    refuse(arguments[0], arguments[1:], RENAMED)
    first = "lightning" not in sys.modules
    shown = any("print_config" in each for each in arguments)
    if first and not shown and os.environ.get("LOCAL_RANK", "0") == "0":
        start(arguments[0])
    try:
        with without_collection(forever=first):
            starting("loading PyTorch")
            import torch  # noqa: F401

            starting("loading Lightning and transformers")
            import lightning  # noqa: F401

            starting("reading the configuration")
            from slm_math.training import train

            return train(classes_first(arguments))  # collects again when its first stage begins
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # for which Lightning exits with 1
            raise end.__context__ from None
        raise
    finally:
        ended()
        unlock_all()  # also of a run that was refused before it began
