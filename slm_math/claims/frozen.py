"""The runs of a claim, from folders of evaluations or from the members of a claim file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slm_math.claims.archive import (
    CONTROLS,
    MANIFEST,
    OVERLAP,
    RECORDS,
    compressed,
    decompressed,
    parsed,
)
from slm_math.evaluation.blind import BLIND, blind_folder
from slm_math.evaluation.runs import FinishedEvaluation, named_folders, read_finished
from slm_math.records.encoding import from_json, json_line
from slm_math.records.eval_folders import BESIDE
from slm_math.records.record import Record

_PLACE = re.compile(r"runs/([1-9][0-9]*)/")
LARGEST_LINE = 64 << 20  # bytes of a record


@dataclass(frozen=True)
class FrozenRun:
    """An evaluation as a claim holds it.

    Args:
        name: in the claim.
        agent: the name of the agent.
        records: of all samples, in the order of `order`.
        manifest: the bytes of the manifest.
        overlap: the bytes of what `slm-math overlap --out` wrote, if anything.
        controls: of the run, by their names (see `control_folders`).
    """

    name: str
    agent: str
    records: Sequence[Record]
    manifest: bytes
    overlap: bytes | None = None
    controls: Mapping[str, FrozenRun] = field(default_factory=dict)

    @cached_property
    def about(self) -> dict[str, Any]:
        """The manifest. Raises ValueError if it is none."""
        found = parsed(self.manifest)
        identity = found.get("identity")
        if not isinstance(identity, dict) or not isinstance(found.get("about", {}), dict):
            raise ValueError("it is not the manifest of an evaluation")
        return found

    @property
    def identity(self) -> dict[str, Any]:
        return self.about["identity"]

    def members(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The files of the run in a claim."""
        text = b"".join(map(json_line, self.records))
        yield f"{prefix}{RECORDS}", compressed(text)
        yield f"{prefix}{MANIFEST}", self.manifest
        if self.overlap is not None:
            yield f"{prefix}{OVERLAP}", self.overlap
        for name, control in self.controls.items():
            yield from control.members(f"{prefix}{CONTROLS}/{name}/")


def control_name(run: str, control: str) -> str:
    """The name of a control of a run."""
    return f"{run}, {control}"


