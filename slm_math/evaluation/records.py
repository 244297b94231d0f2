"""Evaluation records: one JSON line per finished sample, written as it finishes, beside a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slm_math.answers import grader_version
from slm_math.rollout.record import json_line
from slm_math.types import Task

# the whole configuration of the command under way, for manifests; the command line sets it
configuration: ContextVar[Any] = ContextVar("configuration", default=None)


class RecordFile:
    """Appends records and knows which are there already, so that a rerun goes on where the last one stopped.

    `identity` is what must be equal for two runs to be the same evaluation. A folder that holds another one is an
    error, or, with `set_aside`, moved out of the way (`<name>.1`, `.2`, ...). A last line cut off by a kill is removed;
    whole records are never rewritten. A sample that broke is tried again: the newest record of a sample counts.
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
        old = json.loads(self.manifest.read_text(encoding="utf-8")) if self.manifest.is_file() else None
        if old is not None:
            changed = differences(old["identity"], self.identity)
            if changed and set_aside:
                number = next(i for i in range(1, 1 << 30) if not folder.with_name(f"{folder.name}.{i}").exists())
                os.rename(folder, folder.with_name(f"{folder.name}.{number}"))
                old = None
            elif changed:
                raise ValueError(
                    f"{folder} holds another evaluation ({', '.join(changed)} differ): name another --out, or remove it"
                )
        folder.mkdir(parents=True, exist_ok=True)
        self.started = old["started"] if old else _now()
        if self.path.is_file():
            self._recover()
        self._write_manifest(finished=None)
        self._file = self.path.open("ab")

    def _recover(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)
        self.records = [row for row in read_records(self.path) if row["error"] is None]

    @property
    def done(self) -> set[tuple[str, int]]:
        return {(row["id"], row["sample"]) for row in self.records}

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(json_line(row))
        self._file.flush()
        self.records.append(row)

    def close(self, finished: bool) -> None:
        self._file.close()
        self._write_manifest(_now() if finished else None)

    def _write_manifest(self, finished: str | None) -> None:
        data = {
            "identity": self.identity,
            **({"about": self.about} if self.about else {}),
            "started": self.started,
            "finished": finished,
            "partial": finished is None,
            "records": len(self.records),
            "environment": environment(),
        }
        write_json(self.manifest, data)


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """The dotted keys at which two pieces of plain data differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [where or "all"]
    keys = {**new, **old}
    return [d for key in keys for d in differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]


def write_json(path: Path, data: Any) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(new, path)


def write_records(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file of records whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(json_line(row) for row in rows))
    os.replace(new, path)


def environment() -> dict[str, Any]:
    """Versions, machine and commit; nothing from the environment variables."""
    packages = ("slm-math", "torch", "transformers", "lightning", "peft", "sympy", "math-verify")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": _memory(),
        "gpus": _gpus(),
        "versions": {name: _version(name) for name in packages},
        "grader": grader_version(),
        "commit": _commit(),
        "command": sys.argv[0].rpartition("/")[2],
    }


def _processor() -> str | None:
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.is_file() else ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), None)


def _memory() -> float | None:
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")  # what does not use torch does not pay for it
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree that this package runs from, if it is one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def expected(folder: Path) -> int | None:
    """How many samples the evaluation in a folder has when it is complete, by its manifest."""
    path = folder / "manifest.json"
    identity = json.loads(path.read_text(encoding="utf-8"))["identity"] if path.is_file() else {}
    return identity["problems"] * identity["samples"] if {"problems", "samples"} <= set(identity) else None


def data_hash(tasks: list[Task]) -> str:
    """A hash of problems, reference answers and what else answers are graded by, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        problem = task.problem
        rules = [problem.answer_type, list(problem.choices), task.tolerance] if problem.answer_type != "math" else []
        digest.update(json.dumps([problem.id, problem.text, task.gold, *rules]).encode())
    return digest.hexdigest()[:16]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The whole records of a file, the newest of every sample, in the order in which samples first came.

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
                raise ValueError(f"{path}, line {number}: not an evaluation record ({error})") from error
    return list(newest.values())
