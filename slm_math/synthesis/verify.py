"""`slm-math build-data --verify`: a build made again, and compared with its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.answers import grader_version
from slm_math.data.base import SPLITS
from slm_math.data.files import read_rows
from slm_math.evaluation.plain import print_line
from slm_math.synthesis.built import Options, Row
from slm_math.synthesis.folder import files_of, read_build
from slm_math.synthesis.kinds import build
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.sources import Evaluations, read_evaluations

MOST_LINES = 20


def verify_build(
    folder: Path,
    folders: Sequence[str],
    programs: Programs,
    console: Console,
) -> bool:
    """Whether the rows of a build are those that its evaluations give, with every answer graded and
    every program run again. Prints each difference.

    `folders` say where the evaluations are; by default where they were. Raises ValueError for a
    folder that is no build, and for evaluations that do not exist any more.
    """
    manifest = read_build(folder)
    options = _options(manifest, folder)
    named = list(folders) or [fact["folder"] for fact in manifest["identity"]["evaluations"]]
    evaluations = read_evaluations(named, options.validation, again=True)
    lines = list(_sources(manifest, evaluations))
    built = build(evaluations, options, programs)
    rows = 0
    for split in SPLITS:
        file = folder / f"{split}.jsonl"
        written = [dict(row.fields) for row in read_rows(file)] if file.is_file() else []
        made = [json.loads(json.dumps(row)) for row in built.of(split)]
        rows += len(made)
        lines += [f"{file.name}: {line}" for line in differences(written, made)]
    same = {name: data == _bytes(folder / name) for name, data in files_of(built)}
    lines += [] if lines else [f"{name}: the bytes differ" for name, ok in same.items() if not ok]
    for line in lines[:MOST_LINES]:
        print_line(console, line)
    if len(lines) > MOST_LINES:
        print_line(console, f"and {len(lines) - MOST_LINES} more differences")
    result = f"{len(lines)} differences" if lines else "no difference"
    print_line(console, f"{folder}: {rows} rows built again, {result}")
    return not lines


def _options(manifest: Mapping[str, Any], folder: Path) -> Options:
    try:
        options: dict[str, Any] = dict(manifest["identity"]["options"])
        if options["pass_rate"] is not None:
            options["pass_rate"] = tuple(options["pass_rate"])
        return Options(**options)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{folder}: its manifest has options that are unknown ({error})"
        ) from error


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _sources(manifest: Mapping[str, Any], evaluations: Evaluations) -> list[str]:
    """How the evaluations differ from those that the data were built from."""
    old = [fact["sha256"] for fact in manifest["identity"]["evaluations"]]
    lines = [
        f"{fact['folder']}: its records are others than those of the build"
        for fact in evaluations.facts
        if fact["sha256"] not in old
    ]
    grader = manifest["identity"].get("grader")
    if grader != grader_version():
        lines.append(f"the grader is version {grader_version()}, and was {grader}")
    return lines


def differences(written: Sequence[Row], made: Sequence[Row]) -> list[str]:
    """How rows of a file differ from those that were made again: by the places that only one has,
    and by field where both have a row of the same origin.
    """
    ours, theirs = _by_origin(written), _by_origin(made)
    lines = [f"line {n}: {_name(row)} is not built" for key, (n, row) in ours.items()
             if key not in theirs]  # fmt: skip
    lines += [f"{_name(row)} is missing" for key, (_, row) in theirs.items() if key not in ours]
    for key in ours.keys() & theirs.keys():
        (number, old), (_, new) = ours[key], theirs[key]
        lines += [
            f"line {number}: {_name(old)}: {name} is {_shown(old.get(name))}, and is "
            f"{_shown(new.get(name))} when it is built again"
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        ]
    places = [(ours[key][0], theirs[key][0]) for key in ours if key in theirs]
    if not lines and any(a != b for a, b in places):
        lines.append("the rows are in another order")
    return sorted(lines)


def _by_origin(rows: Sequence[Row]) -> dict[str, tuple[int, Row]]:
    """Rows with their line numbers, by where they come from."""
    found: dict[str, tuple[int, Row]] = {}
    for number, row in enumerate(rows, 1):
        key = json.dumps([row.get("id"), row.get("receipt")], sort_keys=True)
        while key in found:
            key += "+"
        found[key] = (number, row)
    return found


def _name(row: Row) -> str:
    receipt = row.get("receipt")
    place = receipt if isinstance(receipt, dict) else {}
    return f"problem {row.get('id')}, sample {place.get('sample')} of {place.get('evaluation')}"


def _shown(value: Any) -> str:
    return f"{value!r:.60}"
