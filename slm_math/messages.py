"""What a command says of a mistake: jsonargparse's message of a page, in a line or two."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from types import FunctionType, ModuleType

from yaml import YAMLError

from slm_math.command_table import POSITIONAL, TRAINING, example
from slm_math.expected_values import LITERAL, MANY, either, expected, of_choices, of_length
from slm_math.option_names import elsewhere, option_names
from slm_math.patterns import lazy_pattern
from slm_math.rewards.functions import class_instead, is_function
from slm_math.settings import classes_by_path, settings_of, with_place
from slm_math.shipped import config_file
from slm_math.signatures import Option
from slm_math.spelling import file_as_class, meant, nearest_option, similar, with_dashes

# lines of jsonargparse's messages without a reason: attempts of a union, the whole configuration,
# how else a class could be given
_NOISE = lazy_pattern(
    r"^\s*(Does not validate|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Expected a path but|Subclass types expect one of|a class path \(str\)|a dict with)"
)
_KEY = lazy_pattern(r'Parser key "([^"]+)":\s*(.*)')
_CLASS = lazy_pattern(r"Problem with given class_path '(\S+)':\s*(.*)")

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


_LOGGERS = ("CSVLogger", "TensorBoardLogger", "TrackioLogger", "WandbLogger")
_FILE = lazy_pattern(r".*\.(csv|tsv|json|jsonl|parquet|arrow|txt)(\.gz)?$")


def short(message: str, arguments: Sequence[str] = (), command: str = "") -> str:
    """Which option is wrong, where in which file, and what to do. For a misspelled class or option
    it names similar ones and, of classes, all known ones. `arguments` are those of the command.
    """
    keys, path, reasons = _parts(message)
    where = ".".join(keys)
    if text := _of_help(message, arguments):
        return text
    given = re.search(r"^\s*Given value: (.+)$", message, re.MULTILINE)
    value = given[1] if given else ""
    own = [_plain(each, where, path, value, arguments=arguments) for each in reasons]
    found = [*filter(None, own), *of_choices(reasons, value)]
    # of several types that a value could have, the class is what was meant
    said = [text for text in found if not text.startswith("expected ")] or found
    if command and found[:1] and found[0].startswith("expected a list,"):
        said = [of_length(found[0], _all_options(arguments, command).get(where))]
    if len(said) > 1 and all(text.startswith("expected ") for text in said):
        said = [either(said)]
    text = "; ".join(dict.fromkeys(said)) or message.splitlines()[0]
    if command and text.startswith("there is no option ") and ": did you mean" not in text:
        text += nearest_option(text.split()[-1], _all_options(arguments, command))
    if command and (match := re.match(r"(\S+) is none of ", text)):
        text += elsewhere(where, match[1], command)
    if command and text.startswith("the following options are required") and not where:
        text = f"{_positional(text, command)}; for example: {example(command)}"
    names_it = text.startswith((where, "there is no option", "the following", "required"))
    if where and where != "config" and not names_it:
        text = f"{where}: {text}"
    text = with_place(with_dashes(text, arguments), arguments)
    return text if len(text) <= 600 else text[:600] + " ..."


def _parts(message: str) -> tuple[list[str], str | None, list[str]]:
    """The keys on the way to the mistake, the innermost class on it, and the reasons."""
    keys: list[str] = []
    path: str | None = None
    reasons: list[str] = []
    # an attempt of a union may be there twice, at the same indentation
    for line in dict.fromkeys(re.sub(r"[-–] ", "  ", line) for line in message.splitlines()):
        text = line.strip()
        while match := (key := _KEY.match(text)) or _CLASS.match(text):
            if key:
                keys.append(key[1])
            else:
                path = match[1]
            text = match[2]
        if text and not _NOISE.match(text):
            reasons.append(text)
    return keys, path, reasons


def _of_help(message: str, arguments: Sequence[str]) -> str:
    """That the class whose help is asked for does not exist; nothing if none is asked for."""
    match = re.search(r"\.help: Expected a dot import path string: (.*)", message)
    names = [each.partition("=")[0] for each in arguments]
    option = next((each for each in names if each.endswith(".help")), None)
    if match is None or option is None:
        return ""
    where = option.removeprefix("--").removesuffix(".help")
    return f"{option}: {_no_class(match[1], _base_class(where), where)}"


def _plain(reason: str, where: str, path: str | None, value: str, arguments: Sequence[str]) -> str:
    """One reason of jsonargparse in plain words. `where` is the option, `path` the class in which
    it was looked for, `value` what was given.
    """
    base = _base_class(where)
    if LITERAL.match(reason):
        return ""  # see `of_choices`
    if match := re.match(r"Expected a dot import path string: (.*)", reason):
        if place := _of_many(where, arguments, value=match[1]):
            return _name_first(place, base, None)
        return _no_class(match[1], base, where)
    if match := re.match(r"Import path (\S* ?)does not correspond to a subclass of", reason):
        name = match[1].strip()
        if where.endswith("rewards") and is_function(name or value):
            return class_instead(name or value)
        kind = "" if name else ", whose class a config names, not a function or a module"
        return f"{name or value} is not {_article(base)}{kind}{_known(base)}"
    if path and re.match(r"module \S+ has no attribute|No module named", reason):
        if _is_data(path) and base is not None and base.__name__ == "Source":
            return _no_class(path, base, where)
        return _no_class(path, base, where) + (
            "" if reason.startswith("module") else f" ({reason})"
        )
    if match := re.match(r"Not a valid subclass of \w+\.?(?: Got value: (.*))?$", reason):
        got = (match[1] or value).replace("None", "null")
        return f"expected {_article(base)}, got {got}: name a class{_known(base)}"
    if match := re.match(
        r"(?:(?:Group|Subcommand) '(\S+)' does not accept o|O)ption '(\S+)'", reason
    ):
        return _no_option(match[2], match[1] or "", where, path, arguments=arguments)
    if match := re.match(r"unrecognized arguments: --?([^\s=]+)", reason):
        return _no_option(match[1], "", where, path, arguments=arguments)
    if match := re.match(r"unrecognized arguments: (\S+)", reason):
        return f"unexpected argument {match[1]}" + _as_config(match[1])
    if match := re.match(r"ambiguous option: --([^\s=]+)\S* could match (.*)", reason):
        names = [name.removeprefix("--") for name in match[2].split(", ")]
        return f"there is no option {match[1]}" + meant(n for n in names if ".help" not in n)
    if match := re.match(r"Unexpected import path format: (\S+)", reason):
        return _no_class(match[1], base, where)
    if match := re.match(r"Config file loop detected: (\S+)", reason):
        return _no_class(match[1], base, where)
    if match := re.match(r"argument (--\S+): expected one argument", reason):
        return _no_value(match[1], arguments)
    if match := re.match(r"the following arguments are required: (.*)", reason):
        names = [re.sub(rf"^({'|'.join(TRAINING)})\.", "", n) for n in match[1].split(", ")]
        options = ", ".join(f"--{where}.{name}" if where else f"--{name}" for name in names)
        return f"the following options are required: {options}"
    if where == "config" and reason.startswith("File does not exist: "):
        return f"config file does not exist: {reason.partition(': ')[2]}"
    if match := re.match(r"Expected a <class '([\w.]+)'>(?:\. Got value: (.*))?$", reason):
        return expected(match[1], match[2] or value, where)
    if match := re.match(r"Expected a tuple with (\d+) elements\. Got value: (.*)", reason):
        return f"expected a list of {match[1]} values, got {match[2]}"
    return reason


def _positional(text: str, command: str) -> str:
    """That options are required, with the positional ones as the help of the command has them."""
    for name in POSITIONAL.get(command, "").replace("*", "").split():
        text = re.sub(rf"--{name}\b", name.upper(), text)
    return (
        text if ": --" in text else text.replace("the following options are required", "required")
    )


def _as_config(word: str) -> str:
    """That a word is the name of a config, if it is one."""
    try:
        config_file(word)
    except (ValueError, OSError):
        return ": options begin with --"
    return f": did you mean --config {word}?"


def _no_value(option: str, arguments: Sequence[str]) -> str:
    """Why an option has no value: a word that begins with a hyphen is read as the next option."""
    following = dict(pairwise(arguments)).get(option, "")
    if re.match(r"-[\d.]", following):
        return f"{option} {following} is read as two options: write {option}={following}"
    return f"{option} needs a value"


def _all_options(arguments: Sequence[str], command: str) -> dict[str, Option | None]:
    """The options of a command with the classes that its arguments name."""
    try:
        classes = classes_by_path(settings_of(arguments, {}))
    except (ValueError, OSError, YAMLError):
        classes = {}
    return option_names(command, classes)


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


def _is_data(name: str) -> bool:
    """Whether a name that should be one of a class is that of a file or a data set."""
    return "/" in name or _FILE.match(name) is not None


def _no_class(name: str, base: type | None, where: str) -> str:
    if base is not None and base.__name__ == "Source" and _is_data(name):
        option = f"--{where}"
        table = f"{option} Table {option}.path {name}"
        return f"{name} is no class: data of your own are read with {table}"
    if text := file_as_class(name):
        return text
    if where.endswith("logger"):
        return f"there is no class {name}{similar(name, _LOGGERS)} (known: {', '.join(_LOGGERS)})"
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
        if not in_file or not arguments:
            return text
        return (
            f"{text}, or a configuration with one, such as --config sft/lora, before the file that "
            "sets its options"
        )
    group = "" if group in TRAINING else group
    place = _of_many(where, arguments, name) or where
    option = ".".join(part for part in (place, group, name) if part)
    above, dot, _ = option.rpartition(".")
    own = {option for cls in _our_classes() if cls.__name__ == owner for option in _options(cls)}
    return f"there is no option {option}" + nearest_option(
        option, {f"{above}{dot}{each}" for each in own}
    )


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
            return place if many.rpartition(".")[2] in MANY else ""
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
