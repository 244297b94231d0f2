"""What `fit` can refuse before it imports what takes seconds: a config file that does not exist or
is no YAML, classes and options that certainly do not exist, and paths (`early_paths`). Whatever is
not certain is left to the parser of the command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slm_math.early_paths import refuse_paths
from slm_math.named_classes import SUBCLASSED, find_class, is_defined, known_classes
from slm_math.option_names import TRAINER, option_names
from slm_math.settings import (
    CLASS,
    Setting,
    class_names,
    classes_by_path,
    refuse_overridden,
    settings_of,
    with_place,
)
from slm_math.signatures import OURS, Signature, Slot, has_name, parameters, signature, slot_of
from slm_math.spelling import file_as_class, nearest_option, similar, with_dashes

_OF_LIGHTNING = {"self", "model", "datamodule", "train_dataloaders", "val_dataloaders"}
_ALWAYS = {
    *("c", "config", "help", "print_config", "seed_everything", "torch_threads", "controls"),
    *("fit", "validate", "test", "predict"),  # sections of a config for all commands
}
_SECTIONS = ("trainer", "model", "data", "eval")
_BASES = {
    "model": "slm_math.modules.base.PolicyModule",
    "data": "slm_math.data.batches.SourceData",
    "eval": "slm_math.callbacks.AgentEval",
}
_SKIPPED = ("dict_kwargs", "help")


def refuse(
    command: str, arguments: list[str], renamed: dict[str, str], begins: bool = True
) -> None:
    """Raises ValueError for the arguments of a training command that are certainly wrong.

    `renamed` are old names of options; `begins` says that a run begins, in a root of its own.
    """
    settings = list(settings_of(arguments, renamed))
    refuse_overridden(arguments, renamed)
    words = [word for setting in settings for word in class_names(setting.value)]
    named = {word.partition(".")[0] for word in words if "." in word}
    check = _Check(command, settings, own_classes=bool(named - {OURS, "lightning", "torch"}))
    try:
        for setting in settings:
            check.setting(setting)
    except ValueError as error:
        text = with_dashes(str(error), arguments)
        raise ValueError(with_place(text, arguments)) from None
    refuse_paths(command, settings, begins)


class _Check:
    """Checks settings one by one. `own_classes`: some are not of this project, so that short names
    may be theirs.
    """

    def __init__(self, command: str, settings: list[Setting], own_classes: bool) -> None:
        self.own_classes = own_classes
        method = parameters(TRAINER, command)
        self.sections = None
        if method is not None:
            self.sections = {*_ALWAYS, *_SECTIONS, *(method - _OF_LIGHTNING)}
        self.trainer = parameters(TRAINER, "__init__")
        self.classes = classes_by_path(settings)
        self.command = command

    def setting(self, setting: Setting) -> None:
        first, *rest = setting.path or ("",)
        if any(part in _SKIPPED for part in setting.path) or not first:
            return
        if first in _SECTIONS:
            self._inside(Setting(tuple(rest), setting.value), (first,))
        elif self.sections is not None and first not in self.sections:
            raise self._no_option(".".join(setting.path))

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
            step = Setting(setting.path[1:], setting.value)
            inner = {setting.path[0]: step}
        elif isinstance(setting.value, dict):
            inner = {str(key).removesuffix("+"): Setting((), v) for key, v in setting.value.items()}
        for name, step in inner.items():
            if self.trainer is not None and name not in self.trainer:
                raise self._no_option(f"trainer.{name}")
            if name == "callbacks":
                slot = Slot(each="list", only_classes=True)
                self._slot(step, slot, ("trainer", "callbacks"))

    def _slot(self, setting: Setting, slot: Slot, at: tuple[str, ...]) -> None:
        """A value, or an option further inside, of what a slot takes."""
        path, value = setting.path, setting.value
        if path and slot.each == "dict":
            inner = Slot(slot.classes, only_classes=slot.only_classes)
            self._slot(Setting(path[1:], value), inner, (*at, path[0]))
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
        elif isinstance(value, str) and slot.only_classes and (text := file_as_class(value)):
            raise ValueError(f"{'.'.join(at)}: {text}")  # a parser would read it as a config
        elif isinstance(value, str) and CLASS.fullmatch(value):
            self._class(value, slot, at)

    def _classes_at(self, slot: Slot, at: tuple[str, ...]) -> list[Signature | None]:
        """The classes that may be meant at a path: those that are named there, or else the one that
        the slot takes, if it takes no others.
        """
        named = self.classes.get(at)
        if named:
            return [find_class(name) for name in named]
        if len(slot.classes) == 1 and slot.classes[0].name not in SUBCLASSED:
            return [slot.classes[0]]
        return [None]

    def _option(
        self, setting: Setting, classes: list[Signature | None], at: tuple[str, ...]
    ) -> None:
        name, *rest = setting.path
        known = {option for cls in classes if cls is not None for option in cls.options}
        if any(cls is None or cls.is_open for cls in classes) or name in _SKIPPED:
            pass
        elif name not in known:
            raise self._no_option(".".join((*at, name)), known)
        options = [cls.options[name] for cls in classes if cls is not None and name in cls.options]
        if len(options) == 1:
            step = Setting(tuple(rest), setting.value)
            self._slot(step, slot_of(options[0]), (*at, name))

    def _class(self, name: Any, slot: Slot, at: tuple[str, ...]) -> Signature | None:
        """The class that a name stands for. Raises ValueError if there certainly is none."""
        found = find_class(name) if isinstance(name, str) else None
        if found is not None or not slot.only_classes or not isinstance(name, str):
            return found
        top = name.partition(".")[0]
        if "." in name and (top != OURS or has_name(name)):
            _refuse_former(name, at)
            return None
        short = name.rpartition(".")[2]
        if "." not in name and (self.own_classes or is_defined(short)):
            return None
        known = known_classes(slot)
        raise ValueError(
            f"{'.'.join(at)}: there is no class {name}{similar(short, known)} (known: "
            f"{', '.join(sorted(known))}; for a class of your own, its dotted path)"
        )

    def _no_option(self, option: str, beside: Iterable[str] = ()) -> ValueError:
        """That there is no such option, and which may have been meant; `beside` are those of the
        same place.
        """
        above = option.rpartition(".")[0]
        names = {*option_names(self.command, self.classes), *(f"{above}.{n}" for n in beside)}
        return ValueError(f"there is no option {option}{nearest_option(option, names)}")


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
