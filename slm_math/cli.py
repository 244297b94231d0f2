"""The command line: Lightning's commands through LightningCLI, ours through jsonargparse, imported
when asked for.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from itertools import pairwise
from typing import Any

TRAINING = {
    "fit": "train a model: SFT or GRPO, with agents evaluated every epoch",
    "validate": "evaluate agents on the validation split",
    "test": "evaluate agents on the test split",
    "predict": "run agents on the test split, transcripts only",
}
COMMANDS = {
    "eval": ("evaluate", "evaluate agents with any model or endpoint"),
    "grade": ("grade_file", "grade saved completions, or verify verdicts"),
    "results": ("results", "print the results of finished evaluations"),
    "compare": (
        "compare_runs",
        "compare evaluations problem by problem: paired difference, McNemar, what flipped",
    ),
    "report": ("report", "write an HTML report of evaluations, with plots and all transcripts"),
    "overlap": ("overlap_files", "find test problems among training problems"),
    "sandbox": ("serve", "run programs for machines that cannot confine them"),
    "doctor": ("doctor", "say what works on this machine"),
    "download": ("download", "fetch the models and data sets that configs name, for work offline"),
}
# what stands behind a command without an option's name; a star takes all
PLAIN = {
    "grade": "file",
    "results": "folders*",
    "compare": "folders*",
    "report": "folders*",
    "overlap": "train test",
}
FLAGS = {"grade": ("--verify", "--last_number")}  # options that need no value to be true

# packages of the extra `train`, which `grade` does without
TRAIN = frozenset(
    """torch lightning transformers peft torchmetrics accelerate httpx huggingface_hub pyarrow numpy
    jinja2
    latex2mathml matplotlib pygments""".split()  # noqa: SIM905
)

# errors of libraries (and of layers that are not imported here) whose message says what to do
MENDABLE = {"MisconfigurationException", "SandboxError", "EngineError", "SafetensorError"}


def usage() -> str:
    width = max(map(len, [*TRAINING, *COMMANDS]))
    lines = ["usage: slm-math COMMAND [--config FILE ...] [--any.option VALUE ...]", ""]
    lines += [f"  {name:{width}}  {text}" for name, text in TRAINING.items()]
    lines += [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    lines += [
        "",
        "slm-math COMMAND --help lists a command's options; --print_config shows what it would "
        "run with.",
    ]
    lines += ["Options also come from the environment, e.g. SLM_MATH_FIT__TRAINER__MAX_EPOCHS=2."]
    return "\n".join(lines)


def run(arguments: list[str] | None = None) -> None:
    """Runs one command. Errors that a person can mend are one or two lines; SLM_MATH_TRACEBACK=1
    shows where from.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        from slm_math import __version__

        print(__version__)
        return
    if arguments[0] not in TRAINING and arguments[0] not in COMMANDS:
        fail(f"there is no command {arguments[0]!r}; slm-math --help lists them")
    from slm_math.parsing import short, with_nulls

    arguments = [arguments[0], *with_nulls(arguments[1:])]
    sys.path.append(os.getcwd())  # so that a config can name a class of one's own project
    try:
        if arguments[0] in COMMANDS:
            _own(arguments[0], arguments[1:])
        else:
            _training(arguments)
    except KeyboardInterrupt:
        print("interrupted: what was written is kept; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN:
            raise
        fail(
            f"`slm-math {arguments[0]}` needs {error.name}: install what trains models, pip "
            f"install 'slm-math[train]'"
        )
    except Exception as error:
        mendable = isinstance(error, ValueError | OSError) or type(error).__name__ in MENDABLE
        if not mendable or os.environ.get("SLM_MATH_TRACEBACK"):
            raise
        fail(short(str(error)))


def fail(message: str) -> None:
    print(f"slm-math: error: {message}", file=sys.stderr)
    sys.exit(2)


def _own(name: str, arguments: list[str]) -> None:
    from importlib import import_module

    from slm_math.parsing import own_parser

    function = getattr(import_module("slm_math.commands"), COMMANDS[name][0])
    if name in PLAIN:
        plain, arguments = _plain(arguments, FLAGS.get(name, ()))
        arguments = [
            *_named(name, plain),
            *("--out" if argument == "-o" else argument for argument in arguments),
        ]
    if name == "download":
        arguments = _gathered(arguments)
    parser = own_parser(function, name)
    parsed = parser.parse_args(arguments)
    if "config" not in function.__annotations__:
        parsed.pop("config", None)
    if name == "eval":
        from slm_math.records.files import configuration

        configuration.set(json.loads(parser.dump(parsed, format="json", skip_none=False)))
    function(**vars(parser.instantiate_classes(parsed)))


def _named(name: str, plain: list[str]) -> list[str]:
    """What stands without an option's name as options: `results FOLDER FOLDER`, `overlap TRAIN
    TEST`.
    """
    options = PLAIN[name].split()
    if options[0].endswith("*"):
        return [f"--{options[0][:-1]}={json.dumps(plain)}"] if plain else []
    if len(plain) > len(options):
        raise ValueError(
            f"slm-math {name} takes {len(options)} ({', '.join(options)}), got {', '.join(plain)}"
        )
    return [f"--{option}={value}" for option, value in zip(options, plain)]


def _plain(arguments: list[str], flags: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What stands without an option's name, wherever it stands, and the rest, with flags as
    `--flag=true`.
    """
    plain: list[str] = []
    rest: list[str] = []
    waiting = deque(arguments)
    while waiting:
        argument = waiting.popleft()
        if not argument.startswith("-"):
            plain.append(argument)
        elif argument in flags and (not waiting or waiting[0] not in ("true", "false")):
            rest.append(f"{argument}=true")
        else:
            rest.append(argument)
            if (
                waiting
                and "=" not in argument
                and argument not in ("-h", "--help", "--print_config")
            ):
                rest.append(waiting.popleft())
    return plain, rest


def _gathered(arguments: list[str]) -> list[str]:
    """Several `--config FILE` as one list, for a command to which they are data and not its own
    options.
    """
    files = [value for option, value in pairwise(arguments) if option == "--config"]
    rest = [
        a
        for i, a in enumerate(arguments)
        if a != "--config" and (i == 0 or arguments[i - 1] != "--config")
    ]
    return [*rest, f"--config={json.dumps(files)}"] if files else rest


def _training(arguments: list[str]) -> Any:
    from slm_math.training import TrainingCLI

    return TrainingCLI(args=arguments)
