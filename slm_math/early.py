"""What `fit` can refuse before it imports what takes seconds: a config file that does not exist or
is no YAML, classes and options that certainly do not exist, and paths (`early_paths`). Whatever is
not certain is left to the parser of the command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slm_math.config_files import load, with_new_names
from slm_math.early_paths import refuse_paths
from slm_math.messages import similar
from slm_math.shipped import config_file, is_text
from slm_math.signatures import (
    OURS,
    ROOT,
    Signature,
    Slot,
    has_name,
    parameters,
    read,
    signature,
    slot_of,
)

_TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
_OF_LIGHTNING = {"self", "model", "datamodule", "train_dataloaders", "val_dataloaders"}
_ALWAYS = {
    *("c", "config", "help", "print_config", "seed_everything", "torch_threads"),
    *("fit", "validate", "test", "predict"),  # sections of a config for all commands
    *("optimizer", "lr_scheduler"),
}
_SECTIONS = ("trainer", "model", "data", "eval")
# where the classes are that a config names by their short names
_PLACES = ("slm_math.agents", "slm_math.data", "slm_math.rewards", "slm_math.short_names")
_ALL_PLACES = (*_PLACES, "slm_math.training", "slm_math.callbacks", "lightning.pytorch.callbacks")
_BASES = {
    "model": "slm_math.modules.base.PolicyModule",
    "data": "slm_math.data.batches.SourceData",
    "eval": "slm_math.callbacks.AgentEval",
}
_CLASS = re.compile(r"([a-z_]\w*\.)*[A-Z]\w*")
_SKIPPED = ("dict_kwargs", "help")


@dataclass(frozen=True)
class Setting:
    """An option of a config file or a command line: its path, without `init_args`, its value, and
    whether its last key may be the beginning of the option's name.
    """

    path: tuple[str, ...]
    value: Any
    may_be_short: bool = False


def refuse(
    command: str, arguments: list[str], renamed: dict[str, str], begins: bool = True
) -> None:
    """Raises ValueError for the arguments of a training command that are certainly wrong.

    `renamed` are old names of options; `begins` says that a run begins, in a root of its own.
    """
    settings = list(_settings(arguments, renamed))
    words = [word for setting in settings for word in _class_paths(setting.value)]
    named = {word.partition(".")[0] for word in words if "." in word}
    check = _Check(command, settings, own_classes=bool(named - {OURS, "lightning", "torch"}))
    for setting in settings:
        check.setting(setting)
    refuse_paths(command, settings, begins)


def _settings(arguments: list[str], renamed: dict[str, str]) -> Iterator[Setting]:
    """The options of a command line, and those of its config files."""
    remaining = list(arguments)
    while remaining:
        name, equals, value = remaining.pop(0).partition("=")
        if not name.startswith("-"):
            continue
        if not equals:
            value = remaining.pop(0) if remaining and not remaining[0].startswith("--") else ""
        if name in ("--config", "-c"):
            yield from _of_file(value, renamed)
        elif name.startswith("--"):
            path = name[2:].removesuffix("+").split(".")
            parsed: Any = load(value) if value[:1] in ("{", "[") else value
            yield Setting(_without_marks(path), parsed, may_be_short=True)


def _of_file(value: str, renamed: dict[str, str]) -> Iterator[Setting]:
    text, name = value, None
    if not is_text(value):
        file = config_file(value)
        text, name = file.read_text(encoding="utf-8"), f"config file {file}"
    content = load(text, name)
    if isinstance(content, dict):
        # the command's parser notes old names when it reads the file
        for key, inner in with_new_names(content, renamed, quietly=True).items():
            yield Setting((str(key).removesuffix("+"),), inner)


def _without_marks(path: list[str]) -> tuple[str, ...]:
    return tuple(part for part in path if part not in ("init_args", "class_path"))


def _class_paths(value: Any) -> Iterator[str]:
    """What may be names of classes, at any depth."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _class_paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_paths(inner)
    elif isinstance(value, str) and _CLASS.fullmatch(value):
        yield value


