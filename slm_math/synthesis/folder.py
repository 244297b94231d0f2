"""The folder of a build: rows by split, a manifest and a data card, all of them or none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math import __version__
from slm_math.answers import grader_version
from slm_math.data.base import SPLITS
from slm_math.data.card import CardInput, write_card
from slm_math.data.chat_rows import content_text
from slm_math.data.chats import CHATS
from slm_math.data.identity import problem_key
from slm_math.records.encoding import SCHEMA, json_line
from slm_math.records.files import write_json
from slm_math.synthesis.built import Built, Options, Row
from slm_math.synthesis.sources import Evaluations
from slm_math.types import Problem

MANIFEST = "manifest.json"
VERSION = 1  # of what the options mean: increase it whenever a build may give other rows


def identity_of(evaluations: Evaluations, options: Options) -> dict[str, Any]:
    """What decides about the rows of a build: if it is equal, they are."""
    data = {
        "version": VERSION,
        "options": vars(options),
        "evaluations": [{"folder": f["folder"], "sha256": f["sha256"]} for f in evaluations.facts],
        "grader": grader_version(),
    }
    return json.loads(json.dumps(data))


def check_folder(out: Path, identity: Mapping[str, Any]) -> None:
    """Raises ValueError unless a folder is new, empty, or holds this very build."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file: choose another --out")
    if read_build(out, required=False).get("identity") != identity:
        raise ValueError(f"{out} holds something else than this build: choose another --out")


def read_build(folder: Path, required: bool = True) -> dict[str, Any]:
    """The manifest of a build; {} if it has none and none is required.

    Raises ValueError for a folder that is none.
    """
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = {}
    if isinstance(data, dict) and {"identity", "files", "rows"} <= set(data):
        return data
    if required:
        raise ValueError(f"{folder} was not made by build-data: it has no manifest of a build")
    return {}


def write_build(
    out: Path,
    built: Built,
    evaluations: Evaluations,
    options: Options,
    test_sets: Mapping[str, Sequence[Problem]],
) -> None:
    """Writes a build into a temporary folder beside `out`, which then takes its place."""
    new, old = (out.with_name(f".{out.name}.{name}") for name in ("new", "old"))
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    new.mkdir(parents=True)
    files = dict(files_of(built))
    for name, data in files.items():
        (new / name).write_bytes(data)
    manifest = {
        "identity": identity_of(evaluations, options),
        "evaluations": evaluations.facts,
        "rows": built.counts(),
        "left_out": {why: n for why, n in built.left_out.items() if n},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "versions": {"slm-math": __version__, "grader": grader_version(), "records": SCHEMA},
    }
    write_json(new / MANIFEST, manifest)
    card = _card(out.name, built, evaluations, options=options, test_sets=test_sets)
    write_card(new, card)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def files_of(built: Built) -> Iterator[tuple[str, bytes]]:
    """The files of rows by name; a split without rows has none."""
    for split in SPLITS:
        if rows := built.of(split):
            yield f"{split}.jsonl", b"".join(map(json_line, rows))


def _card(
    name: str,
    built: Built,
    evaluations: Evaluations,
    options: Options,
    test_sets: Mapping[str, Sequence[Problem]],
) -> CardInput:
    parts = sorted({made.part for made in built.rows})
    lengths = {
        part: [_length(made.row) for made in built.rows if made.part == part] for part in parts
    }
    origins = sorted({str(fact["source"]) for fact in evaluations.facts})
    models = sorted({model for fact in evaluations.facts for model in fact["models"]})
    source = f"attempts at problems of {', '.join(origins)}"
    license = f"those of {', '.join(origins)}, and of the model that wrote the attempts"
    problems = {problem_key(made.problem): made.problem for made in built.rows}
    records = [attempt.record for attempt in evaluations.attempts]
    notes = [
        *(f"{split}: {sum(counts.values())} rows" for split, counts in built.counts().items()),
        *(f"left out: {count} {why}" for why, count in built.left_out.items() if count),
        *(f"written by {model}" for model in models),
        f"graded by version {grader_version()}",
    ]
    return CardInput(
        title=f"{options.kind}: {name}",
        rows={part: len(lengths[part]) for part in parts},
        lengths=lengths,
        sources=dict.fromkeys(parts, source),
        licenses=dict.fromkeys(parts, license),
        problems=list(problems.values()),
        test_sets=test_sets,
        cost={
            "sampled tokens of all attempts": sum(record.tokens for record in records),
            "prompt tokens of all attempts": sum(t.prompt_tokens for r in records for t in r.turns),
        },
        notes=notes,
    )


def _length(row: Row) -> int:
    """The characters of a row that a model reads or writes."""
    texts = [row.get("problem", ""), row.get("draft", "")] if "draft" in row else []
    chats = [row.get(name, []) for name in CHATS]
    texts += [content_text(message) for chat in chats for message in chat]
    return sum(map(len, texts))
