"""The options of a command by their whole names, as `model.optim.lr`, read from source files: in
milliseconds, where the parser of the command takes seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

from slm_math.command_table import COMMANDS, TRAINING
from slm_math.named_classes import SUBCLASSED, find_class
from slm_math.signatures import Option, Signature, function_options, signature, slot_of

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
CALLBACK = "slm_math.callbacks.AgentEval"  # its options are those of `eval`
# what a section takes if no class is named
SECTIONS = {"model": ("SFTModule", "GRPOModule"), "data": ("ChatData", "ProblemData")}
OF_TRAINING = (
    *("config", "ckpt_path", "seed_everything", "torch_threads", "controls"),
    *("trainer", "model", "data", "eval"),
)
WITH_OPTIONS = ("trainer", "model", "data", "eval")
DEPTH = 6  # of options in options

# option, as the parts of its name -> the classes that stand there
Classes = Mapping[tuple[str, ...], Collection[str]]


def option_names(
    command: str, classes: Classes | None = None, begin: str = ""
) -> dict[str, Option | None]:
    """All options of a command with their types; those of classes that stand for others only where
    `classes` names them. With the beginning of a name, nothing else is looked into, since each
    class is a file to read.
    """
    names: dict[str, Option | None] = {"config": None}
    classes = classes or {}
    if command in COMMANDS:
        path = COMMANDS[command][0].replace(":", ".")
        for name, option in function_options(path).items():
            _add(names, option, (name,), classes, begin=begin)
        return names
    if command not in TRAINING:
        return names
    names |= dict.fromkeys(OF_TRAINING)
    for at, path in (("trainer", TRAINER), ("eval", CALLBACK)):
        if _leads((at,), begin):
            _add_class(
                names, signature(path), (at,), {} if at == "trainer" else classes, begin=begin
            )
    for at, defaults in SECTIONS.items():
        for name in classes.get((at,)) or defaults if _leads((at,), begin) else ():
            _add_class(names, find_class(name), (at,), classes, begin=begin)
    return names


def elsewhere(option: str, value: str, command: str) -> str:
    """Which other command has an option with this value, as the end of a sentence."""
    for name, (path, *_) in COMMANDS.items():
        known = function_options(path.replace(":", ".")).get(option)
        kind = known.annotation if known else None
        if name != command and kind is not None and repr(value) in ast.unparse(kind):
            return f": that is `slm-math {name} --{option} {value}`"
    return ""


def _leads(at: tuple[str, ...], begin: str) -> bool:
    """Whether a name that begins so may be that of an option, or of one inside it."""
    name = ".".join(at)
    return name.startswith(begin) or begin.startswith(f"{name}.")


def _add(
    names: dict[str, Option | None],
    option: Option,
    at: tuple[str, ...],
    classes: Classes,
    begin: str,
) -> None:
    """Adds an option, and the options of what it takes."""
    names[".".join(at)] = option
    if len(at) > DEPTH or not _leads(at, begin):
        return
    slot = slot_of(option)
    if slot.each == "dict":
        inside = {path for path in classes if path[:-1] == at}
        for path in sorted(inside):
            for name in classes[path]:
                _add_class(names, find_class(name), path, classes, begin=begin)
    elif not slot.each:
        found = [find_class(name) for name in classes.get(at, ())]
        if not found and len(slot.classes) == 1 and slot.classes[0].name not in SUBCLASSED:
            found = [slot.classes[0]]
        for cls in found:
            _add_class(names, cls, at, classes, begin=begin)


def _add_class(
    names: dict[str, Option | None],
    cls: Signature | None,
    at: tuple[str, ...],
    classes: Classes,
    begin: str,
) -> None:
    for name, option in cls.options.items() if cls else ():
        _add(names, option, (*at, name), classes, begin=begin)
