"""Finished evaluations, read back for comparing: which can be compared, and how they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slm_math.evaluation.naming import names_of
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import read_samples
from slm_math.records.eval_folders import (
    BESIDE,
    RECORDS,
    beside,
    check_folder,
    evaluation_folders,
)
from slm_math.records.files import differences, read_manifest


@dataclass(frozen=True)
class FinishedEvaluation:
    """One agent's evaluation: its name in the comparison, its folder, the agent's name, its samples
    (the newest record of each) and its manifest.
    """

    name: str
    folder: Path
    agent: str
    samples: Samples
    manifest: Mapping[str, Any]

    @property
    def saved(self) -> bool:
        """Whether these are saved completions, of which another tool may have chosen the ids."""
        return "tool" in self.manifest.get("identity", {})

    @property
    def grader(self) -> str:
        return str(self.manifest.get("environment", {}).get("grader", "unknown"))


def load_evaluations(
    folders: Sequence[str] | Mapping[str, Path],
) -> dict[str, dict[str, FinishedEvaluation]]:
    """The evaluations to compare, by agent and then by name (see `names_of`); the first of each
    agent is the baseline. Folders may have other names than their paths.

    Either every folder is an agent's (it holds records.jsonl), and all are compared whatever the
    agents are. Or every folder holds agents' folders, and each agent is compared that the first
    folder and another one have. Of a single folder with several agents, these are compared with
    the first of them, each data set by itself.

    Raises ValueError for what cannot be compared: an evaluation that is empty, unfinished, graded
    by another version or named twice, or folders that have no agent in common.
    """
    check_named_once(folders)
    paths = _paths(folders)
    if len(paths) < 2:
        return _inside_one(paths)
    agents = {folder: _agent_folders(folder, path) for folder, path in paths.items()}
    single = [folder for folder in folders if "" in agents[folder]]
    if single and len(single) < len(folders):
        several = next(folder for folder in folders if folder not in single)
        names = sorted(agents[several])
        raise ValueError(
            f"{single[0]} is one agent's run, and {several} holds those of {', '.join(names)}: "
            f"name one of them, such as {several.rstrip('/')}/{names[0]}"
        )
    if single:
        evaluations = {folder: read_finished(folder, agents[folder][""]) for folder in folders}
        title = ", ".join(dict.fromkeys(one.agent for one in evaluations.values()))
        groups = {title: evaluations}
    else:
        groups = _by_agent(agents)
    for evaluations in groups.values():
        check_grader(list(evaluations.values()))
    return _named(groups)


def _named(
    groups: Mapping[str, Mapping[str, FinishedEvaluation]],
) -> dict[str, dict[str, FinishedEvaluation]]:
    """The same evaluations by their names (see `names_of`); until here each is called by its path,
    as the user wrote it.
    """
    every = [one for group in groups.values() for one in group.values()]
    names = iter(names_of([Path(one.name).resolve() for one in every]))
    return {
        title: {name: replace(one, name=name) for one, name in zip(group.values(), names)}
        for title, group in groups.items()
    }


def _inside_one(paths: Mapping[str, Path]) -> dict[str, dict[str, FinishedEvaluation]]:
    """The agents of a single folder, by data set if it has several."""
    folder = next(iter(paths), "").rstrip("/")
    agents = {n: p for one in paths.items() for n, p in _agent_folders(*one).items()}
    groups: dict[str, dict[str, FinishedEvaluation]] = {}
    for name, path in agents.items():
        data = name.rpartition("/")[0]
        if not name.endswith(BESIDE):
            title = "/".join(filter(None, (folder, data)))
            groups.setdefault(title, {})[name] = read_finished(f"{folder}/{name}", path)
    groups = {title: group for title, group in groups.items() if len(group) > 1}
    if not groups:
        raise ValueError(
            "nothing to compare: name two folders or more, or one that holds several runs or "
            f"agents, got {', '.join(paths) or 'none'}"
        )
    for group in groups.values():
        check_grader(list(group.values()))
    return _named(groups)


def check_named_once(folders: Sequence[str] | Mapping[str, Path]) -> None:
    """Raises ValueError for a folder or file that is named twice."""
    seen: dict[Path, str] = {}
    for folder in folders:
        path = Path(folders[folder] if isinstance(folders, Mapping) else folder).resolve()
        if path in seen:
            raise ValueError(
                f"{folder} is named twice (first as {seen[path]}): name two different runs"
            )
        seen[path] = folder


def _paths(folders: Sequence[str] | Mapping[str, Path]) -> Mapping[str, Path]:
    if isinstance(folders, Mapping):
        return folders
    return {folder: Path(folder) for folder in folders}


def unshared(
    folders: Sequence[str] | Mapping[str, Path],
    groups: Mapping[str, Mapping[str, FinishedEvaluation]],
) -> list[str]:
    """The paths of agents in the folders that are not compared."""
    compared = {one.folder.resolve() for group in groups.values() for one in group.values()}
    found = [_agent_folders(*one) for one in _paths(folders).items()]
    alone = len(found) == 1  # whose controls are no agents
    paths = [p for one in found for n, p in one.items() if not (alone and n.endswith(BESIDE))]
    return [str(path) for path in paths if path.resolve() not in compared]


def identity_notes(evaluations: Mapping[str, FinishedEvaluation], width: int = 40) -> list[str]:
    """For every evaluation but the first, a line on the settings and models that differ from the
    first.
    """
    (first, baseline), *others = evaluations.items()
    lines = []
    for name, evaluation in others:
        old, new = (_identity(one) for one in (baseline, evaluation))
        changed = [
            f"{key} ({_short(_at(old, key), width)} -> {_short(_at(new, key), width)})"
            for key in differences(old, new)
        ]
        if changed:
            lines.append(f"{name} differs from {first} in {', '.join(changed)}")
    return lines


def _identity(evaluation: FinishedEvaluation) -> dict[str, Any]:
    return {
        key: value
        for key, value in evaluation.manifest.get("identity", {}).items()
        if key not in ("data", "problems", "rows")
    }


def _at(data: Any, key: str) -> Any:
    for name in key.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _short(value: Any, width: int) -> str:
    text = json.dumps(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def columns_of(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """The evaluations in the folders and files that a user named, by what holds them and by what
    they are called there; both together are the names of `names_of`. A single holder is called as
    the user wrote it.
    """
    columns: dict[Path, dict[str, Path]] = {}
    written: dict[Path, str] = {}
    for folder, path in folders.items():
        for agent, found in _agent_folders(folder, path).items():
            own = Path(folder) if agent and Path(folder).is_dir() else Path(folder).parent
            holder = own.resolve()
            name = (Path(folder).resolve() / agent).relative_to(holder).as_posix()
            columns.setdefault(holder, {})[name] = found
            written.setdefault(holder, holder.name if own == Path() else str(own))
    names = names_of(list(columns)) if len(columns) > 1 else list(written.values())
    return dict(zip(names, columns.values(), strict=True))


def named_folders(folder: str, path: Path | None = None) -> dict[str, Path]:
    """The evaluations in a folder that a user named, by agent; an agent's own folder holds just
    that one. `path` is where the folder is, if not at its name.
    """
    path = Path(folder) if path is None else path
    own_name = path.resolve().name
    return {name or own_name: found for name, found in _agent_folders(folder, path).items()}


def _agent_folders(folder: str, path: Path) -> dict[str, Path]:
    """The folders with records.jsonl by their names; "" for the folder itself."""
    check_folder(folder, path)
    if (path / RECORDS).is_file():
        return {"": path}
    agents = evaluation_folders(path)
    if not agents:
        raise ValueError(
            f"{folder} holds no evaluation (neither records.jsonl nor <agent>/records.jsonl)"
        )
    return agents


def _by_agent(
    agents: Mapping[str, Mapping[str, Path]],
) -> dict[str, dict[str, FinishedEvaluation]]:
    """The evaluations of every agent that the first folder and another one have."""
    first, *others = agents
    groups = {}
    for agent in agents[first]:
        sharing = [folder for folder in others if agent in agents[folder]]
        if sharing:
            groups[agent] = {
                folder: read_finished(f"{folder.rstrip('/')}/{agent}", agents[folder][agent])
                for folder in (first, *sharing)
            }
    if not groups:
        lists = "; ".join(f"{folder} has {', '.join(names)}" for folder, names in agents.items())
        raise ValueError(
            f"no agent in common ({lists}): name agents' folders, such as "
            f"{next(iter(agents[first].values()))}"
        )
    return groups


def read_beside(
    folder: Path, end: str, own: Sequence[str], refusal: str
) -> tuple[Samples, Samples] | None:
    """The samples of an agent's evaluation, and of the one beside it whose name has this `end`;
    None if there is none, or `folder` is itself such a one.

    `own` are the parts of the identity in which the two may differ. Raises ValueError if one of
    them is unfinished, or if they differ in more; `refusal` says what that means and what to do,
    with a place for what differs.
    """
    path = beside(folder, end)
    if folder.name.endswith(end) or not (path / RECORDS).is_file():
        return None
    evaluations = read_finished(folder.name, folder), read_finished(path.name, path)
    check_grader(list(evaluations))
    changed = differences(*(one.manifest["identity"] for one in evaluations))
    if more := [key for key in changed if key not in own]:
        raise ValueError(f"{path} {refusal.format(', '.join(more))}")
    one, other = evaluations
    return one.samples, other.samples


def read_finished(name: str, path: Path) -> FinishedEvaluation:
    """The evaluation of an agent in its folder. Raises ValueError unless it is complete."""
    manifest = read_manifest(path)
    if not manifest:
        raise ValueError(
            f"{path} has no manifest.json, so nothing says whether the run is complete: evaluate "
            f"again"
        )
    try:
        identity = manifest["identity"]
        expected = int(identity.get("rows", 0))
        expected = expected or int(identity["problems"]) * int(identity["samples"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}/manifest.json is not that of an evaluation ({error}): evaluate again"
        ) from error
    samples = read_samples(path)
    if len(samples) < expected or manifest.get("partial"):
        state = "empty" if not samples else "partial"
        raise ValueError(
            f"{path} is {state}: {len(samples)} of {expected} samples are there; "
            "run the same `slm-math eval` again to finish it"
        )
    if not samples:
        raise ValueError(f"{path} is empty: it has no records")
    return FinishedEvaluation(
        name, path, agent=path.resolve().name, samples=samples, manifest=manifest
    )


def check_grader(evaluations: Sequence[FinishedEvaluation]) -> None:
    """Raises ValueError for evaluations that different versions of the grader graded."""
    first, *others = evaluations
    for other in others:
        if other.grader != first.grader:
            raise ValueError(
                f"{first.folder} was graded by {first.grader} and {other.folder} by "
                f"{other.grader}: verdicts of different graders cannot be compared; evaluate both "
                f"again with one version"
            )
