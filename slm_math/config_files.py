"""What slm-math adds to jsonargparse's config files: shorter classes, agents that several files
name together, and option names of the last version.

- A class takes its options beside its name: `{class_path: SingleShot, prompt: solve_plain}` is
  `{class_path: SingleShot, init_args: {prompt: solve_plain}}`.
- `agents` of several files are merged by name. `callbacks+` appends to the callbacks of earlier
  files, and a callback whose class is there once is merged with it: its mappings (`agents`,
  `sources`, `engines`) by name, its other options one by one.
- A renamed option keeps its old name for one version, with a note on stderr.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from yaml import MarkedYAMLError, YAMLError

from slm_math.records.redaction import HIDDEN, hidden_options
from slm_math.shipped import config_file, is_text

SPEC = ("class_path", "init_args", "dict_kwargs")
_load_yaml = get_loader("yaml")


def load(text: str, name: str | None = None) -> Any:
    """The value of a YAML text, with the options of every class under its `init_args`.

    Raises YAMLError in one line, which jsonargparse catches where a text may be no YAML; it shows
    `name`, by default the text.
    """
    try:
        value = _load_yaml(text)
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
            mark = error.problem_mark
            reason = f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
        hint = " (a blank follows the colon of a key)" if "':'" in reason else ""
        name = name or repr(text.strip()[:80])
        raise YAMLError(f"{name} is not YAML: {reason}{hint}") from error
    return with_init_args(value)


set_loader("yaml", load)


def with_init_args(value: Any) -> Any:
    """The same value with `{class_path, a, b}` as `{class_path, init_args: {a, b}}`, at any depth.

    Raises ValueError for an option that is both beside the name and under `init_args`.
    """
    if isinstance(value, list):
        return [with_init_args(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: with_init_args(item) for key, item in value.items()}
    beside = {key: item for key, item in value.items() if key not in SPEC}
    if "class_path" not in value or not beside:
        return value
    inside = value.get("init_args") or {}
    if both := sorted(map(str, set(inside) & set(beside))):
        raise ValueError(
            f"{value['class_path']}: {', '.join(both)} is given both beside class_path and under "
            "init_args"
        )
    return {key: value[key] for key in SPEC if key in value} | {"init_args": beside | inside}


class ConfigFile(ActionConfigFile):
    """`--config FILE`: reads one more config file, by its path or the name of one that comes with
    slm-math; later files win.
    """

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
        content, text, name = None, values, None
        if not is_text(values):
            file = config_file(values)
            text, name = file.read_text(encoding="utf-8"), f"config file {file}"
        if name or text.lstrip().startswith("{"):
            content = load(text, name)
            check_options(content, name or "--config")
        if isinstance(content, dict):
            check_secrets(content)
            values = json.dumps(with_new_names(content, getattr(parser, "renamed", {})))
        agents, callbacks = cfg.get("agents"), cfg.get("trainer.callbacks")
        super().__call__(parser, cfg, values, option_string)
        if isinstance(agents, dict) and isinstance(cfg.get("agents"), dict):
            cfg["agents"] = agents | cfg["agents"]
        if isinstance(callbacks, list) and _only_appends(content):
            count = len(callbacks)
            together = cfg["trainer.callbacks"]
            cfg["trainer.callbacks"] = merged_by_class(together[:count], together[count:])


def check_options(content: Any, name: str) -> None:
    """Raises ValueError for a config that is no mapping; an empty one is none, and sets nothing."""
    if content is not None and not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a text or a number"
        raise ValueError(
            f"{name} holds {kind}, and a config holds options by name, as in `limit: 10`"
        )


def check_secrets(content: Any) -> None:
    """Raises ValueError for a secret that is hidden, in a configuration that a run wrote."""
    if names := list(hidden_options(content)):
        raise ValueError(
            f"{', '.join(names)}: {HIDDEN} stands where a run does not write a secret down; put "
            "the secret there, or remove the line if the environment has it"
        )


def _only_appends(content: Any) -> bool:
    """Whether a config file adds to the callbacks of earlier files, without any of its own."""
    trainer = content.get("trainer") if isinstance(content, dict) else None
    return isinstance(trainer, dict) and "callbacks+" in trainer and "callbacks" not in trainer


def merged_by_class(earlier: list[Any], added: list[Any]) -> list[Any]:
    """The earlier callbacks and the added ones. The options of an added callback go into the
    earlier one of its class if each list has one such callback; of several nobody could tell which
    is meant, so these are appended.
    """
    result, classes = list(earlier), Counter(map(_class_of, added))
    for callback in added:
        same = [old for old in earlier if _class_of(old) == _class_of(callback) is not None]
        if len(same) != 1 or classes[_class_of(callback)] != 1:
            result.append(callback)
            continue
        options = same[0].get("init_args") or Namespace()
        for key, value in vars(callback.get("init_args") or Namespace()).items():
            old = options.get(key)
            together = isinstance(value, dict) and isinstance(old, dict)
            options[key] = old | value if together else value
        same[0]["init_args"] = options
    return result


def _class_of(callback: Any) -> str | None:
    return callback.get("class_path") if isinstance(callback, Namespace) else None


def with_new_names(
    content: dict[str, Any], renamed: Mapping[str, str], quietly: bool = False
) -> dict[str, Any]:
    """The content of a config file with renamed options (old dotted name -> new) moved, and noted
    on stderr unless `quietly`.
    """
    for old, new in renamed.items():
        *path, last = old.split(".")
        node: Any = content
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
            # options of a class may be under init_args
            if isinstance(node, dict) and last not in node and "init_args" in node:
                node = node["init_args"]
        if not isinstance(node, dict) or last not in node:
            continue
        value = node.pop(last)
        *groups, name = new.split(".")[len(path) :]
        for group in groups:
            node = node.setdefault(group, {})
        node.setdefault(name, value)
        if not quietly:
            note(old, new)
    return content


def arguments_with_new_names(arguments: list[str], renamed: Mapping[str, str]) -> list[str]:
    """Command-line arguments with the new names of renamed options."""
    result = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--").replace("model.init_args.", "model.")
        for old, new in renamed.items():
            if option.startswith("--") and (name == old or name.startswith(f"{old}.")):
                argument = f"--{new}{name[len(old) :]}{equals}{value}"
                note(old, new)
        result.append(argument)
    return result


def environment_with_new_names(
    environment: Mapping[str, str],
    prefix: str,
    options: Iterable[str],
    renamed: Mapping[str, str],
) -> dict[str, str]:
    """The environment with the variables of renamed options under their new names. `prefix` starts
    the variables of a command, and `options` are its options.
    """

    def variable(option: str) -> str:
        return (prefix + option).replace(".", "__").upper()

    known = set(map(variable, options))
    result = dict(environment)
    for old, new in renamed.items():
        for name, value in environment.items():
            present = variable(new) + name[len(variable(old)) :]
            if f"{name}__".startswith(f"{variable(old)}__") and present in known:
                del result[name]
                result.setdefault(present, value)
                note(old, new)
    for group in {old.partition(".")[0] for old in renamed if "." in old}:
        if (name := variable(group)) in result:  # a class with its options
            content = load(result[name])
            if isinstance(content, dict):
                content = with_new_names({group: content}, renamed)[group]
                result[name] = json.dumps(content)
    return result


def note(old: str, new: str) -> None:
    print(
        f"slm-math: note: the option {old} is now called {new}; the old name works in this "
        "version only",
        file=sys.stderr,
    )
