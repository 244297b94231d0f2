"""Records of saved completions, in a folder that other commands read as that of an evaluation."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from slm_math.answers import grader_version
from slm_math.evaluation.plain import plain
from slm_math.foreign.texts import TEXT, text_key
from slm_math.grading.scoring import GradedLine
from slm_math.grading.tally import Tallies
from slm_math.records.encoding import json_line
from slm_math.records.eval_folders import RECORDS
from slm_math.records.files import recorded_data_hash, write_json
from slm_math.records.places import Places, digest
from slm_math.records.record import Record
from slm_math.records.stored import StoredRecords

SAVED = "completions"  # the name of such a run
_LOW = (1 << 32) - 1


@dataclass
class _Writer:
    """Writes the records of one run; problems without an id are known by their text."""

    folder: Path
    file: IO[bytes]
    n: int = 0
    most: int = 0
    problems: Places = field(default_factory=Places)  # id -> its text, as a digest of 32 bits
    sizes: Places = field(default_factory=Places)  # id -> samples so far

    def add(self, record: Record, line: int) -> None:
        text = record.problem
        id = record.id or (f"{TEXT}{text_key(text)[:16]}" if text else f"line-{line}")
        key = digest(id)
        own = digest((text, record.choices)) & _LOW
        if self.problems.setdefault(key, own) != own:
            raise ValueError(
                f"line {line}: the id {plain(id)!r} is that of another problem in an earlier line: "
                "split the file, or remove its ids"
            )
        sample = self.sizes.get(key) or 0
        self.sizes.set(key, sample + 1)
        self.n, self.most = self.n + 1, max(self.most, sample + 1)
        self.file.write(json_line(replace(record, id=id, sample=sample)))


class Recorder:
    """Takes graded lines and writes their records below a folder, for each filter of lm-eval apart.

    Raises ValueError for a folder that holds records already.
    """

    def __init__(self, folder: Path) -> None:
        if any((folder / name).exists() for name in (RECORDS, "manifest.json")):
            raise ValueError(f"{folder} holds records already: choose another --records")
        self.folder = folder
        self._writers: dict[str | None, _Writer] = {}

    def add(self, row: GradedLine) -> GradedLine:
        """Writes the records of a line, and returns it."""
        for sample in row.samples if row.error is None else ():
            if sample.filter not in self._writers:
                self._writers[sample.filter] = self._writer(sample.filter)
            if sample.record is not None:
                self._writers[sample.filter].add(sample.record, sample.line)
        return row

    def _writer(self, name: str | None) -> _Writer:
        safe = re.sub(r"[^\w.-]+", "_", name or "").lstrip(".-") or f"filter-{len(self._writers)}"
        folder = self.folder if name is None else self.folder / safe
        folder.mkdir(parents=True, exist_ok=True)
        return _Writer(folder, (folder / f"{RECORDS}.new").open("wb"))

    def finish(self, path: Path, tool: str, tallies: Tallies) -> None:
        """Ends the files, each with its manifest. Filters that left completions as they are count
        once; what they made lies in the folder itself then.
        """
        kept = {tally.filter for tally in tallies.finished}
        about = {"file": str(path.resolve()), "sha256": _hash(path), "unread": tallies.unread}
        for name, writer in self._writers.items():
            writer.file.close()
            new = writer.folder / f"{RECORDS}.new"
            if name not in kept:
                new.unlink()
                writer.folder.rmdir()
                continue
            folder = self.folder if len(kept) == 1 else writer.folder
            new.replace(folder / RECORDS)
            manifest = _manifest(writer, folder, tool, about)
            manifest["identity"]["last_number"] = tallies.fields.last_number
            write_json(folder / "manifest.json", manifest)
            if folder != writer.folder:
                writer.folder.rmdir()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, removes what was written."""
        for writer in self._writers.values() if kind is not None else ():
            writer.file.close()
            (writer.folder / f"{RECORDS}.new").unlink(missing_ok=True)


def _manifest(writer: _Writer, folder: Path, tool: str, about: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    records = StoredRecords(folder / RECORDS, by_key=False)
    first: dict[str, int] = {}  # the place of each problem's first record, by its id
    for place, record in enumerate(records):
        first.setdefault(record.id, place)
    return {
        "folder": folder.as_posix(),
        "identity": {
            "tool": tool,
            "grader": grader_version(),
            "problems": len(writer.problems),
            "samples": writer.most,
            "rows": writer.n,
        },
        "about": about
        | {"data_by_id": recorded_data_hash(records[first[id]] for id in sorted(first))},
        "started": now,
        "finished": now,
        "partial": False,
        "records": writer.n,
        "environment": {"grader": grader_version()},
    }


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
