"""Checks a claim: everything in it is computed again, and whatever moved is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.answers import grader_version
from slm_math.claims.archive import CLAIM, README, members, parsed
from slm_math.claims.figures import Design, agent_of, described
from slm_math.claims.frozen import FrozenRun, frozen
from slm_math.claims.regrade import SavedCompletions, moved
from slm_math.claims.replay import Replayed
from slm_math.evaluation.plain import plain
from slm_math.evaluation.progress import with_progress

MOST = 20  # lines about one run


@dataclass
class Checked:
    """What a check found: how much of each thing was looked at, and a line for all that moved."""

    counts: Counter[str] = field(default_factory=Counter)
    moved: list[str] = field(default_factory=list)
    statement: list[str] = field(default_factory=list)


def check_claim(path: Path, console: Console) -> Checked:
    """Checks a claim file. It is opened as data: nothing is unpacked, and no code of it is run."""
    checked = Checked()
    try:
        found = members(path)
        claim = _claim(found)
        runs = frozen(found, claim)
    except ValueError as error:
        checked.moved.append(plain(error, 400))
        return checked
    check_members(found, claim, runs, checked=checked, console=console)
    return checked


def check_members(
    found: Mapping[str, bytes],
    claim: Mapping[str, Any],
    runs: Sequence[FrozenRun],
    *,
    checked: Checked,
    console: Console,
) -> None:
    """Adds to `checked` what is found of the members of a claim."""
    checked.counts["files"] += len(found)
    if claim.get("grader") != grader_version():
        checked.moved.append(
            f"the claim was graded by version {plain(claim.get('grader'))}, and this slm-math has "
            f"{grader_version()}: check it with the slm-math that the manifests name"
        )
        return
    for run in runs:
        for each in (run, *run.controls.values()):
            _check_run(each, checked, console)
    try:
        design = Design.of(claim.get("design"))
        again = described(
            runs, design, {n: d for n, d in found.items() if n not in (CLAIM, README)}
        )
    except ValueError as error:
        checked.moved.append(plain(error, 400))
        return
    ours = parsed(again[CLAIM])
    checked.statement = ours["statement"]
    checked.counts["figures"] += sum(1 for _ in _leaves(ours))
    checked.moved += different(claim, ours)
    for name in (CLAIM, README):
        if found[name] != again[name] and not checked.moved:
            checked.moved.append(f"{name}: other bytes than the runs give")


def _claim(found: Mapping[str, bytes]) -> dict[str, Any]:
    for name in (CLAIM, README):
        if name not in found:
            raise ValueError(f"{name}: it is missing")
    try:
        return parsed(found[CLAIM])
    except ValueError as error:
        raise ValueError(f"{CLAIM}: {error}") from error


def _check_run(run: FrozenRun, checked: Checked, console: Console) -> None:
    """Grades the records of a run again, and runs its agent again on their replies."""
    lines, agent = 0, agent_of(run)
    for record in with_progress(run.records, console, f"grading {plain(run.name)} again"):
        checked.counts["verdicts"] += 1
        saved = isinstance(agent, SavedCompletions)
        differences = list(agent.moved(record) if saved else moved(record))
        if isinstance(agent, Replayed):
            checked.counts["workflows"] += 1
            difference = agent.difference(record)
            differences += [] if difference is None else [difference]
        for line in differences:
            lines += 1
            if lines <= MOST:
                where = f"problem {plain(record.id)}, sample {record.sample}"
                checked.moved.append(plain(f"{run.name}, {where}: {line}", 400))
    if lines > MOST:
        checked.moved.append(f"{plain(run.name)}: {lines - MOST} more of this kind")


def different(claimed: Any, ours: Any, where: str = CLAIM) -> Iterator[str]:
    """A line for each figure of a claim that is another one when it is computed again."""
    if isinstance(claimed, dict) and isinstance(ours, dict):
        for key in {**ours, **claimed}:
            if key not in ours or key not in claimed:
                has = "is not part of a claim" if key in claimed else "is missing"
                yield f"{where}.{plain(key)} {has}"
            else:
                yield from different(claimed[key], ours[key], f"{where}.{plain(key)}")
    elif isinstance(claimed, list) and isinstance(ours, list) and len(claimed) == len(ours):
        for place, (one, other) in enumerate(zip(claimed, ours, strict=True)):
            yield from different(one, other, f"{where}.{place}")
    elif type(claimed) is not type(ours) or claimed != ours:
        says = f"the claim says {plain(repr(claimed), 80)}"
        yield f"{where}: {says}, computed {plain(repr(ours), 80)}"


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value
