"""Evaluation records: one JSON line per finished sample, written as it finishes,
beside a manifest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from slm_math.records.environment import environment
from slm_math.records.record import json_line
from slm_math.types import Image, Task

# the whole configuration of the command under way, for manifests; the command line sets it
configuration: ContextVar[Any] = ContextVar("configuration", default=None)


class RecordFile:
    """Appends records and knows which are there already, so that a rerun goes on where the last one
    stopped.

    `identity` is what must be equal for two runs to be the same evaluation. A folder that holds
    another one is an error, or, with `set_aside`, moved out of the way (`<name>.replaced-1`, `-2`,
    ...). A last line cut off by a kill is removed; whole records are never rewritten. A sample that
    broke is tried again: the newest record of a sample counts. One process at a time: the file is
    locked.

    The manifest tells of every leg of a run that was interrupted: when it began and ended, where it
    ran, and what local engines did in it.
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
        self.identity = json.loads(json.dumps(identity, default=str))
        self.about = dict(about or {})
        self.records: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._locked(folder)
        old = read_manifest(folder)
        if not old and self.path.stat().st_size:
            raise ValueError(
                f"{folder} holds records without a manifest, of what nobody knows: name another "
                f"--out"
            )
        changed = differences(old["identity"], self.identity) if old else []
        if changed and not set_aside:
            raise ValueError(
                f"{folder} holds another evaluation ({', '.join(changed)} differ): name another "
                f"--out, or remove it"
            )
        if changed:
            names = (folder.with_name(f"{folder.name}.replaced-{i}") for i in range(1, 1 << 30))
            os.rename(folder, next(name for name in names if not name.exists()))
            folder.mkdir()
            self._file.close()
            self._file, old = self._locked(folder), {}
        self._recover()
        self.finished = bool(old) and not old["partial"]
        self._legs: list[dict[str, Any]] = [
            *old.get("legs", []),
            {"started": _now(), "finished": None, "environment": environment()},
        ]
        if not self.finished:
            self._write_manifest(finished=False)

    def _locked(self, folder: Path) -> BinaryIO:
        """The file of records, ours alone."""
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder} is being written by another process: name another --out"
            ) from error
        except OSError:  # a file system without locks
            pass
        return file

    def _recover(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._file.truncate(whole)
        self.records = [row for row in read_records(self.path) if row.get("error") is None]

    def check(self, wanted: Set[tuple[str, int]]) -> None:
        """Raises ValueError for records of samples that the evaluation has not."""
        foreign = [key for key in self.done if key not in wanted or type(key[1]) is not int]
        if foreign:
            raise ValueError(
                f"{self.path}: {len(foreign)} records are not of this evaluation, such as "
                f"{foreign[0]}"
            )

    @property
    def done(self) -> set[tuple[str, int]]:
        return {(row["id"], row["sample"]) for row in self.records}

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(json_line(row))
        self._file.flush()
        self.records.append(row)

    def close(self, finished: bool | None, decoding: Sequence[Mapping[str, float]] = ()) -> None:
        """Ends the leg under way; None for one in which there was nothing to do, which leaves the
        manifest alone.
        """
        if finished is not None:
            ended = _now()
            self._legs[-1] |= {
                "ended": ended,
                "finished": ended if finished else None,
                "decoding": list(decoding),
            }
            self._write_manifest(finished)
        self._file.close()

    def _write_manifest(self, finished: bool) -> None:
        first, last = self._legs[0], self._legs[-1]
        data = {
            "identity": self.identity,
            **({"about": self.about} if self.about else {}),
            "started": first["started"],
            "finished": last["finished"],
            "partial": not finished,
            "records": len(self.records),
            "environment": last["environment"],
            "legs": self._legs,
        }
        write_json(self.manifest, data)


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """The dotted keys at which two pieces of plain data differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [where or "all"]
    keys = {**new, **old}
    return [
        d
        for key in keys
        for d in differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    ]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an evaluation, {} where there is none. Raises ValueError naming a file that
    is none.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}): remove the folder, or name another --out"
        ) from error
    if not (
        isinstance(data, dict) and isinstance(data.get("identity"), dict) and "partial" in data
    ):
        raise ValueError(
            f"{path} is no manifest of an evaluation: remove the folder, or name another --out"
        )
    return data


def write_json(path: Path, data: Any) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(
        json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )
    os.replace(new, path)


def write_records(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file of records whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(json_line(row) for row in rows))
    os.replace(new, path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def expected(folder: Path) -> int | None:
    """How many samples the evaluation in a folder has when it is complete, by its manifest."""
    identity = read_manifest(folder).get("identity", {})
    return (
        identity["problems"] * identity["samples"]
        if {"problems", "samples"} <= set(identity)
        else None
    )


def data_hash(tasks: list[Task]) -> str:
    """A hash of problems, reference answers and what else answers are graded by, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        problem = task.problem
        rules = (
            [problem.answer_type, list(problem.choices), task.tolerance]
            if problem.answer_type != "math"
            else []
        )
        images = [_picture(image) for image in problem.images]
        whole = [problem.id, problem.text, task.gold, dict(problem.tags), *rules, *images]
        digest.update(json.dumps(whole, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _picture(image: Image) -> str:
    """What a picture is: its bytes where it is a file."""
    file = (
        Path(image.source)
        if len(image.source) < 4096 and not image.source.startswith("data:")
        else None
    )
    data = file.read_bytes() if file is not None and file.is_file() else image.source.encode()
    return hashlib.sha256(data).hexdigest()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The whole records of a file, the newest of every sample, in the order in which samples first
    came.

    Raises ValueError naming file and line for one that is not JSON.
    """
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                row = json.loads(line)
                newest[row["id"], row["sample"]] = row
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not an evaluation record ({error})"
                ) from error
    return list(newest.values())