class _Check:
    """Checks settings one by one. `own_classes`: some are not of this project, so that short names
    may be theirs.
    """

    def __init__(self, command: str, settings: list[Setting], own_classes: bool) -> None:
        self.own_classes = own_classes
        method = parameters(_TRAINER, command)
        self.sections = None
        if method is not None:
            self.sections = {*_ALWAYS, *_SECTIONS, *(method - _OF_LIGHTNING)}
        self.trainer = parameters(_TRAINER, "__init__")
        self.classes: dict[tuple[str, ...], set[str]] = {}
        for setting in settings:
            self._note(setting.path, setting.value)

    def _note(self, path: tuple[str, ...], value: Any) -> None:
        """Notes which classes stand at a path."""
        if isinstance(value, str) and _CLASS.fullmatch(value):
            self.classes.setdefault(path, set()).add(value)
        elif isinstance(value, list):
            for inner in value:
                self._note(path, inner)
        elif isinstance(value, dict):
            if isinstance(value.get("class_path"), str):
                self.classes.setdefault(path, set()).add(value["class_path"])
            if isinstance(value.get("init_args"), dict):
                value = value["init_args"]
            for key, inner in value.items() if isinstance(value, dict) else ():
                self._note((*path, str(key).removesuffix("+")), inner)

    def setting(self, setting: Setting) -> None:
        first, *rest = setting.path or ("",)
        if any(part in _SKIPPED for part in setting.path) or not first:
            return
        if first in _SECTIONS:
            self._inside(Setting(tuple(rest), setting.value, setting.may_be_short), (first,))
        elif self.sections is not None and not self._is_known(first, self.sections, setting):
            raise ValueError(f"there is no option {first}{similar(first, self.sections)}")

    def _inside(self, setting: Setting, at: tuple[str, ...]) -> None:
        """An option of a section, or the whole section."""
        if at == ("trainer",):
            self._of_trainer(setting)
            return
        if at == ("eval",):
            _refuse_sampling(setting)
        found = signature(_BASES[at[0]])
        if found is not None:
            slot = Slot((found,), only_classes=True)
            self._slot(setting, slot, at)

    def _of_trainer(self, setting: Setting) -> None:
        inner: dict[str, Setting] = {}
        if setting.path:
            step = Setting(setting.path[1:], setting.value, setting.may_be_short)
            inner = {setting.path[0]: step}
        elif isinstance(setting.value, dict):
            inner = {str(key).removesuffix("+"): Setting((), v) for key, v in setting.value.items()}
        for name, step in inner.items():
            if self.trainer is not None and not self._is_known(name, self.trainer, setting):
                raise ValueError(f"there is no option trainer.{name}{similar(name, self.trainer)}")
            if name == "callbacks":
                slot = Slot(each="list", only_classes=True)
                self._slot(step, slot, ("trainer", "callbacks"))

    def _slot(self, setting: Setting, slot: Slot, at: tuple[str, ...]) -> None:
        """A value, or an option further inside, of what a slot takes."""
        path, value = setting.path, setting.value
        if path and slot.each == "dict":
            inner = Slot(slot.classes, only_classes=slot.only_classes)
            self._slot(Setting(path[1:], value, setting.may_be_short), inner, (*at, path[0]))
        elif path:
            self._option(setting, self._classes_at(slot, at), at)
        elif isinstance(value, list):
            for each in value if slot.each == "list" else ():
                self._slot(Setting((), each), slot, at)
        elif isinstance(value, dict) and "class_path" in value:
            found = self._class(value["class_path"], slot, at)
            options = value.get("init_args")
            for name, each in options.items() if isinstance(options, dict) else ():
                step = Setting((str(name).removesuffix("+"),), each)
                self._option(step, [found], at)
        elif isinstance(value, dict):
            inside = value.get("init_args")
            for name, each in (value | inside if isinstance(inside, dict) else value).items():
                key = str(name).removesuffix("+")
                if key != "init_args":
                    self._slot(Setting((key,), each), slot, at)
        elif isinstance(value, str) and _CLASS.fullmatch(value):
            self._class(value, slot, at)

    def _classes_at(self, slot: Slot, at: tuple[str, ...]) -> list[Signature | None]:
        """The classes that may be meant at a path: those that are named there, or else the one that
        the slot takes, if it takes no others.
        """
        named = self.classes.get(at)
        if named:
            return [self._found(name) for name in named]
        if len(slot.classes) == 1 and slot.classes[0].name not in _SUBCLASSED:
            return [slot.classes[0]]
        return [None]

    def _option(
        self, setting: Setting, classes: list[Signature | None], at: tuple[str, ...]
    ) -> None:
        name, *rest = setting.path
        known = {option for cls in classes if cls is not None for option in cls.options}
        if any(cls is None or cls.is_open for cls in classes) or name in _SKIPPED:
            pass
        elif not self._is_known(name, known, setting):
            where = ".".join((*at, name))
            raise ValueError(f"there is no option {where}{similar(name, known)}")
        options = [cls.options[name] for cls in classes if cls is not None and name in cls.options]
        if len(options) == 1:
            step = Setting(tuple(rest), setting.value, setting.may_be_short)
            self._slot(step, slot_of(options[0]), (*at, name))

    def _class(self, name: Any, slot: Slot, at: tuple[str, ...]) -> Signature | None:
        """The class that a name stands for. Raises ValueError if there certainly is none."""
        found = self._found(name) if isinstance(name, str) else None
        if found is not None or not slot.only_classes or not isinstance(name, str):
            return found
        top = name.partition(".")[0]
        if "." in name and (top != OURS or has_name(name)):
            _refuse_former(name, at)
            return None
        short = name.rpartition(".")[2]
        if "." not in name and (self.own_classes or _is_defined(short)):
            return None
        known = _known(slot)
        raise ValueError(
            f"{'.'.join(at)}: there is no class {name}{similar(short, known)} (known: "
            f"{', '.join(sorted(known))}; for a class of your own, its dotted path)"
        )

    def _found(self, name: str) -> Signature | None:
        if "." in name:
            return signature(name)
        found = (signature(f"{place}.{name}") for place in _ALL_PLACES)
        return next((cls for cls in found if cls is not None), None)

    def _is_known(self, name: str, known: set[str], setting: Setting) -> bool:
        short = setting.may_be_short and any(each.startswith(name) for each in known)
        return name in known or short


