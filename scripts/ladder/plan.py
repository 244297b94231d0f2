"""A file such as `table.yaml` as steps: commands of slm-math, each with the steps whose results it
reads.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# {sft-lora} in an option is the result of that step; {seed} and {model} are those of the driver
_SLOT = re.compile(r"\{([a-z][a-z0-9_-]*)\}")
_NAME = re.compile(r"[a-zA-Z0-9][\w-]*")


@dataclass(frozen=True)
class Row:
    """A row of the table: an agent with the models that serve it.

    Args:
        name: the name of the agent in the records.
        title: what the table says; rows that follow each other may share a `group`, a line above.
        model: a step, or a step for each role.
        agent: an agent of the profile.
    """

    name: str
    title: str
    model: str | Mapping[str, str]
    agent: str
    group: str = ""


@dataclass(frozen=True)
class Step:
    """One command, what it writes and what it reads.

    Args:
        name: also the name of its log.
        command: arguments of slm-math.
        folder: where it writes.
        result: the part of `folder` that other steps read: an exported model, or the folder of one
            agent's records.
        inputs: names of the steps whose results it reads.
        files: config files, and a model that no step makes.
        weight: about how long it takes, relative to the others.
        row: of an evaluation for the table, its row; `data` is the data set.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    result: Path
    inputs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    weight: float = 1.0
    row: str | None = None
    data: str | None = None

    @property
    def trains(self) -> bool:
        return self.command[0] == "fit"

    def shown(self) -> str:
        """The command as it is typed, in the folder of the project."""
        return shlex.join(["slm-math", *self.command])


@dataclass(frozen=True)
class Others:
    """Figures of somebody else: by row and data set the published and the re-graded accuracy in per
    cent, or None.
    """

    source: str
    model: str
    figures: Mapping[str, Mapping[str, Sequence[float | None]]]


@dataclass(frozen=True)
class Plan:
    """All steps, each behind those that it reads, and what the table is made of.

    Args:
        references: rows that all others are compared with.
        jobs: how many steps run at once.
    """

    profile: str
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    data: tuple[str, ...]
    references: tuple[str, ...]
    jobs: int
    environment: Mapping[str, str] = field(default_factory=dict)
    others: Others | None = None


@dataclass(frozen=True)
class Choice:
    """What the command line of the driver chose."""

    out: Path
    model: str | None = None
    limit: int | None = None
    seed: int = 0

    @property
    def profile(self) -> str:
        return "embedded" if self.model is None else "model"


def read_plan(file: Path, choice: Choice) -> Plan:
    """The plan of a file.

    Raises ValueError, with file and place, for what is missing, unknown or named twice.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    try:
        return _plan(content, choice)
    except KeyError as error:
        raise ValueError(f"{file}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: {error}") from error


def _plan(content: Any, choice: Choice) -> Plan:
    _check_keys("the file", content, "rows references profiles")
    profile = content["profiles"][choice.profile]
    where = f"profile {choice.profile}"
    known = "jobs environment steps agents data evaluation weights others"
    _check_keys(where, profile, known)
    rows = tuple(Row(**row) for row in content["rows"])
    data = profile["data"]
    _check_names("row", [row.name for row in rows])
    _check_names("step", [*profile["steps"], *data])
    references = tuple(content["references"])
    for name in (*references, *profile.get("others", {}).get("figures", {})):
        if name not in {row.name for row in rows}:
            raise ValueError(f"no row is called {name}")
    results = {} if choice.model is None else {"base": choice.model}
    steps: list[Step] = []
    for name, spec in profile["steps"].items():
        place = f"step {name}"
        _check_keys(place, spec, "command config options weight")
        step = _step(place, name, spec, choice, results)
        results[name] = _path(step.result)
        steps.append(step)
    for name, source in data.items():
        for row in rows:
            if row.agent not in profile["agents"]:
                raise ValueError(f"row {row.name}: {where} has no agent {row.agent}")
            spec = _evaluation(row, name, source, profile) | {
                "weight": profile.get("weights", {}).get(row.agent, 1.0)
            }
            place = f"row {row.name}"
            steps.append(_step(place, row.name, spec, choice, results))
    others = profile.get("others")
    return Plan(
        profile=choice.profile,
        steps=tuple(steps),
        rows=rows,
        data=tuple(data),
        references=references,
        jobs=min(profile.get("jobs", 1), os.cpu_count() or 1),
        environment={key: str(value) for key, value in profile.get("environment", {}).items()},
        others=_others(others, choice.model) if others else None,
    )


def _others(others: Any, model: str | None) -> Others | None:
    """The figures of others, if they are about this model."""
    _check_keys("others", others, "source model figures")
    same = Path(model or "").name == Path(others["model"]).name
    return Others(**others) if same else None


def _evaluation(row: Row, data: str, source: Any, profile: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of the evaluation of a row on a data set."""
    agent = profile["agents"][row.agent]
    agent = {"class_path": agent} if isinstance(agent, str) else agent
    model: Any = (
        f"{{{row.model}}}"
        if isinstance(row.model, str)
        else {role: f"{{{step}}}" for role, step in row.model.items()}
    )
    options = {"model": model, "source": source, "agents": {row.name: agent}}
    evaluation = profile.get("evaluation", {})
    return {
        "command": "eval",
        "config": evaluation.get("config", []),
        "options": options
        | evaluation.get("options", {})
        | evaluation.get("agents", {}).get(row.agent, {}),
        "row": row.name,
        "data": data,
    }


