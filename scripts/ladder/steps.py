"""What a step left behind: whether its result is whole, of this plan, and still as it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slm_math
from ladder.plan import Plan, Step
from slm_math.answers import grader_version
from slm_math.records.encoding import to_json
from slm_math.records.files import (
    differences,
    expected_samples,
    read_manifest,
    read_records,
    write_json,
)


@dataclass(frozen=True)
class Done:
    """A finished step: a hash of its result, and what it took in all its sessions."""

    result: str
    seconds: float
    cpu_seconds: float


class Steps:
    """The markers of a plan's steps, `<out>/steps/<name>.json`.

    A marker has the fingerprint of its step: hashes of the command, of its config files, of the
    results that it reads, and the versions of the project and its grader. A step counts as done if
    its marker has this fingerprint and a hash that its result still has, so that a result that was
    changed, or removed, is made again, and so is all that reads it if it comes out differently.
    """

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan, self.out = plan, out
        self.by_name = {step.name: step for step in plan.steps}
        self._files: dict[Path, str] = {}
        self.done: dict[str, Done] = {}
        for step in plan.steps:
            self.look(step)

    def look(self, step: Step) -> bool:
        """Whether a step is done, as its files say it now."""
        self.done.pop(step.name, None)
        fingerprint, marker = self.fingerprint(step), self.marker(step)
        if fingerprint is None or marker.get("fingerprint") != fingerprint:
            return False
        if marker.get("result") is None or marker["result"] != result_hash(step):
            return False
        self._note(step, marker)
        return True

    def ready(self) -> list[Step]:
        """The steps that are not done and whose inputs are, in the order of the plan."""
        return [
            step
            for step in self.plan.steps
            if step.name not in self.done and all(name in self.done for name in step.inputs)
        ]

    def fingerprint(self, step: Step) -> dict[str, Any] | None:
        """None as long as an input is not done."""
        if any(name not in self.done for name in step.inputs):
            return None
        return {
            "command": _hash(step.shown().encode("utf-8", "surrogateescape")),
            "config files": [self._hash_of(file) for file in step.files],
            "inputs": {name: self.done[name].result for name in step.inputs},
            "environment": dict(self.plan.environment),
            "versions": [slm_math.__version__, grader_version()],
        }

    def marker(self, step: Step) -> dict[str, Any]:
        """{} without one."""
        with suppress(OSError, ValueError):
            data = json.loads(self._path(step).read_text(encoding="utf-8"))
            if isinstance(data, dict):
                return data
        return {}

    def begin(self, step: Step) -> str:
        """Prepares a step's folder, so that the step can begin or be resumed. A folder that another
        command wrote, or whose result has changed since this command wrote it, is moved to
        `<out>/replaced`. Returns what was done.
        """
        fingerprint, marker = self.fingerprint(step), self.marker(step)
        changed = differences(marker.get("fingerprint") or {}, fingerprint)
        told = "resumed" if step.folder.exists() else ""
        if changed or marker.get("result") is not None:
            reasons = dict.fromkeys(key.partition(".")[0] for key in changed)
            aside = self.set_aside(step)
            told = f"other {', '.join(reasons)}" if reasons else "its result was changed or removed"
            told = "" if aside is None else f"made again: {told}; the old one is in {aside}"
            marker = {}
        spent = {key: marker.get(key, 0.0) for key in ("seconds", "cpu_seconds")}
        self._write(step, {"fingerprint": fingerprint, "result": None} | spent)
        return told

    def spend(self, step: Step, seconds: float, cpu_seconds: float) -> None:
        """Adds what a session of a step took."""
        marker = self.marker(step)
        marker["seconds"] = marker.get("seconds", 0.0) + seconds
        marker["cpu_seconds"] = marker.get("cpu_seconds", 0.0) + cpu_seconds
        self._write(step, marker)

    def end(self, step: Step) -> bool:
        """Marks a step as done if its result is whole."""
        result = result_hash(step)
        if result is None:
            return False
        marker = self.marker(step) | {"result": result}
        self._write(step, marker)
        self._note(step, marker)
        return True

    def set_aside(self, step: Step) -> Path | None:
        """Moves what a step wrote to `<out>/replaced/<name>/<n>`, which it returns: deeper than the
        evaluations of `<out>`, so that a report does not count it among them.
        """
        if not step.folder.exists():
            return None
        names = (self.out / "replaced" / step.name / f"{n}" for n in range(1, 1 << 30))
        aside = next(name for name in names if not name.exists())
        aside.parent.mkdir(parents=True, exist_ok=True)
        step.folder.rename(aside)
        return aside

    def _note(self, step: Step, marker: Mapping[str, Any]) -> None:
        numbers = (float(marker.get(key, 0.0)) for key in ("seconds", "cpu_seconds"))
        self.done[step.name] = Done(marker["result"], *numbers)

    def _write(self, step: Step, marker: Mapping[str, Any]) -> None:
        write_json(self._path(step), {"command": step.shown(), **marker})

    def _path(self, step: Step) -> Path:
        return self.out / "steps" / f"{step.name}.json"

    def _hash_of(self, file: Path) -> str:
        if file not in self._files:
            self._files[file] = _hash_of_files([file] if file.is_file() else _files_in(file))
        return self._files[file]


def result_hash(step: Step) -> str | None:
    """A hash of a step's result, the same in every run of the step; None if it is not whole."""
    return _hash_of_model(step.result) if step.trains else _hash_of_records(step.result)


def _hash_of_model(folder: Path) -> str | None:
    """Of the weights, configs and tokenizer of an exported model, or of those of each role."""
    files = _files_in(folder)
    whole = any(file.suffix == ".safetensors" and file.stat().st_size for file in files)
    return _hash_of_files(files) if whole else None


def _hash_of_records(folder: Path) -> str | None:
    """Of a complete evaluation, in which no workflow broke: all but how long things took."""
    try:
        manifest = read_manifest(folder)
        if not manifest or manifest["partial"]:
            return None
        records = read_records(folder / "records.jsonl")
    except (OSError, ValueError):
        return None
    if len(records) != expected_samples(folder) or any(record.broken for record in records):
        return None
    rows = sorted(json.dumps(_untimed(to_json(record)), sort_keys=True) for record in records)
    return _hash("\n".join(rows).encode("utf-8", "backslashreplace"))


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key != "seconds"}
    return [_untimed(item) for item in value] if isinstance(value, list) else value


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _hash_of_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()[:16]


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
