"""Records of saved completions, in a folder that other commands read as that of an evaluation."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from slm_math.answers import grader_version
from slm_math.grading.scoring import GradedLine, verdict_of
from slm_math.grading.tally import Tallies
from slm_math.records.encoding import from_json, json_line
from slm_math.records.eval_folders import RECORDS
from slm_math.records.files import recorded_data_hash, write_json
from slm_math.records.places import Places, digest
from slm_math.records.record import Record
from slm_math.records.stored import StoredRecords
from slm_math.types import Problem, Task

SAVED = "completions"  # the name of such a run


@dataclass
class _Writer:
    """Writes the records of one run. Each sample of a problem has the text and the reference answer
    of its first one, as those of an evaluation have: rows may spell them otherwise.
    """

    folder: Path
    file: IO[bytes]
    last_number: bool
    n: int = 0
    most: int = 0
    sizes: Places = field(default_factory=Places)  # id -> samples so far
    firsts: Places = field(default_factory=Places)  # id -> number of its first record
    starts: array[int] = field(default_factory=lambda: array("Q"))  # of first records in the file
    rules: array[int] = field(default_factory=lambda: array("Q"))  # digests of what they are about

    def add(self, record: Record) -> None:
        key = digest(record.id)
        sample = self.sizes.get(key) or 0
        self.sizes.set(key, sample + 1)
        self.n, self.most = self.n + 1, max(self.most, sample + 1)
        own = digest(repr((record.problem, record.choices, record.gold)))
        number = self.firsts.setdefault(key, len(self.starts))
        if number == len(self.starts):
            self.starts.append(self.file.tell())
            self.rules.append(own)
        elif self.rules[number] != own:
            record = self._like(record, self._read(self.starts[number]))
        self.file.write(json_line(replace(record, sample=sample)))

    def _read(self, start: int) -> Record:
        end = self.file.tell()
        self.file.seek(start)
        first = from_json(json.loads(self.file.readline()))
        self.file.seek(end)
        return first

    def _like(self, record: Record, first: Record) -> Record:
        """A record as one of the problem of an earlier one, graded with its reference answer."""
        record = replace(record, problem=first.problem, choices=first.choices)
        if record.gold == first.gold or record.method == "record":  # its answer came with the row
            return replace(record, gold=first.gold)
        problem = Problem("", "", record.answer_type, record.choices)
        task = Task(problem, first.gold, tolerance=record.tolerance)
        correct, answer, method, reason, lenient = verdict_of(
            record.turns[0].reply, task, self.last_number
        )
        return replace(
            record,
            gold=first.gold,
            correct=correct,
            answer=answer,
            method=method,
            reason=reason,
            hedged=reason == "hedged",
            lenient=lenient,
        )


class Recorder:
    """Takes graded lines and writes their records below a folder, for each filter of lm-eval apart.

    Raises ValueError for a folder that holds records already.
    """

    def __init__(self, folder: Path, last_number: bool = False) -> None:
        if any((folder / name).exists() for name in (RECORDS, "manifest.json")):
            raise ValueError(f"{folder} holds records already: choose another --records")
        self.folder, self.last_number = folder, last_number
        self._writers: dict[str | None, _Writer] = {}

    def add(self, row: GradedLine) -> GradedLine:
        """Writes the records of a line, and returns it."""
        for sample in row.samples if row.error is None else ():
            if sample.filter not in self._writers:
                self._writers[sample.filter] = self._writer(sample.filter)
            if sample.record is not None:
                self._writers[sample.filter].add(sample.record)
        return row

    def _writer(self, name: str | None) -> _Writer:
        safe = re.sub(r"[^\w.-]+", "_", name or "").lstrip(".-") or f"filter-{len(self._writers)}"
        folder = self.folder if name is None else self.folder / safe
        folder.mkdir(parents=True, exist_ok=True)
        return _Writer(folder, (folder / f"{RECORDS}.new").open("wb+"), self.last_number)

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
            "problems": len(writer.sizes),
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
