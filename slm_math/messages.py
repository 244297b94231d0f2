"""What a command says of a mistake: jsonargparse's message of a page, in a line or two."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from types import FunctionType, ModuleType

# lines of jsonargparse's messages without a reason: attempts of a union, the whole configuration,
# how else a class could be given
_NOISE = re.compile(
    r"^\s*(Does not validate|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but|Subclass types expect one of|a class path \(str\)|a dict with)"
)
_KEY = re.compile(r'Parser key "([^"]+)":\s*(.*)')
_CLASS = re.compile(r"Problem with given class_path '(\S+)':\s*(.*)")
_MANY = ("agents", "engines", "sources")  # options that take a class for each name

_COMMANDS = ("fit", "validate", "test", "predict")  # of Lightning, which prefix its options
_GROUPS = ("trainer", "model", "data")  # their options

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
# classes that others build on; jsonargparse takes them where no class is named
_UNNAMED = {*_BASES.values(), "Benchmark", "LightningDataModule", "LightningModule"} - {"Sandbox"}
# the modules whose classes a config may name
_NAMED = (
    "slm_math.agents",
    "slm_math.data",
    "slm_math.data.benchmarks",
    "slm_math.rewards",
    "slm_math.short_names",
    "slm_math.training",
    "slm_math.callbacks",
)


def short(message: str, arguments: Sequence[str] = ()) -> str:
    """Which option is wrong, and what to do. For a misspelled class or option it names similar ones
    and, of classes, all known ones. `arguments` are those of the command.
    """
    keys, path, reasons = _parts(message)
    where = ".".join(keys)
    given = re.search(r"^\s*Given value: (.+)$", message, re.MULTILINE)
    value = given[1] if given else ""
    found = [_plain(reason, where, path, value, arguments=arguments) for reason in reasons]
    # of several types that a value could have, the class is what was meant
    said = [text for text in found if not text.startswith("expected ")] or found
    text = "; ".join(dict.fromkeys(said)) or message.splitlines()[0]
    names_it = text.startswith((where, "there is no option", "the following options"))
    if where and where != "config" and not names_it:
        text = f"{where}: {text}"
    return text if len(text) <= 600 else text[:600] + " ..."


def _parts(message: str) -> tuple[list[str], str | None, list[str]]:
    """The keys on the way to the mistake, the innermost class on it, and the reasons."""
    keys: list[str] = []
    path: str | None = None
    reasons: list[str] = []
    # an attempt of a union may be there twice, at the same indentation
    for line in dict.fromkeys(re.sub(r"[-–] ", "  ", line) for line in message.splitlines()):
        text = line.strip()
        while match := _KEY.match(text) or _CLASS.match(text):
            if match.re is _KEY:
                keys.append(match[1])
            else:
                path = match[1]
            text = match[2]
        if text and not _NOISE.match(text):
            reasons.append(text)
    return keys, path, reasons


def _plain(reason: str, where: str, path: str | None, value: str, arguments: Sequence[str]) -> str:
    """One reason of jsonargparse in plain words. `where` is the option, `path` the class in which
    it was looked for, `value` what was given.
    """
    base = _base_class(where)
    if match := re.match(r"Expected a dot import path string: (.*)", reason):
        if place := _of_many(where, arguments, value=match[1]):
            return _name_first(place, base, None)
        return _no_class(match[1], base)
    if match := re.match(r"Import path (\S+) does not correspond to a subclass of", reason):
        return f"{match[1]} is not {_article(base)}{_known(base)}"
    if path and re.match(r"module \S+ has no attribute|No module named", reason):
        return _no_class(path, base) + ("" if reason.startswith("module") else f" ({reason})")
    if match := re.match(r"Not a valid subclass of \w+\.?(?: Got value: (.*))?$", reason):
        got = (match[1] or value).replace("None", "null")
        return f"expected {_article(base)}, got {got}: name a class{_known(base)}"
    if match := re.match(
        r"(?:(?:Group|Subcommand) '(\S+)' does not accept o|O)ption '(\S+)'", reason
    ):
        return _no_option(match[2], match[1] or "", where, path, arguments=arguments)
    if match := re.match(r"unrecognized arguments: --([^\s=]+)", reason):
        return _no_option(match[1], "", where, path, arguments=arguments)
    if match := re.match(r"the following arguments are required: (.*)", reason):
        names = [re.sub(rf"^({'|'.join(_COMMANDS)})\.", "", n) for n in match[1].split(", ")]
        options = ", ".join(f"--{where}.{name}" if where else f"--{name}" for name in names)
        return f"the following options are required: {options}"
    if where == "config" and reason.startswith("File does not exist: "):
        return f"config file does not exist: {reason.partition(': ')[2]}"
    if match := re.match(r"Expected a <class '([\w.]+)'>(?:\. Got value: (.*))?$", reason):
        return f"expected {match[1]}, got {match[2] or value}"
    return reason


def _base_class(where: str) -> type | None:
    """The base class of the class that an error is about, by the option that the error names."""
    keys = where.split(".")
    base = next((_BASES[key] for key in reversed(keys) if key in _BASES), None)
    return next((cls for cls in _our_classes() if cls.__name__ == base), None)


def _article(base: type | None) -> str:
    name = base.__name__ if base else "class of this option"
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _known(base: type | None) -> str:
    if base is None:
        return ""
    names = {cls.__name__ for cls in _named_classes(base)}
    known = ", ".join(sorted(name for name in names if not name.islower()))
    if any(name.islower() for name in names):
        known += "; benchmarks by their names, such as aime25"
    return f" (known: {known}; for a class of your own, its dotted path)"


def _no_class(name: str, base: type | None) -> str:
    known = {cls.__name__ for cls in _named_classes(base)}
    return f"there is no class {name}" + similar(name.rpartition(".")[2], known) + _known(base)


def _no_option(
    name: str, group: str, where: str, path: str | None, arguments: Sequence[str]
) -> str:
    """That there is no such option, and which are like it; or that no class was named in which it
    could be.
    """
    name = name.replace(".init_args.", ".")
    owner = path.rpartition(".")[2] if path else ""
    if owner in _UNNAMED:
        option = name.partition(".")[0]
        place = _of_many(where, arguments, option) or where
        in_file = not any(argument.startswith(f"--{place}.") for argument in arguments)
        text = _name_first(place, _base_class(where), option)
        return f"{text}, before the file that sets its options" if in_file and arguments else text
    group = "" if group in _COMMANDS else group
    option = ".".join(part for part in (where, group, name) if part)
    first, last = option.partition(".")[0], option.rpartition(".")[2]
    if first == "trainer":
        lightning = sys.modules.get("lightning")  # commands other than training do without
        own = set(_options(lightning.Trainer)) if lightning else set()
    else:
        own = {
            option for cls in _our_classes() if cls.__name__ == owner for option in _options(cls)
        }
    if not owner and first not in _GROUPS:
        own, last = set(_GROUPS), first
    known = {option for cls in _our_classes() for option in _options(cls)}
    return f"there is no option {option}" + (similar(last, own) or similar(last, known))


def _name_first(where: str, base: type | None, option: str | None) -> str:
    """That an option came before the class that takes it, with the classes that do."""
    classes = sorted(
        {cls.__name__ for cls in _named_classes(base) if not option or option in _options(cls)}
    )
    classes = classes if 0 < len(classes) <= 4 else ["CLASS"]
    examples = " or ".join(f"--{where} {name}" for name in classes)
    has = f"{where} has no class yet" + (f" that could have an option {option}" if option else "")
    return f"{has}: name the class first: {examples}{_known(base) if classes == ['CLASS'] else ''}"


def _of_many(where: str, arguments: Sequence[str], option: str = "", value: str = "") -> str:
    """`agents.x` for `agents`, if `--agents.x.OPTION VALUE` is among the arguments."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for name, given in pairwise(words):
        place, _, last = name.removeprefix("--").rpartition(".")
        many = place.rpartition(".")[0]
        if many and many == where and option in ("", last) and value in ("", given):
            return place if many.rpartition(".")[2] in _MANY else ""
    return ""


