"""The command `slm-math convert`: evaluations as files of lm-eval and Inspect."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

from rich.console import Console

from slm_math import __version__
from slm_math.evaluation.plain import print_line
from slm_math.evaluation.runs import named_folders
from slm_math.foreign.export import inspect_header, inspect_sample, inspect_summary, lm_eval_row
from slm_math.grading.opened import evaluations_of
from slm_math.metrics.columns import Samples
from slm_math.metrics.records import correct_by_problem
from slm_math.metrics.summary import read_samples
from slm_math.records.files import naming, read_manifest
from slm_math.records.outputs import check_output

FORMATS = ("lm-eval", "inspect")


def convert(
    evaluation: str, to: Literal["lm-eval", "inspect"] = "lm-eval", out: str | None = None
) -> None:
    """Writes an evaluation as a file that lm-eval's or Inspect's tools read.

    A row of lm-eval holds all samples of a problem, and the verdict on the first one. A log of
    Inspect has an epoch for each sample. The verdicts are those of this grader.

    Args:
        evaluation: folder of an agent's evaluation, with records.jsonl, or a file of completions,
            as `grade` reads it.
        to: lm-eval, or inspect.
        out: the file; by default samples_NAME.jsonl for lm-eval and NAME.eval for Inspect. An
            Inspect log that ends in .json is one JSON object.
    """
    console = Console()
    with evaluations_of([evaluation], console) as paths:
        found = named_folders(evaluation, paths[evaluation])
        if len(found) > 1:
            names = ", ".join(found)
            raise ValueError(
                f"{evaluation} holds those of {names}: name one of them, such as "
                f"{evaluation.rstrip('/')}/{next(iter(found))}"
            )
        [(agent, folder)] = found.items()
        name = Path(evaluation).name.partition(".")[0] if Path(evaluation).is_file() else agent
        file = Path(out or (f"samples_{name}.jsonl" if to == "lm-eval" else f"{name}.eval"))
        check_output("convert", file, [evaluation])
        samples = read_samples(folder)
        if not samples:
            raise ValueError(f"{evaluation} is empty: it has no records")
        if to == "lm-eval":
            n = _write_lm_eval(samples, file)
        else:
            about = {"name": name, "model": _model(folder), "version": __version__}
            n = _write_inspect(samples, file, about)
    print_line(console, f"{n} {'problems' if to == 'lm-eval' else 'samples'} written to {file}")


def _model(folder: Path) -> str:
    """The model of an evaluation, as its manifest names it."""
    engines = read_manifest(folder).get("identity", {}).get("engines")
    first = next(iter(engines.values()), {}) if isinstance(engines, dict) else {}
    for key in ("model", "path"):
        if isinstance(first, dict) and isinstance(first.get(key), str):
            return first[key]
    return "unknown"


def _write_lm_eval(samples: Samples, file: Path) -> int:
    order, starts = samples.groups()
    with _written(file) as sink:
        for number, (start, end) in enumerate(zip(starts.tolist(), starts[1:].tolist())):
            rows = [samples.record(place) for place in order[start:end].tolist()]
            sink.write(_line(lm_eval_row(rows, number)) + b"\n")
    return len(starts) - 1


def _write_inspect(samples: Samples, file: Path, about: dict[str, Any]) -> int:
    n = len(samples)
    sizes, right = correct_by_problem(samples)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    accuracy = float((right / sizes).mean())
    header = inspect_header(
        about | {"created": created},
        ids=list(samples.tables.problems),
        samples=n,
        epochs=int(sizes.max()),
        accuracy=accuracy,
    )

    def rows() -> Iterator[dict[str, Any]]:
        return (inspect_sample(samples.record(place), about["model"]) for place in range(n))

    with _written(file) as sink:
        if file.suffix == ".json":
            sink.write(_line(header)[:-1] + b', "samples": [\n')
            for number, row in enumerate(rows()):
                sink.write((b",\n" if number else b"") + _line(row))
            sink.write(b"\n]}\n")
        else:
            with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
                start = {name: header[name] for name in ("version", "eval", "plan")}
                archive.writestr("_journal/start.json", _line(start))
                for row in rows():
                    name = f"samples/{quote(row['id'], safe='')}_epoch_{row['epoch']}.json"
                    archive.writestr(name, _line(row))
                with archive.open("summaries.json", "w", force_zip64=True) as summaries:
                    for number, row in enumerate(rows()):
                        summaries.write((b"," if number else b"[") + _line(inspect_summary(row)))
                    summaries.write(b"]")
                archive.writestr("header.json", _line(header))
    return n


def _line(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # half of a surrogate pair


@contextmanager
def _written(file: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name, which is renamed at the end."""
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    with naming(new), new.open("wb") as sink:
        yield sink
    new.replace(file)
