"""`slm-math check-data`: what is wrong with a data set, before anything trains on it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.checks import check_tasks
from slm_math.data.findings import (
    ERRORS,
    WARNINGS,
    Finding,
    among_test_images,
    among_test_problems,
    by_kind,
    check_task,
    duplicates,
    too_long,
)
from slm_math.data.named import source_names
from slm_math.data.problems import problems_of, tasks_of
from slm_math.evaluation.plain import cell, encodable, plain, print_line
from slm_math.evaluation.progress import with_progress
from slm_math.ranges import check_whole
from slm_math.records.outputs import check_output
from slm_math.spelling import similar
from slm_math.types import Problem, Task


def check_data(
    source: Source | str,
    split: list[Split] | None = None,
    against: list[str] | None = None,
    model: str | None = None,
    max_length: int | None = None,
    show: int = 3,
    out: str | None = None,
) -> None:
    """Checks every problem of a data set: golds, solutions, duplicates, lengths, and what it shares
    with test sets. The exit status is 1 if there are errors, and 0 with warnings only.

    Args:
        source: the data set (GSM8K, my.Mine, with options such as --source.path), or a file of rows
            (problem or question; gold, answer or ground_truth; optionally solution).
        split: the splits to check; by default all that the data set has.
        against: test sets to look for among training and validation problems, beside the data set's
            own test split: GSM8K:test, MATH500:test=PATH, or a file.
        model: a model whose tokenizer measures lengths; by default they are in characters.
        max_length: the most tokens (without a model, characters) of a problem with its solution;
            by default the model's context.
        show: how many findings of each kind to print.
        out: JSONL file for all findings.
    """
    check_whole("show", show, low=0)
    check_whole("max_length", max_length, low=1, optional=True)
    if out:
        check_output("check-data", out, [source] if isinstance(source, str) else [])
    console = Console()
    tests = {name: problems_of(name) for name in against or []}
    measure, limit = _measure(model, max_length)
    name, read, findings = _read(source, split)
    usable = {each: _usable(tasks, each, name) for each, tasks in read.items()}
    for each, tasks in read.items():
        for task in with_progress(tasks, console, f"{name}/{each}"):
            findings += check_task(task, each, name)
    findings += duplicates(usable)
    if "test" in usable:
        tests = {f"{name}/test": [task.problem for task in usable["test"]], **tests}
    others = {
        each: [task.problem for task in tasks] for each, tasks in usable.items() if each != "test"
    }
    watched = partial(_watched, console)
    for test_name, problems in tests.items():
        findings += among_test_problems(others, problems, test_name, watched)
        findings += among_test_images(others, problems, test_name, watched)
    lengths = {
        each: [measure(task) for task in with_progress(tasks, console, "lengths")]
        for each, tasks in usable.items()
    }
    unit = "characters" if model is None else "tokens"
    if limit is not None:
        for each, tasks in usable.items():
            findings += too_long(tasks, lengths[each], each, limit=limit, unit=unit)
    if out:
        _write(Path(out), findings)
    _report(console, name, {each: len(tasks) for each, tasks in read.items()}, findings)
    console.print(_lengths_table(lengths, unit))
    _examples(console, findings, show)
    if out:
        print_line(console, f"all findings: {out}")
    if any(finding.is_error for finding in findings):
        sys.exit(1)


def _read(
    source: Source | str, wanted: Sequence[Split] | None
) -> tuple[str, dict[str, list[Any]], list[Finding]]:
    """The name of the data, its tasks by split, not checked, and findings for unreadable splits.

    Raises ValueError if there is no split that can be read.
    """
    if isinstance(source, str):
        file = Path(source).expanduser()
        if not file.is_file():
            known = source_names()
            raise ValueError(
                f"{source} is neither a file nor a data set{similar(source, known)} (known: "
                f"{', '.join(known)})"
            )
        return file.name, {"file": tasks_of(file)}, []
    name = getattr(source, "name", type(source).__name__)
    read: dict[str, list[Any]] = {}
    findings: list[Finding] = []
    absent: list[str] = []
    for split in wanted or get_args(Split):
        try:
            tasks, left_out = source.readable(split)
        except (NoProblems, FileNotFoundError) as error:
            absent.append(str(error))
        except ValueError as error:
            findings.append(Finding("unreadable", split, "", str(error)))
        else:
            findings += [Finding("image", split, id, text) for id, text in left_out]
            if tasks or left_out or wanted:
                read[split] = tasks
    if (absent and wanted) or not (read or findings):
        raise ValueError(absent[0] if absent else f"{name} has no problems")
    return name, read, findings


def _usable(tasks: Sequence[Any], split: str, name: str) -> list[Task]:
    """The tasks that can be read; the others are findings."""
    usable: list[Task] = []
    for task in tasks:
        try:
            usable += check_tasks([task], f"{name}/{split}", graded=True)
        except ValueError:
            continue
    return usable


def _measure(model: str | None, max_length: int | None) -> tuple[Callable[[Task], int], int | None]:
    """How long a task is, with its solution, and the limit."""

    def text(task: Task) -> str:
        return f"{task.problem.statement}\n{task.solution or ''}".rstrip()

    if model is None:
        return lambda task: len(text(task)), max_length
    from slm_math.policy.loading import context_of, load_tokenizer, sight_in

    tokenizer, sight = load_tokenizer(model), sight_in(model)
    limits = [limit for limit in (max_length, context_of(model)) if limit is not None]

    def tokens(task: Task) -> int:
        images = task.problem.images
        seen = sight.extent(images).extra + len(images) if sight is not None else 0
        return len(tokenizer(text(task), add_special_tokens=False)["input_ids"]) + seen

    return tokens, min(limits, default=None)


def _watched(console: Console, problems: Sequence[Problem], title: str) -> Iterable[Problem]:
    return with_progress(problems, console, title)


def _report(console: Console, name: str, read: dict[str, int], findings: Sequence[Finding]) -> None:
    """The table of counts."""
    splits = list(dict.fromkeys([*read, *(finding.split for finding in findings)]))
    table = Table(title=f"{plain(name)}: findings", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    for split in splits:
        table.add_column(split, justify="right")
    table.add_row("", "problems", *(f"{read.get(split, 0):,}" for split in splits))
    table.add_section()
    for severity, kinds in (("error", ERRORS), ("warning", WARNINGS)):
        for kind, description in kinds.items():
            counts = [
                sum(finding.kind == kind and finding.split == split for finding in findings)
                for split in splits
            ]
            table.add_row(severity, description, *map(str, counts))
        table.add_section()
    console.print(table)


def _lengths_table(lengths: dict[str, list[int]], unit: str) -> Table:
    table = Table(title=f"{unit} of a problem with its solution", title_justify="left")
    for name in ("split", "median", "95 %", "99 %", "longest"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, some in lengths.items():
        ordered = sorted(some)
        last = len(ordered) - 1
        quantiles = [ordered[min(int(q * len(ordered)), last)] for q in (0.5, 0.95, 0.99)]
        if ordered:
            table.add_row(split, *(f"{value:,}" for value in (*quantiles, ordered[-1])))
    return table


def _examples(console: Console, findings: Sequence[Finding], show: int) -> None:
    for kind, some in by_kind(findings).items():
        if not show:
            return
        severity = "error" if some[0].is_error else "warning"
        description = (ERRORS | WARNINGS)[kind]
        print_line(console, f"{severity}, {description}: {len(some)}")
        for finding in some[:show]:
            console.print("  ", cell(f"{finding.id}: {finding.text}".lstrip(": "), 300), sep="")


def _write(path: Path, findings: Sequence[Finding]) -> None:
    """Writes the findings as JSON lines, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    lines = (encodable(json.dumps(each.to_json(), ensure_ascii=False)) for each in findings)
    new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(new, path)