def _options(cls: type) -> set[str]:
    """The options of a class, with those that it passes on to the classes it builds on."""
    return {
        name
        for each in cls.__mro__
        if isinstance(init := vars(each).get("__init__"), FunctionType)
        for name in inspect.signature(init).parameters
        if name not in ("self", "args", "kwargs")
    }


def similar(name: str, known: set[str]) -> str:
    """Which of the known names may have been meant, as the end of a sentence."""
    close = difflib.get_close_matches(name, sorted(known - {name}), n=3)
    return f": did you mean {' or '.join(close)}?" if close else ""


def _named_classes(base: type | None) -> Iterator[type]:
    """The classes of slm-math that a config of the command may name for an option."""
    for cls in _classes(module for name, module in sys.modules.items() if name in _NAMED):
        if cls.__name__ not in _UNNAMED and (base is None or issubclass(cls, base)):
            yield cls


def _our_classes() -> Iterator[type]:
    """The public classes of the imported modules of slm-math."""
    return _classes(m for name, m in sys.modules.items() if name.partition(".")[0] == "slm_math")


def _classes(modules: Iterable[ModuleType]) -> Iterator[type]:
    for module in list(modules):
        yield from (
            value
            for value in vars(module).values()
            if isinstance(value, type) and not value.__name__.startswith("_")
        )
