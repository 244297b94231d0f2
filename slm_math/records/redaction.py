"""What a run writes down of its options: no values of those that hold a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

HIDDEN = "***"  # stands where a secret was
# the last word of a name, in the singular: max_new_tokens and api_key_env are no secrets
_SECRET = re.compile(
    r"(^|_)(key|apikey|token|secret|password|passwd|passphrase|credential|authorization)$"
    r"|(^|_)(api_?key|secret|password|credential|(api|access|auth)_token)s$"
)


def is_secret(name: str) -> bool:
    """Whether an option of this name holds a secret: api_key, hfToken, client-secret, password."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2].rstrip("+"))
    return bool(_SECRET.search(words.lower().replace("-", "_")))


def without_secrets(value: Any) -> Any:
    """The same data with `***` in the place of every secret, at any depth.

    A secret is a text or a number under a name that `is_secret`, or a list of these.
    """
    if isinstance(value, Mapping):
        return {
            key: _hidden(item) if is_secret(str(key)) else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _hidden(value: Any) -> Any:
    """A secret hidden; a group of options that has such a name is none."""
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    return value if value is None or isinstance(value, bool) or value == "" else HIDDEN


def hidden_options(value: Any, path: str = "") -> Iterator[str]:
    """The names of the options whose secret is hidden, as in a configuration that a run wrote."""
    pairs = value.items() if isinstance(value, Mapping) else ()
    for key, item in pairs:
        name = f"{path}.{key}".lstrip(".")
        if is_secret(name) and (item == HIDDEN or item == [HIDDEN]):
            yield name
        yield from hidden_options(item, name)
    if isinstance(value, list | tuple):
        for item in value:
            yield from hidden_options(item, path)


def command_without_secrets(arguments: Sequence[str], load: Callable[[str], Any]) -> list[str]:
    """The arguments of a command with `***` in the place of every secret, also of those inside
    values such as `{class_path: Logger, api_key: X}`, which become JSON if they hold one.

    `load` reads such a value as the command does.
    """
    result: list[str] = []
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            result.append(f"{name}={_shown(name, value, load)}" if equals else argument)
        else:
            result.append(_shown(name, argument, load))
    return result


def _shown(name: str, text: str, load: Callable[[str], Any]) -> str:
    if is_secret(name.lstrip("-")):
        return HIDDEN
    if ":" not in text:  # a single value
        return text
    try:
        value = load(text)
    except Exception:  # of whatever reads YAML: then it is a text that holds no options
        return text
    shown = without_secrets(value)
    return text if shown == value else json.dumps(shown, default=str)
