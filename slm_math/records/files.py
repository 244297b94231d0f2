"""Folders of evaluations: one JSON line per finished sample, written when it finishes, beside a
manifest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from slm_math.images import image_hash
from slm_math.records.encoding import json_line
from slm_math.records.environment import environment
from slm_math.records.record import Record
from slm_math.records.redaction import without_secrets
from slm_math.records.stored import StoredRecords
from slm_math.types import Problem, Task

# all that a manifest may have: a claim with another key is refused
MANIFEST_KEYS = {"folder", "identity", "about", "started", "finished", "partial", "records"}
MANIFEST_KEYS |= {"environment", "legs"}

# the whole configuration of the running command, for manifests; the command line sets it
configuration: ContextVar[Any] = ContextVar("configuration", default=None)
# of a control arm: its name, and the identity of the run that it belongs to, for its manifest
control: ContextVar[dict[str, Any] | None] = ContextVar("control", default=None)


class RecordFile:
    """Appends records to a file and knows which samples it holds, so that a rerun continues an
    interrupted evaluation.

    `identity` is what must be equal for two runs to be the same evaluation, but for secrets, which
    no manifest holds. If the folder holds another evaluation, that is an error; with `set_aside`
    the folder is renamed instead (`<name>.replaced-1`, `-2`, ...). An evaluation in which no
    workflow came to its end is nobody's (a first attempt with a wrong model or address): it is
    replaced if it has no records, and renamed if it has records of broken workflows. An incomplete
    last line, left by a killed process, is removed; only `replace` rewrites complete records. A
    sample that broke is run again: the newest record of a sample counts, and `replace` removes the
    older ones. The file is locked: only one process may write to it.

    The manifest describes every session of the evaluation (its `legs`; one that was resumed twice
    has three): start and end, machine and versions, and how local engines decoded.

    Raises ValueError for a folder that holds another evaluation, that cannot be resumed, or that
    another process writes to.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        set_aside: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = folder / "records.jsonl"
        self.manifest = folder / "manifest.json"
        self.identity = plain_identity(identity)
        self.about = without_secrets(about or {})
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._locked(folder)
        old = self._old_manifest(folder)
        changed = differences(plain_identity(old["identity"]), self.identity) if old else []
        if changed and not set_aside and self._whole_records():
            raise ValueError(
                f"{folder} holds another evaluation ({', '.join(changed)} differ): choose another "
                f"--out, or remove the folder"
            )
        if changed:
            if StoredRecords(self.path):
                self._rename(folder)
            old = {}
        self.records = self._recover()
        self._incomplete: StoredRecords | None = None  # of samples that are run again
        self.finished = bool(old) and not old["partial"]
        self._sessions: list[dict[str, Any]] = [
            *old.get("legs", []),
            {"started": _now(), "finished": None, "environment": environment()},
        ]
        if not self.finished:
            self._write_manifest(finished=False)

    def _locked(self, folder: Path) -> BinaryIO:
        """The file of records, locked by this process."""
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder} is being written by another process: choose another --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        return file

    def _recover(self) -> StoredRecords:
        records = self._whole_records()
        if records.end < self.path.stat().st_size:
            self._file.truncate(records.end)
            records = self._whole_records()  # the first ones have the cut line in their buffer
        self._superseded = records.lines > len(records)
        return records

    def _whole_records(self) -> StoredRecords:
        """The records of workflows that did not break."""
        return StoredRecords(self.path).where(lambda record: not record.broken)

    def _old_manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest of an earlier session; {} if there was none."""
        if self.path.stat().st_size:
            old = read_manifest(folder)
            if not old:
                raise ValueError(
                    f"{folder} contains records.jsonl but no manifest.json, so it cannot be "
                    f"resumed: choose another --out"
                )
            return old
        try:
            return read_manifest(folder)
        except ValueError:  # without records there is nothing that could be mistaken
            return {}

    def _rename(self, folder: Path) -> None:
        """Renames the folder to `<name>.replaced-<n>` and begins a new one."""
        names = (folder.with_name(f"{folder.name}.replaced-{i}") for i in range(1, 1 << 30))
        os.rename(folder, next(name for name in names if not name.exists()))
        folder.mkdir()
        self._file.close()
        self._file = self._locked(folder)

    def check(self, wanted: Set[tuple[str, int]]) -> None:
        """Raises ValueError for records of samples that the evaluation does not have."""
        if len(self.records) > sum(key in self.records for key in wanted):
            foreign = [record.key for record in self.records if record.key not in wanted]
            problem, sample = foreign[0]
            raise ValueError(
                f"{self.path}: {len(foreign)} records do not belong to this evaluation, such as "
                f"sample {sample} of problem {problem!r}: choose another --out"
            )

    def set_apart(self, is_complete: Callable[[Record], bool]) -> None:
        """Sets the records apart that are not complete: their samples are run again."""
        complete = self.records.where(is_complete)
        if len(complete) < len(self.records):
            self._incomplete, self.records, self._superseded = self.records, complete, True

    def replace(self, records: Iterable[Record]) -> None:
        """Rewrites the file, completely or not at all, if these are others than its own, or if it
        has older records of the same samples.
        """
        if records is self.records and not self._superseded:
            return
        write_records(self.path, records)
        self._file.close()
        self._file = self._locked(self.path.parent)
        self.records, self._superseded = StoredRecords(self.path), False

    def add(self, record: Record) -> None:
        """Writes a record. A record set apart stays where the new one of its sample broke."""
        if record.broken and self._incomplete is not None and record.key in self._incomplete:
            self.records.take(self._incomplete, record.key)
            return
        line = json_line(record)
        with naming(self.path):
            self._file.write(line)
            self._file.flush()
        self.records.written(record, len(line))

    def close(self, finished: bool | None, decoding: Sequence[Mapping[str, float]] = ()) -> None:
        """Ends the session. `finished` None stands for a session that had nothing to do, which
        leaves the manifest alone.
        """
        if finished is not None:
            ended = _now()
            self._sessions[-1] |= {
                "ended": ended,
                "finished": ended if finished else None,
                "decoding": list(decoding),
            }
            self._write_manifest(finished)
        self._file.close()

    def _write_manifest(self, finished: bool) -> None:
        first, last = self._sessions[0], self._sessions[-1]
        data = {
            "folder": self.path.parent.as_posix(),
            "identity": self.identity,
            **({"about": self.about} if self.about else {}),
            "started": first["started"],
            "finished": last["finished"],
            "partial": not finished,
            "records": len(self.records),
            "environment": last["environment"],
            "legs": self._sessions,
        }
        write_json(self.manifest, data)


def plain_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies an evaluation, as its manifest holds it."""
    return without_secrets(json.loads(json.dumps(identity, default=str)))


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """The dotted keys at which two pieces of plain data differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [where or "all"]
    keys = {**new, **old}
    return [
        difference
        for key in keys
        for difference in differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    ]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an evaluation; {} if the folder has none.

    Raises ValueError for a file that is not JSON or not the manifest of an evaluation.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): remove the folder, or choose another --out"
        ) from error
    if not (
        isinstance(data, dict) and isinstance(data.get("identity"), dict) and "partial" in data
    ):
        raise ValueError(
            f"{path} is not the manifest of an evaluation: remove the folder, or choose another "
            f"--out"
        )
    return data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of writing name the file; that of a full disk does not by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    text = json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n"
    with naming(path):
        new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes a file of records completely or not at all."""
    new = path.with_name(path.name + ".new")
    with naming(path), new.open("wb") as file:
        file.writelines(map(json_line, records))
    os.replace(new, path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def expected_samples(folder: Path) -> int | None:
    """The number of samples of the complete evaluation, from its manifest; None if unknown."""
    identity = read_manifest(folder).get("identity", {})
    if "rows" in identity:  # saved completions, of which problems may have different numbers
        return identity["rows"]
    return (
        identity["problems"] * identity["samples"]
        if {"problems", "samples"} <= set(identity)
        else None
    )


def data_hash(tasks: list[Task]) -> str:
    """A hash of problems, choices, images, drafts, reference answers and grading rules."""
    return _data_hash(
        (
            task.problem,
            [image_hash(image.source) for image in task.problem.images],
            task.gold,
            task.tolerance,
        )
        for task in tasks
    )


def data_hash_by_id(tasks: Iterable[Task]) -> str:
    """`data_hash` of tasks in the order of their ids, which records know, too."""
    return data_hash(sorted(tasks, key=lambda task: task.problem.id))


def recorded_data_hash(records: Iterable[Record]) -> str:
    """`data_hash` of the problems of records, one of each, by what the records keep of them."""
    return _data_hash(
        (
            Problem(
                id=record.id,
                text=record.problem,
                answer_type=record.answer_type,
                choices=record.choices,
                tags=record.tags,
                draft=record.draft,
            ),
            [image.hash for image in record.images],
            record.gold,
            record.tolerance,
        )
        for record in records
    )


def _data_hash(data: Iterable[tuple[Problem, list[str], str, float | str | None]]) -> str:
    """Of problems, the hashes of their images, reference answers and tolerances."""
    digest = hashlib.sha256()
    for problem, images, gold, tolerance in data:
        rules = (
            [problem.answer_type, list(problem.choices), tolerance]
            if problem.answer_type != "math" or problem.choices
            else []
        )
        draft = [] if problem.draft is None else [problem.draft.text, problem.draft.answer]
        whole = [problem.id, problem.text, gold, dict(problem.tags), *rules, *images, *draft]
        digest.update(json.dumps(whole, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def read_records(path: Path) -> list[Record]:
    """The `StoredRecords` of a file, all in memory."""
    return list(StoredRecords(path))