# classes whose place another one takes; of all others a config gives the options alone
_SUBCLASSED = ("Agent", "Reward", "Source", "Engine", "PolicyModule", "SourceData", "Sandbox")


def _refuse_sampling(setting: Setting) -> None:
    """Raises ValueError for `eval.max_new_tokens` and `eval.sampling`, whose place is deeper."""
    sampling, value = signature("slm_math.types.Sampling"), setting.value
    names = setting.path[:1] or (tuple(value) if isinstance(value, dict) else ())
    known = {*(sampling.options if sampling else ()), "sampling"}
    for name in known & {str(name) for name in names}:
        last = "" if name == "sampling" else f".{name}"
        raise ValueError(
            f"there is no option eval.{name}: did you mean eval.inference.sampling{last}?"
        )


def _refuse_former(name: str, at: tuple[str, ...]) -> None:
    """Raises ValueError for a callback of ours under its former package, unless a package of that
    name, which is the user's, has such a class.
    """
    ours = name.startswith("callbacks.") and signature(f"{OURS}.{name}") is not None
    if ours and not has_name(name):
        short = name.rpartition(".")[2]
        raise ValueError(
            f"{'.'.join(at)}: there is no class {name} any more: write {short}, the name of the "
            f"callback of slm-math (in code, from slm_math.callbacks import {short})"
        )


def _known(slot: Slot) -> set[str]:
    """The short names of the classes that a slot takes."""
    bases = {cls.name for cls in slot.classes}
    known: set[str] = set()
    for place in [*_PLACES, "slm_math.training"] if bases else ["slm_math.callbacks"]:
        module = read(place)
        for name in module.imported if module else ():
            found = signature(f"{place}.{name}")
            if found is not None and (not bases or bases & found.bases):
                known.add(name)
    return known - {"LightningArgumentParser", "LightningCLI", *_SUBCLASSED}


def _is_defined(name: str) -> bool:
    """Whether some file of the project defines a class of this name."""
    text = re.compile(rf"class {name}\b".encode())
    # in a source tree the folder of callbacks is a link, which rglob does not follow
    folders = (ROOT / OURS, ROOT / OURS / "callbacks")
    files = (file for folder in folders for file in folder.rglob("*.py"))
    return any(text.search(file.read_bytes()) for file in files)
