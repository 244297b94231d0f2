"""What a command line and its config files set, before a parser looks at it: options, the classes
that they name, and where in a file an option stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from slm_math.config_files import check_options, load, with_new_names
from slm_math.shipped import config_file, is_text

CLASS = re.compile(r"([a-z_]\w*\.)*[A-Z]\w*")
_OPTION = re.compile(r"(?:there is no option )?([\w+-]+(?:\.[\w+-]+)*)(?=:|$)")
_MARKS = ("init_args", "class_path")


@dataclass(frozen=True)
class Setting:
    """An option of a config file or a command line: its path, without `init_args`, its value."""

    path: tuple[str, ...]
    value: Any


def settings_of(arguments: Sequence[str], renamed: Mapping[str, str]) -> Iterator[Setting]:
    """The options of a command line, and those of its config files. `renamed` are old names."""
    for name, value in _options(arguments):
        if name in ("--config", "-c"):
            yield from _of_file(value, renamed)
        elif name.startswith("--"):
            path = name[2:].removesuffix("+").split(".")
            parsed: Any = load(value) if value[:1] in ("{", "[") else value
            yield Setting(_without_marks(path), parsed)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    remaining = list(arguments)
    while remaining:
        name, equals, value = remaining.pop(0).partition("=")
        if not name.startswith("-"):
            continue
        if not equals:
            value = remaining.pop(0) if remaining and not remaining[0].startswith("--") else ""
        yield name, value


def _text_of(value: str) -> tuple[str, str | None]:
    """The text of a `--config`, and what to call it if it is a file."""
    if is_text(value):
        return value, None
    file = config_file(value)
    return file.read_text(encoding="utf-8"), f"config file {file}"


def _of_file(value: str, renamed: Mapping[str, str]) -> Iterator[Setting]:
    content = load(*_text_of(value))
    check_options(content, _text_of(value)[1] or value)
    if isinstance(content, dict):
        # the command's parser notes old names when it reads the file
        for key, inner in with_new_names(content, renamed, quietly=True).items():
            yield Setting((str(key).removesuffix("+"),), inner)


def _without_marks(path: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for part in path if part not in _MARKS)


def class_names(value: Any) -> Iterator[str]:
    """What may be names of classes, at any depth."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from class_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from class_names(inner)
    elif isinstance(value, str) and CLASS.fullmatch(value):
        yield value


def classes_by_path(settings: Iterable[Setting]) -> dict[tuple[str, ...], set[str]]:
    """Which classes stand at which options."""
    classes: dict[tuple[str, ...], set[str]] = {}
    for setting in settings:
        _note(setting.path, setting.value, classes)
    return classes


def _note(path: tuple[str, ...], value: Any, classes: dict[tuple[str, ...], set[str]]) -> None:
    if isinstance(value, str) and CLASS.fullmatch(value):
        classes.setdefault(path, set()).add(value)
    elif isinstance(value, list):
        for inner in value:
            _note(path, inner, classes)
    elif isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            classes.setdefault(path, set()).add(value["class_path"])
        if isinstance(value.get("init_args"), dict):
            value = value["init_args"]
        for key, inner in value.items() if isinstance(value, dict) else ():
            _note((*path, str(key).removesuffix("+")), inner, classes)


def refuse_overridden(arguments: Sequence[str], renamed: Mapping[str, str]) -> None:
    """Raises ValueError for an option that a config file after it sets otherwise: whoever names a
    value on the command line wants it, and later ones win.
    """
    options = list(_options(arguments))
    for place, (name, value) in enumerate(options):
        if name in ("--config", "-c", "--") or name.endswith("+") or not value:
            continue
        path = list(_without_marks(name[2:].split(".")))
        named = [key for key, _ in options[place + 1 :]]
        for key, config in options[place + 1 :]:
            if key not in ("--config", "-c") or is_text(config) or name in named:
                continue
            for setting in _of_file(config, renamed):
                there = _value_at(path, [*setting.path], setting.value)
                if there is not None and not _is_same(there, value):
                    raise ValueError(
                        f"{name} {value} has no effect before --config {config}, which sets it to "
                        f"{there}: later ones win, so write it behind the file"
                    )


def _value_at(path: list[str], keys: list[str], value: Any) -> str | None:
    """What a file sets at a path, as text: a value, null, or the name of a class."""
    while len(keys) < len(path) and isinstance(value, dict):
        inside = value.get("init_args")
        here = {str(k).removesuffix("+"): v for k, v in value.items()}
        here |= inside if isinstance(inside, dict) else {}
        key = path[len(keys)]
        if key not in here:
            return None
        keys, value = [*keys, key], here[key]
    if keys != path:
        return None
    if value is None:
        return "null"
    if isinstance(value, dict):
        value = value.get("class_path")
    return None if value is None or isinstance(value, list) else str(value)


def _is_same(there: str, value: str) -> bool:
    """Whether a file and a command line say the same; not sure of lists and objects."""
    parsed = load(value)
    if isinstance(parsed, dict):
        parsed = parsed.get("class_path", there)
    text = str(parsed)
    if CLASS.fullmatch(text):  # a short name, or the dotted path
        return there.rpartition(".")[2] == text.rpartition(".")[2]
    return isinstance(parsed, list) or there.lower() == text.lower()


def with_place(message: str, arguments: Sequence[str]) -> str:
    """A message that begins with the name of an option, after the file and line that set it; as it
    is if the command line sets the option.
    """
    match = _OPTION.match(message)
    if match is None:
        return message
    keys = list(_without_marks(match[1].split(".")))
    options = list(_options(arguments))
    for name, _ in options:
        given = _without_marks(name[2:].removesuffix("+").split("."))
        if (len(given) > 1 and list(given) == keys[: len(given)]) or list(given) == keys:
            return message
    for name, value in reversed(options):
        if name not in ("--config", "-c") or is_text(value):
            continue
        text, file = _text_of(value)
        line = _line_of(keys, yaml.compose(text))
        if line is not None:
            return f"{file}, line {line}: {message}"
    return message


def _line_of(keys: list[str], node: Any) -> int | None:
    """The line of an option in a YAML document."""
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, (_line_of(keys, each) for each in node.value)), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        name = str(key.value).removesuffix("+")
        if name in _MARKS:
            line = _line_of(keys, value)
        elif name != keys[0]:
            continue
        else:
            line = key.start_mark.line + 1
            line = _line_of(keys[1:], value) if keys[1:] else line
        if line is not None:
            return line
    return None