def _step(
    place: str, name: str, spec: Mapping[str, Any], choice: Choice, results: Mapping[str, str]
) -> Step:
    command, options = spec["command"], spec.get("options") or {}
    if command not in ("fit", "eval"):
        raise ValueError(f"{place}: command is fit or eval, not {command!r}")
    read = dict.fromkeys(
        slot for text in _texts(options) for slot in _SLOT.findall(text) if slot != "seed"
    )
    for slot in read:
        if slot not in results:
            raise ValueError(f"{place} reads {{{slot}}}, which no step above it makes")
    filled = _filled(options, {**results, "seed": str(choice.seed)})
    folder = choice.out / (spec.get("data") or f"train/{name}")
    configs = [ROOT / config for config in spec.get("config", [])]
    for config in configs:
        if not config.is_file():
            raise ValueError(f"{place}: config {_path(config)} does not exist")
    arguments = [word for config in configs for word in ("--config", _path(config))]
    if command == "fit":
        arguments += ["--trainer.default_root_dir", _path(folder)]
        arguments += ["--seed_everything", str(choice.seed)]
        result = folder / "export"
    else:
        arguments += ["--out", _path(folder), "--seed", str(choice.seed)]
        if "row" in spec and choice.limit is not None:
            arguments += ["--limit", str(choice.limit)]
        [agent] = filled["agents"]  # so that a folder has one result
        result = folder / agent
    for key, value in filled.items():
        arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    if command == "fit":
        arguments += ["--ckpt_path", "last_if_any"]
    local = [ROOT / choice.model] if choice.model and (ROOT / choice.model).is_dir() else []
    data = spec.get("data")
    return Step(
        name=f"{data}-{name}" if data else name,
        command=(command, *arguments),
        folder=result if data else folder,
        result=result,
        inputs=tuple(slot for slot in read if not (slot == "base" and choice.model)),
        files=(*configs, *(local if "base" in read else [])),
        weight=float(spec.get("weight", 1.0)),
        row=spec.get("row"),
        data=data,
    )


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, at any depth, but not the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _filled(value: Any, slots: Mapping[str, str]) -> Any:
    """A value with its slots replaced; a text that is {seed} alone becomes a number."""
    if isinstance(value, str):
        text = _SLOT.sub(lambda match: slots[match[1]], value)
        return int(text) if value == "{seed}" else text
    if isinstance(value, dict):
        return {key: _filled(item, slots) for key, item in value.items()}
    return [_filled(item, slots) for item in value] if isinstance(value, list) else value


def _path(path: Path) -> str:
    """A path as commands name it, which run in the folder of the project."""
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def _check_keys(place: str, value: Any, known: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must have keys ({known}), got {value!r}")
    if unknown := sorted(map(str, set(value) - set(known.split()))):
        raise ValueError(f"{place} has unknown keys: {', '.join(unknown)} (known: {known})")


def _check_names(what: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what} {name} is there twice")
        if not _NAME.fullmatch(str(name)):
            raise ValueError(f"{what} {name!r}: a name has letters, digits, _ and -")