def order(record: Record) -> tuple[tuple[tuple[int, int, str], ...], str, int]:
    """The place of a record in a claim: by problem, numbers in ids as numbers, then by sample."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", record.id)
    key = tuple((0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts)
    return key, record.id, record.sample


def runs_of(folders: Sequence[str]) -> list[FrozenRun]:
    """The evaluations in the folders that a user named: agents' folders, or one output folder of
    `slm-math eval` with those of its agents. The first is the baseline of the others.

    Raises ValueError for what cannot be claimed: evaluations that are unfinished, or named twice.
    """
    if not folders:
        raise ValueError("nothing to claim: name the folders of evaluations, the baseline first")
    runs: list[FrozenRun] = []
    seen: set[Path] = set()
    for folder in folders:
        found = named_folders(folder)
        alone = (Path(folder) / "records.jsonl").is_file()
        for agent, path in found.items():
            if agent.endswith(BESIDE) and not alone:
                continue
            if path.resolve() in seen:
                raise ValueError(f"{path} is named twice: name every run once")
            seen.add(path.resolve())
            runs.append(_run(read_finished(str(path), path), with_controls=True))
    names = _names([run.name for run in runs])
    return [_named(run, name) for run, name in zip(runs, names, strict=True)]


def _named(run: FrozenRun, name: str) -> FrozenRun:
    """A run of another name, after which its controls are called."""
    controls = {
        arm: replace(control, name=control_name(name, arm)) for arm, control in run.controls.items()
    }
    return replace(run, name=name, controls=controls)


def _names(paths: Sequence[str]) -> list[str]:
    """Paths without what they have in common at the beginning, which is of one machine."""
    parts = [Path(path).absolute().parts for path in paths]
    common = min(len(each) for each in parts) - 1
    while common and len({each[:common] for each in parts}) > 1:
        common -= 1
    return ["/".join(each[common:]) for each in parts]


def control_folders(folder: Path) -> dict[str, Path]:
    """The evaluations that are controls of the one in a folder, by name: "blind", which
    `blank_images` wrote beside it; and of one in a training run RUN those of its control arms, each
    a run in RUN/controls/ARM, which have the same place in their run.
    """
    found = {}
    blind = blind_folder(folder)
    if not folder.name.endswith(BLIND) and (blind / "records.jsonl").is_file():
        found["blind"] = blind
    for run in folder.parents:
        place = folder.relative_to(run)
        for arm in sorted((run / CONTROLS).glob("*")):
            if (arm / place / "records.jsonl").is_file():
                found[arm.name] = arm / place
    return found


def _run(evaluation: FinishedEvaluation, with_controls: bool) -> FrozenRun:
    folder = evaluation.folder
    controls = {
        name: _run(read_finished(str(path), path), with_controls=False)
        for name, path in (control_folders(folder.resolve()) if with_controls else {}).items()
    }
    places = (folder / OVERLAP, folder.parent / OVERLAP)
    overlap = next((path.read_bytes() for path in places if path.is_file()), None)
    return FrozenRun(
        name=evaluation.name,
        agent=evaluation.agent,
        records=sorted(evaluation.samples.records, key=order),
        manifest=(folder / MANIFEST).read_bytes(),
        overlap=overlap if with_controls else None,
        controls=controls,
    )


def frozen(members: Mapping[str, bytes], claim: Mapping[str, Any]) -> list[FrozenRun]:
    """The runs that the members of a claim hold, with the names that it gives them.

    Raises ValueError, which begins with the name of the member, for what is no run.
    """
    places = sorted({int(found[1]) for name in members if (found := _PLACE.match(name))})
    named = claim.get("runs")
    named = named if isinstance(named, list) else []
    if places != list(range(1, len(named) + 1)) or not places:
        raise ValueError(f"claim.json: it names {len(named)} runs, and there are {len(places)}")
    return [
        _frozen(members, f"runs/{place}/", own if isinstance(own, dict) else {})
        for place, own in zip(places, named)
    ]


def _frozen(members: Mapping[str, bytes], prefix: str, own: Mapping[str, Any]) -> FrozenRun:
    for name in (f"{prefix}{RECORDS}", f"{prefix}{MANIFEST}"):
        if name not in members:
            raise ValueError(f"{name}: it is missing")
    inside = f"{prefix}{CONTROLS}/"
    arms = sorted({n[len(inside) :].partition("/")[0] for n in members if n.startswith(inside)})
    controls = {}
    for arm in arms:
        about = {"name": control_name(str(own.get("name")), arm), "agent": own.get("agent")}
        controls[arm] = _frozen(members, f"{inside}{arm}/", about)
    run = FrozenRun(
        name=str(own.get("name")),
        agent=str(own.get("agent")),
        records=_records(f"{prefix}{RECORDS}", members[f"{prefix}{RECORDS}"]),
        manifest=members[f"{prefix}{MANIFEST}"],
        overlap=members.get(f"{prefix}{OVERLAP}"),
        controls=controls,
    )
    try:
        run.about  # noqa: B018
    except ValueError as error:
        raise ValueError(f"{prefix}{MANIFEST}: {error}") from error
    return run


def _records(name: str, data: bytes) -> list[Record]:
    """The records of a member. Raises ValueError with its name and the line for a line that is not
    what this program writes, and for records that are repeated or out of order.
    """
    try:
        text = decompressed(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    records: list[Record] = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        where = f"{name}, line {number}"
        try:
            if len(line) > LARGEST_LINE:
                raise ValueError(f"it has more than {LARGEST_LINE >> 20} MiB")
            record = from_json(json.loads(line.decode("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{where}: not an evaluation record ({error})") from error
        if json_line(record) != line:
            raise ValueError(f"{where}: not as this program writes a record")
        if records and order(records[-1]) >= order(record):
            raise ValueError(f"{where}: the record is repeated, or out of order")
        records.append(record)
    if not text.endswith(b"\n"):
        raise ValueError(f"{name}: {'it has no records' if not text else 'its end is missing'}")
    return records
