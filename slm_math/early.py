"""What `fit` can refuse before it imports what takes seconds: a config file that does not exist or
is no YAML, and classes and options that certainly do not exist. Whatever is not certain is left to
the parser of the command.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slm_math.config_files import load, with_new_names
from slm_math.messages import similar
from slm_math.shipped import config_file, is_text
from slm_math.signatures import (
    OURS,
    ROOT,
    Option,
    Signature,
    has_name,
    parameters,
    read,
    resolved,
    signature,
)

_TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
_OF_LIGHTNING = {"self", "model", "datamodule", "train_dataloaders", "val_dataloaders"}
_ALWAYS = {
    *("c", "config", "help", "print_config", "seed_everything", "torch_threads"),
    *("fit", "validate", "test", "predict"),  # sections of a config for all commands
    *("optimizer", "lr_scheduler"),
}
_SECTIONS = ("trainer", "model", "data")
# where the classes are that a config names by their short names
_PLACES = ("slm_math.agents", "slm_math.data", "slm_math.rewards", "slm_math.short_names")
_ALL_PLACES = (*_PLACES, "slm_math.training", "slm_math.callbacks", "lightning.pytorch.callbacks")
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


@dataclass(frozen=True)
class Slot:
    """What an option takes: objects of classes, one or (`each`: list, dict) several of them."""

    classes: tuple[Signature, ...] = ()
    each: str = ""
    only_classes: bool = False


def refuse(command: str, arguments: list[str], renamed: dict[str, str]) -> None:
    """Raises ValueError for the arguments of a training command that are certainly wrong.

    `renamed` are old names of options.
    """
    settings = list(_settings(arguments, renamed))
    words = [word for setting in settings for word in _class_paths(setting.value)]
    named = {word.partition(".")[0] for word in words if "." in word}
    check = _Check(command, settings, own_classes=bool(named - {OURS, "lightning", "torch"}))
    for setting in settings:
        check.setting(setting)


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
        base = "slm_math.modules.base.PolicyModule" if at == ("model",) else ""
        base = base or "slm_math.data.batches.SourceData"
        found = signature(base)
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
            self._slot(step, _slot_of(options[0]), (*at, name))

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


_CONTAINERS = {"dict": "dict", "Mapping": "dict", "list": "list", "Sequence": "list"}
# classes whose place another one takes; of all others a config gives the options alone
_SUBCLASSED = ("Agent", "Reward", "Source", "Engine", "PolicyModule", "SourceData", "Sandbox")


def _slot_of(option: Option) -> Slot:
    """What an option takes, by the annotation of its source: a class, or a list or dict of objects
    of one; nothing is known of other unions.
    """
    annotation = option.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    each = ""
    kinds = [kind for kind in _union(annotation) if not _is_none(kind)]
    if len(kinds) == 1 and isinstance(kinds[0], ast.Subscript):
        each = _CONTAINERS.get(getattr(kinds[0].value, "id", ""), "")
        inner = kinds[0].slice
        if not each:
            return Slot()
        last = inner.elts[-1] if isinstance(inner, ast.Tuple) and each == "dict" else inner
        kinds = _union(last)
    classes = [
        resolved(kind.id, option.module) if isinstance(kind, ast.Name) else None for kind in kinds
    ]
    found = tuple(cls for cls in classes if cls is not None and cls.module.startswith(OURS))
    return Slot(found, each, only_classes=len(found) == len(kinds) > 0) if found else Slot()


def _union(annotation: ast.expr | None) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        return [*_union(annotation.left), *_union(annotation.right)]
    return [annotation] if annotation is not None else []


def _is_none(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Constant) and annotation.value is None


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
