"""The runs of a claim, from folders of evaluations or from the members of a claim file."""

from __future__ import annotations

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
    Budget,
    compressed,
    decompressed_lines,
    parsed,
)
from slm_math.claims.labels import BLIND, TWINS, control_name, folder_of
from slm_math.claims.packed import PackedRecords, parsed_record
from slm_math.evaluation.naming import names_of
from slm_math.evaluation.runs import FinishedEvaluation, named_folders, read_finished
from slm_math.records import eval_folders
from slm_math.records.encoding import json_line
from slm_math.records.eval_folders import BESIDE, beside
from slm_math.records.files import MANIFEST_KEYS, read_manifest
from slm_math.records.record import Record

RECORD_FILE = eval_folders.RECORDS
_PLACE = re.compile(r"runs/([1-9][0-9]*)/")


@dataclass(frozen=True)
class FrozenRun:
    """An evaluation as a claim holds it.

    Args:
        records: of all samples, in the order of `order`.
        manifest: the bytes of the manifest.
        overlap: the bytes of what `slm-math overlap --out` wrote, if anything.
        controls: of the run, by their names (see `control_folders`).
        name: in the claim (see `named`).
    """

    records: Sequence[Record]
    manifest: bytes
    overlap: bytes | None = None
    controls: Mapping[str, FrozenRun] = field(default_factory=dict)
    name: str = ""

    @cached_property
    def about(self) -> dict[str, Any]:
        """The manifest. Raises ValueError if it is none."""
        found = parsed(self.manifest)
        parts = found.get("identity"), found.get("about", {}), found.get("environment", {})
        if not all(isinstance(part, dict) for part in parts):
            raise ValueError("it is not the manifest of an evaluation")
        if more := sorted(found.keys() - MANIFEST_KEYS):
            raise ValueError(f"it has the key {more[0]!r:.40}, which no evaluation writes")
        batches = parts[1].get("batches")
        if batches is not None and (type(batches) is not int or batches < 0):
            raise ValueError(f"its about.batches is {batches!r:.40}, no number of batches")
        unread = parts[1].get("unread", 0)
        if type(unread) is not int or unread:  # else the right ones could be chosen by it
            raise ValueError(
                f"{unread!r:.40} rows of its file could not be read and are missing: mend them, "
                "and grade the file again"
            )
        for key, value in (
            ("folder", found.get("folder")),
            ("about.source", parts[1].get("source")),
            ("about.split", parts[1].get("split")),
            ("identity.tool", found["identity"].get("tool")),
        ):
            if value is not None and not isinstance(value, str):
                raise ValueError(f"its {key} is {value!r:.40}, which is no text")
        return found

    @property
    def identity(self) -> dict[str, Any]:
        return self.about["identity"]

    @cached_property
    def keys(self) -> list[tuple[str, int]]:
        """Problem and sample of every record, in order."""
        return [record.key for record in self.records]

    @property
    def agent(self) -> str:
        """The name of the agent: that of the folder in which the evaluation was written."""
        return folder_of(self.about).name

    def setting(self, name: str) -> Any:
        """What the manifest says besides the identity."""
        return self.about.get("about", {}).get(name)

    def members(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The files of the run in a claim."""
        text = b"".join(map(json_line, self.records))
        yield f"{prefix}{RECORDS}", compressed(text)
        yield f"{prefix}{MANIFEST}", self.manifest
        if self.overlap is not None:
            yield f"{prefix}{OVERLAP}", self.overlap
        for name, control in self.controls.items():
            yield from control.members(f"{prefix}{CONTROLS}/{name}/")


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
        alone = (Path(folder) / RECORD_FILE).is_file()
        for agent, path in found.items():
            if agent.endswith(BESIDE) and not alone:
                continue
            if path.resolve() in seen:
                raise ValueError(f"{path} is named twice: name every run once")
            seen.add(path.resolve())
            runs.append(_run(read_finished(str(path), path), with_controls=True))
    return named(runs)


def named(runs: Sequence[FrozenRun]) -> list[FrozenRun]:
    """Runs with the names that their manifests give them, after which their controls are called."""
    names = names_of([folder_of(run.about) for run in runs])
    return [
        replace(
            run,
            name=name,
            controls={
                key: replace(control, name=control_name(name, key))
                for key, control in run.controls.items()
            },
        )
        for run, name in zip(runs, names, strict=True)
    ]


def control_folders(folder: Path) -> dict[str, Path]:
    """The evaluations that are controls of the one in a folder, by name: "blind" and "twins", which
    `blank_images` and `twins` wrote beside it; and of one in a training run RUN those of its
    control arms, each a run in RUN/controls/ARM, which have the same place in their run. Before
    training there is nothing that an arm could have learned, so that no arm is a control.
    """
    found = {}
    for name, end in ((BLIND, eval_folders.BLIND), (TWINS, eval_folders.TWINS)):
        if not folder.name.endswith(BESIDE) and (beside(folder, end) / RECORD_FILE).is_file():
            found[name] = beside(folder, end)
    if read_manifest(folder).get("about", {}).get("batches") == 0:
        return found
    for run in folder.parents:
        place = folder.relative_to(run)
        for arm in sorted((run / CONTROLS).glob("*")):
            if (arm / place / RECORD_FILE).is_file():
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
        records=sorted(evaluation.samples.records, key=order),
        manifest=(folder / MANIFEST).read_bytes(),
        overlap=overlap if with_controls else None,
        controls=controls,
    )


def frozen(members: Mapping[str, bytes], claim: Mapping[str, Any]) -> list[FrozenRun]:
    """The runs that the members of a claim hold.

    Raises ValueError, which begins with the name of the member, for what is no run.
    """
    places = sorted({int(found[1]) for name in members if (found := _PLACE.match(name))})
    runs = claim.get("runs")
    number = len(runs) if isinstance(runs, list) else 0
    if places != list(range(1, number + 1)) or not places:
        raise ValueError(f"claim.json: it names {number} runs, and there are {len(places)}")
    budget = Budget.of(members)
    return named([_frozen(members, f"runs/{place}/", budget) for place in places])


def _frozen(members: Mapping[str, bytes], prefix: str, budget: Budget) -> FrozenRun:
    for name in (f"{prefix}{RECORDS}", f"{prefix}{MANIFEST}"):
        if name not in members:
            raise ValueError(f"{name}: it is missing")
    inside = f"{prefix}{CONTROLS}/"
    arms = sorted({n[len(inside) :].partition("/")[0] for n in members if n.startswith(inside)})
    run = FrozenRun(
        records=_records(f"{prefix}{RECORDS}", members[f"{prefix}{RECORDS}"], budget),
        manifest=members[f"{prefix}{MANIFEST}"],
        overlap=members.get(f"{prefix}{OVERLAP}"),
        controls={arm: _frozen(members, f"{inside}{arm}/", budget) for arm in arms},
    )
    try:
        run.about  # noqa: B018
    except ValueError as error:
        raise ValueError(f"{prefix}{MANIFEST}: {error}") from error
    return run


def _records(name: str, data: bytes, budget: Budget) -> PackedRecords:
    """The records of a member. Raises ValueError with its name and the line for a line that is not
    what this program writes, and for records that are repeated or out of order.
    """
    records = PackedRecords()
    last, line, where = None, b"", name
    try:
        for number, line in enumerate(decompressed_lines(data, budget), 1):
            where = f"{name}, line {number}"
            place = order(_record(line))
            if last is not None and last >= place:
                raise ValueError("the record is repeated, or out of order")
            last = place
            records.append(line)
            where = f"{name}, after line {number}"
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not line:
        raise ValueError(f"{name}: it has no records")
    return records


def _record(line: bytes) -> Record:
    """The record of a line. Raises ValueError for one that this program does not write."""
    try:
        record = parsed_record(line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an evaluation record ({error})") from error
    if json_line(record) != line:
        raise ValueError("not as this program writes a record")
    return record
