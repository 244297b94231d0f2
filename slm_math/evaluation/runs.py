"""Finished evaluations read back for comparing: which can be compared, and what else differs
between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_math.records.files import differences, read_manifest, read_records

_PART = re.compile(r"^rank-\d+$|\.replaced-\d+$")


@dataclass(frozen=True)
class Run:
    """One agent's evaluation: what it is called, its folder, its records (newest of every sample)
    and its manifest.
    """

    name: str
    folder: Path
    agent: str
    records: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]

    @property
    def grader(self) -> str:
        return str(self.manifest.get("environment", {}).get("grader", "unknown"))


def load_runs(folders: Sequence[str]) -> dict[str, dict[str, Run]]:
    """The runs to compare, by agent and then by folder; the first of each agent is its baseline.

    Each folder is an agent's (it holds records.jsonl), or each holds agents' folders, of which
    those are compared that the first and another one have. Agents' folders are compared whatever
    the agents are.

    Raises ValueError for what cannot be compared: a run that is empty, unfinished, graded by
    another version or named twice, or folders that have no agent in common.
    """
    if len(folders) < 2:
        raise ValueError(f"nothing to compare: name two folders or more, got {len(folders)}")
    seen: dict[Path, str] = {}
    for folder in folders:
        place = Path(folder).resolve()
        if place in seen:
            raise ValueError(
                f"{folder} is named twice (first as {seen[place]}): name two different runs"
            )
        seen[place] = folder
    found = {folder: _agents(folder) for folder in folders}
    single = [folder for folder in folders if "" in found[folder]]
    if single and len(single) < len(folders):
        several = next(folder for folder in folders if folder not in single)
        raise ValueError(
            f"{single[0]} is one agent's run, and {several} holds those of "
            f"{', '.join(sorted(found[several]))}: "
            f"name one of them, such as {several.rstrip('/')}/{sorted(found[several])[0]}"
        )
    if single:
        runs = {folder: _read(folder, found[folder][""]) for folder in folders}
        groups = {", ".join(dict.fromkeys(run.agent for run in runs.values())): runs}
    else:
        groups = _by_agent(found)
    for runs in groups.values():
        _check_grader(list(runs.values()))
    return groups


def unshared(folders: Sequence[str], groups: Mapping[str, Mapping[str, Run]]) -> list[str]:
    """Agents that are in the folders and not compared, as paths."""
    compared = {run.folder.resolve() for runs in groups.values() for run in runs.values()}
    found = [path for folder in folders for path in _agents(folder).values()]
    return [str(path) for path in found if path.resolve() not in compared]


def identity_notes(runs: Mapping[str, Run], width: int = 40) -> list[str]:
    """For every run but the first, a line on what else than its results differs from the first:
    settings, models.
    """
    (first, base), *others = runs.items()
    lines = []
    for name, run in others:
        old, new = (_identity(each) for each in (base, run))
        changed = [
            f"{key} ({_short(_at(old, key), width)} -> {_short(_at(new, key), width)})"
            for key in differences(old, new)
        ]
        if changed:
            lines.append(f"{name} differs from {first} in {', '.join(changed)}")
    return lines


def _identity(run: Run) -> dict[str, Any]:
    return {
        key: value
        for key, value in run.manifest.get("identity", {}).items()
        if key not in ("data", "problems")
    }


def _at(data: Any, key: str) -> Any:
    for name in key.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _short(value: Any, width: int) -> str:
    text = json.dumps(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def evaluations(folder: Path) -> dict[str, Path]:
    """By name the folders of agents, or of agents on each of several data sets: `<agent>`,
    `<set>/<agent>`.

    In the order in which they were started; not the ranks' shares of a run, nor evaluations that
    were replaced.
    """
    files = (file for depth in ("*", "*/*") for file in folder.glob(f"{depth}/records.jsonl"))
    found = [file.parent for file in files if not _PART.search(file.parent.name)]
    found.sort(key=lambda path: (str(read_manifest(path).get("started", "")), str(path)))
    return {path.relative_to(folder).as_posix(): path for path in found}


def folders_of(folder: str) -> dict[str, Path]:
    """The evaluations in a folder that a person named, by agent; an agent's own folder holds that
    one.
    """
    return {name or Path(folder).resolve().name: path for name, path in _agents(folder).items()}


def _agents(folder: str) -> dict[str, Path]:
    """The folders with records.jsonl by their names; "" for the folder itself."""
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(
            f"{folder} is not a folder: name one that `slm-math eval` or a training run wrote"
        )
    if (path / "records.jsonl").is_file():
        return {"": path}
    found = evaluations(path)
    if not found:
        raise ValueError(
            f"{folder} holds no evaluation (neither records.jsonl nor <agent>/records.jsonl)"
        )
    return found


def _by_agent(found: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, Run]]:
    first, *others = found
    groups = {}
    for agent in found[first]:
        having = [folder for folder in others if agent in found[folder]]
        if having:
            groups[agent] = {
                folder: _read(folder, found[folder][agent]) for folder in (first, *having)
            }
    if not groups:
        told = "; ".join(f"{folder} has {', '.join(agents)}" for folder, agents in found.items())
        raise ValueError(
            f"no agent in common ({told}): name agents' folders, such as "
            f"{next(iter(found[first].values()))}"
        )
    return groups


def _read(name: str, path: Path) -> Run:
    """Raises ValueError unless the run is whole."""
    manifest = read_manifest(path)
    if not manifest:
        raise ValueError(
            f"{path} has no manifest.json: nothing says whether the run is whole; evaluate again"
        )
    try:
        expected = int(manifest["identity"]["problems"]) * int(manifest["identity"]["samples"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}/manifest.json is not that of an evaluation ({error}): evaluate again"
        ) from error
    records = read_records(path / "records.jsonl")
    if len(records) < expected or manifest.get("partial"):
        state = "empty" if not records else "partial"
        raise ValueError(
            f"{path} is {state}: {len(records)} of {expected} samples are there; "
            "run the same `slm-math eval` again to finish it"
        )
    if not records:
        raise ValueError(f"{path} is empty: no sample of it was recorded")
    return Run(name, path, path.resolve().name, records, manifest)


def _check_grader(runs: Sequence[Run]) -> None:
    first, *others = runs
    for run in others:
        if run.grader != first.grader:
            raise ValueError(
                f"{first.folder} was graded by {first.grader} and {run.folder} by {run.grader}: "
                f"their verdicts cannot "
                "be compared; evaluate both again with one version"
            )
