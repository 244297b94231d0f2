"""Files that a command writes must not replace what was not written by that command."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OF_RUNS = ("records.jsonl", "manifest.json", "summary.json", "rollouts.jsonl", "metrics.csv")
BEGINNING = 1 << 20  # bytes that are looked at
# command -> what its files are, and what their beginning has
WRITTEN = {
    "grade": ("verdicts of slm-math grade", rb'\A\{"line": \d+, "(sample|error)": '),
    "report": ("a report of slm-math", rb'<meta name="generator" content="slm-math report">'),
    "claim": ("a claim", rb"\APK\x03\x04.{26}README\.md"),
    "compare": ("a comparison of slm-math", rb'\A\{\s*"(comparisons|over_seeds)": '),
    "convert": (
        "a file of slm-math convert",
        rb'"(filter": "slm_math|made_by": "slm-math convert)"',
    ),
    "twins": ("twins of slm-math", rb'\A\{"id": "[^\n]*~twin", "twin_of": '),
    "tag": ("tags of slm-math tag", rb'\A\{"id": "[^\n]*", "key": "\w+", "pass_rate": '),
    "overlap": ("matches of slm-math overlap", rb'\A\{\s*"training_problems": \d+,'),
    "check-data": ("findings of slm-math check-data", rb'\A\{"severity": "'),
}


def check_output(command: str, out: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Raises ValueError where a file that a command is to write exists and would be lost: one that
    it reads, one of an evaluation or a training run, or any that this command has not written.
    Empty files, and what is no regular file (/dev/null), are nobody's.
    """
    path = Path(out)
    if not path.is_file():
        return
    what, pattern = WRITTEN[command]
    if path.name in OF_RUNS:
        found = "a file of a run"
    elif any(path.samefile(file) for file in map(Path, inputs) if file.is_file()):
        found = "the input itself"
    elif path.stat().st_size and not re.search(pattern, _beginning(path), re.DOTALL):
        found = f"there, and holds something else than {what}"
    else:
        return
    raise ValueError(f"{out} is {found}, which would be lost: choose another --out")


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; of a log of Inspect, the text that it begins with."""
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    if start.startswith(b"PK"):
        unreadable = KeyError, OSError, ValueError, zipfile.BadZipFile, RuntimeError
        with suppress(*unreadable), zipfile.ZipFile(path) as archive:
            return archive.read("_journal/start.json")
    return start
