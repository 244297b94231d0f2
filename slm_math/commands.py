"""Our own commands. A command's signature is its options and its config file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from slm_math.data.base import Source
from slm_math.doctor import doctor
from slm_math.evaluation.command import evaluate
from slm_math.evaluation.compare_table import compare_runs
from slm_math.evaluation.overlap_table import overlap_files
from slm_math.report import report
from slm_math.sandbox.serve import serve
from slm_math.types import AnswerType

__all__ = [
    "compare_runs",
    "doctor",
    "download",
    "evaluate",
    "grade_file",
    "overlap_files",
    "report",
    "results",
    "serve",
]


def results(folders: Sequence[str], by: str | None = None) -> None:
    """Prints the results of finished evaluations side by side: one column a folder, one row an
    agent.

    Args:
        folders: output folders of `slm-math eval`, or `eval/<epoch>` folders of a training run.
        by: break down by this tag of the problems.
    """
    from slm_math.evaluation.runs import folders_of
    from slm_math.metrics.summary import by_tag, summarise
    from slm_math.records.files import expected, read_manifest, read_records

    console = Console()
    columns: dict[str, dict[str, Any]] = {}
    for folder in folders:
        cells: dict[str, Any] = {}
        for name, path in folders_of(folder).items():
            records = list(read_records(path / "records.jsonl"))
            cells[name] = summarise(records, expected(path))
            if read_manifest(path).get("partial"):
                console.print(f"{path} is partial", markup=False)
            if by:
                parts = by_tag(records, by)
                if not parts:
                    raise ValueError(f"no problem of {path} has a tag {by}")
                cells |= {f"{name}, {value}": s for value, s in parts.items()}
        columns[folder] = cells
    table = Table(title="accuracy in %, 95 % interval", title_justify="left")
    table.add_column("agent")
    for folder in columns:
        table.add_column(folder, justify="right", min_width=26)
    names = list(dict.fromkeys(name for cells in columns.values() for name in cells))
    for name in names:
        table.add_row(
            name, *(cells[name].shown() if name in cells else "-" for cells in columns.values())
        )
    console.print(table)


def grade_file(
    file: str | None = None,
    completion: str | None = None,
    gold: str = "",  # texts of --explain, too, where "#### 5" or "null" is no None
    problem: str = "",
    answer_type: AnswerType | None = None,
    choices: str | None = None,
    tolerance: float | str | None = None,
    last_number: bool = False,
    out: str | None = None,
    workers: int | None = None,
    verify: bool = False,
    verdict: str | None = None,
    expect: int | None = None,
    explain: str = "",
) -> None:
    """Scores the saved completions of a file, and writes the verdicts beside it: `slm-math grade
    FILE.jsonl`.

    Exits with 1 when rows could not be read, or when --verify or --expect found something.

    Args:
        file: completions with their reference answers, one JSON object a line, or the records.jsonl
            of an evaluation. Options name its fields; a path reaches into objects and lists:
            response.body.choices.0.message.content.
        completion: field of the completion: text, a number, a chat (its last assistant message
            counts) or a list of samples; by default the first of completion, response, output,
            prediction, solution, messages, conversation.
        gold: field of the reference answer; by default the first of answer, gold, ground_truth. Of
            a rationale, what it states at its end (#### 5, a box, "The answer is 5").
        problem: field of the problem's text; by default the first of problem, question, prompt. An
            expression copied from it is not an answer.
        answer_type: math, mc (a letter) or num (a number up to a tolerance), for all rows; by
            default what the row's field answer_type says, else math.
        choices: field of the choices of mc, a list; by default choices.
        tolerance: of num, for all rows: 0.01 is absolute, 1% relative to the gold; by default what
            the row's field tolerance says, else exact.
        last_number: accept the last number of a completion that states no answer.
        out: where verdicts go; by default FILE with the ending .graded.jsonl.
        workers: processes; by default one for each core, or none beside this one for a small file.
        verify: grade again and compare with the verdicts that are there: in the file beside it (see
            out), else in a field of the rows (see verdict); in evaluation records, their own.
        verdict: field of the rows' own verdict, for verify; correct or is_correct need not be
            named.
        expect: how many problems there must be.
        explain: a completion whose grading is explained step by step, instead of a file; gold and
            problem are texts then, and choices is a JSON list of texts.
    """
    from slm_math.grading.completions import Fields
    from slm_math.grading.saved import grade_saved
    from slm_math.grading.steps import show_steps
    from slm_math.grading.verify import verify as compare

    console = Console()
    fields = Fields(
        completion,
        gold or None,
        problem or None,
        answer_type,
        choices,
        tolerance,
        verdict,
        last_number,
    )
    if bool(file) == bool(explain):
        raise ValueError(
            "give either a file of completions (slm-math grade FILE) or --explain TEXT --gold TEXT"
        )
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if verdict is not None and not verify:
        raise ValueError("give --verify with --verdict, which names what to compare with")
    if not file:
        show_steps(explain, fields, console)
        return
    do = compare if verify else grade_saved
    if not do(Path(file), fields, Path(out) if out else None, workers, expect, console):
        sys.exit(1)


def download(config: str | list[str] | None = None, models: str | list[str] | None = None) -> None:
    """Fetches what configs name, resumable, so that everything runs offline afterwards.

    Args:
        config: config file of any command, or a list of them; their models and data sets are
            fetched.
        models: hub id of a further model, or a list of them.
    """
    from slm_math.data.download import download as fetch

    wanted: list[str] = [models] if isinstance(models, str) else list(models or [])
    sources: list[Source] = []
    for file in [config] if isinstance(config, str) else config or []:
        if not Path(file).is_file():
            raise ValueError(f"config file does not exist: {file}")
        _named_in(yaml.safe_load(Path(file).read_text(encoding="utf-8")), wanted, sources)
    if not wanted and not sources:
        raise ValueError(
            "nothing to fetch: give --config FILE or --models owner/name (several: '[A, B]')"
        )
    if fetch(wanted, sources):
        sys.exit(1)


def _named_in(node: Any, models: list[str], sources: list[Source]) -> None:
    """Collects the models and sources that a config names, wherever they stand in it."""
    if isinstance(node, list):
        for item in node:
            _named_in(item, models, sources)
    if not isinstance(node, dict):
        return
    policy = node.get("policy")
    named = policy.get("path") if isinstance(policy, dict) else policy
    options = node.get("init_args") or {}
    kind = _class(node.get("class_path"))
    if kind is not None and issubclass(kind, Source):
        sources.append(kind(**options))
        return
    if kind is not None and kind.__name__ == "CheckpointEngine":
        named = options.get("path")
    # a path such as runs/x/export is the work of an earlier step, not of a hub
    if isinstance(named, str) and named.count("/") == 1 and not Path(named).parent.is_dir():
        models.append(named)
    for item in node.values():
        _named_in(item, models, sources)


def _class(path: Any) -> type | None:
    """The class behind a `class_path`, None for what is no class of this package."""
    if not isinstance(path, str) or not path.startswith("slm_math."):
        return None
    module, _, name = path.rpartition(".")
    found = getattr(import_module(module), name, None)
    return found if isinstance(found, type) else None
