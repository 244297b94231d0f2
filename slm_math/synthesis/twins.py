"""`slm-math twins`: unseen twins of the problems of a file, by programs that solve these."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.agents.coding import program, program_answer
from slm_math.answers import grade_answer
from slm_math.data.checks import check_tasks
from slm_math.data.files import FileRow, readable_rows
from slm_math.data.overlap import near_exact
from slm_math.data.problems import problems_of, task_of
from slm_math.evaluation.plain import plain, print_line
from slm_math.records.eval_folders import TWIN_OF
from slm_math.records.outputs import check_output
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.swapped import Shared, exchanged, shared_numbers
from slm_math.types import Problem, Run, RunPython, Task

PROGRAM = ("program", "code", "python")  # fields of a row
ROUNDS, TRIES = 8, 12  # twins that are tried of each problem: so many at once, so many times


@dataclass(frozen=True)
class _Candidate:
    """A possible twin: its text and program, and which numbers took whose place."""

    text: str
    program: RunPython
    numbers: Mapping[str, str]


@dataclass(frozen=True)
class _Parent:
    task: Task
    program: RunPython
    shared: Sequence[Shared]
    draw: random.Random

    def candidate(self, number: int) -> _Candidate:
        """All numbers that may be exchanged, from the second half of the tries on only some."""
        some = list(self.shared)
        if number >= ROUNDS * TRIES // 2 and len(some) > 1:
            some = self.draw.sample(some, self.draw.randint(1, len(some)))
        return _Candidate(*exchanged(self.task.problem.text, self.program, some, self.draw))


def twins(
    file: str,
    out: str,
    against: Sequence[str] = (),
    program: str | None = None,
    seed: int = 0,
    sandbox: Sandbox | RemoteSandbox | None = None,
) -> None:
    """Writes unseen twins of problems: `slm-math twins FILE -o OUT`, for `--twins OUT` of `eval`
    and AgentEval.

    Each row has a problem, its reference answer and a program that prints it. Numbers that the
    problem and the program have in common are exchanged in both, and the program runs in the
    sandbox: what it prints is the twin's answer. Problems without a twin, repeated problems and
    rows that cannot be read are counted with the reason. The file may be the records of an
    evaluation by agents that write programs.

    Args:
        file: rows with a problem, an answer and a program: JSON lines, JSON, CSV, TSV, Parquet.
        out: JSONL file for the twins, each with its parent's id and text.
        against: training problems, such as GSM8K:train or a file; twins that are among them are
            left out.
        program: field of the program; by default program, code or python.
        seed: of the numbers.
        sandbox: runs the programs; by default one with the default limits.
    """
    check_output("twins", out, [file, *against])
    console = Console()
    reasons = Counter[str]()
    parents = list(_parents(Path(file), program, seed, reasons))
    runner = Programs(sandbox, console)
    try:
        parents = _true(parents, runner, reasons)
        found = _found(parents, runner)
    finally:
        runner.close()
    reasons["no other numbers give an answer of its kind"] += len(parents) - len(found)
    found = _unseen(found, [problems_of(side) for side in against], Path(file), reasons)
    lines = [json.dumps(_row(parent, twin, answer)) for parent, twin, answer in found]
    _say(console, file, len(found), reasons)
    if not lines:
        raise ValueError(f"{file}: no problem has a twin")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print_line(console, f"written to {plain(out, 200)}; use it with --twins {plain(out, 200)}")


def _parents(file: Path, field: str | None, seed: int, reasons: Counter[str]) -> Iterator[_Parent]:
    """The problems whose numbers may be exchanged; of several rows of one text the first that has a
    program. A row that cannot be read is counted with what is wrong with the first such row.
    """
    seen: set[str] = set()
    unread: list[str] = []
    for row in readable_rows(file):
        try:
            if isinstance(row, ValueError):
                raise row
            [read] = check_tasks([task_of(row)], str(file), graded=False)
            text, code = read.problem.text, _program_of(row, field)
            if text in seen:
                reasons["the problem stands in an earlier row"] += 1
                continue
            if code is None:
                reasons["no program"] += 1
                continue
            [task] = check_tasks([read], str(file), graded=True)
        except ValueError as error:
            unread.append(str(error))
            continue
        seen.add(text)
        if _number(task.gold) is None or task.problem.images or task.problem.choices:
            reasons["the answer is no number, or there are images"] += 1
        elif shared := shared_numbers(text, code):
            yield _Parent(task, code, shared, random.Random(f"{seed} twin {text}"))
        else:
            reasons["no number that problem and program have in common"] += 1
    if unread:
        reasons[f"the row cannot be read (first: {unread[0]})"] += len(unread)


def _program_of(row: FileRow, field: str | None) -> RunPython | None:
    """The program of a row: of its field, or the last one of a right record that ran."""
    if isinstance(events := row.fields.get("events"), list) and field is None:
        runs = [each for each in events if isinstance(each, dict) and each.get("kind") == "run"]
        if row.fields.get("correct") is not True or not runs or not runs[-1].get("ok"):
            return None
        return RunPython(
            str(runs[-1].get("code", "")), tuple(map(str, runs[-1].get("earlier", ())))
        )
    name = field or next((name for name in PROGRAM if row.fields.get(name)), None)
    if name is None or row.fields.get(name) in (None, ""):
        return None
    text = row.text(name)
    return program(text) or RunPython(text)


def _true(parents: Sequence[_Parent], runner: Programs, reasons: Counter[str]) -> list[_Parent]:
    """Those whose program gives the reference answer."""
    results = runner.run([each.program for each in parents], "programs")
    right = []
    for parent, result in zip(parents, results, strict=True):
        answer = program_answer(Run(parent.program.code, result, parent.program.earlier))
        if answer is not None and grade_answer(answer, parent.task).equal:
            right.append(parent)
        else:
            reasons["the program does not give the reference answer"] += 1
    return right


def _found(parents: Sequence[_Parent], runner: Programs) -> list[tuple[_Parent, _Candidate, str]]:
    """The first candidate of each problem whose program gives another answer of the same kind."""
    found: dict[int, tuple[_Candidate, str]] = {}
    for round in range(ROUNDS):
        asked = [
            (place, parent.candidate(round * TRIES + number))
            for place, parent in enumerate(parents)
            if place not in found
            for number in range(TRIES)
        ]
        results = runner.run([candidate.program for _, candidate in asked], "twins")
        for (place, candidate), result in zip(asked, results, strict=True):
            code = candidate.program
            answer = program_answer(Run(code.code, result, code.earlier))
            value = _of_kind(answer, parents[place].task)
            if value is not None and candidate.text != parents[place].task.problem.text:
                found.setdefault(place, (candidate, value))
    return [(parents[place], *found[place]) for place in sorted(found)]


def _of_kind(answer: str | None, parent: Task) -> str | None:
    """An answer as a number of the kind of the parent's: of its sign, with at most its decimals,
    and another one. None for others.
    """
    gold, value = _number(parent.gold), _number(answer)
    if gold is None or value is None or (value > 0) != (gold > 0):
        return None
    decimals = len(parent.gold.partition(".")[2])
    rounded = round(value, decimals)
    if abs(rounded - value) > Fraction(1, 10**9) or grade_answer(str(answer), parent).equal:
        return None
    return f"{float(rounded):.{decimals}f}" if decimals else str(int(rounded))


def _number(text: str | None) -> Fraction | None:
    try:
        return Fraction((text or "").replace(",", "").strip("$ "))
    except (ValueError, ZeroDivisionError):
        return None


def _unseen(
    found: Sequence[tuple[_Parent, _Candidate, str]],
    sides: Sequence[Sequence[Problem]],
    file: Path,
    reasons: Counter[str],
) -> list[tuple[_Parent, _Candidate, str]]:
    """Those that are not among the problems of the sides, or of the readable rows of the file."""
    asked = [Problem(parent.task.problem.id, twin.text) for parent, twin, _ in found]
    seen: set[int] = set()
    for side in (*sides, _problems(file)):
        seen |= set(near_exact(side, asked))
    reasons["their twin is among the problems of the file or of --against"] += len(seen)
    return [each for place, each in enumerate(found) if place not in seen]


def _problems(file: Path) -> list[Problem]:
    """The problems of the rows of a file that can be read."""
    found = []
    for row in readable_rows(file):
        with suppress(ValueError):
            if isinstance(row, FileRow):
                found.append(task_of(row).problem)
    return found


def _row(parent: _Parent, twin: _Candidate, answer: str) -> dict[str, Any]:
    problem = parent.task.problem
    return {
        "id": f"{problem.id}~twin",
        TWIN_OF: problem.id,
        "problem": twin.text,
        "answer": answer,
        "numbers": dict(twin.numbers),
        "program": "\n".join((*twin.program.earlier, twin.program.code)),
        "parent": problem.text,
    }


def _say(console: Console, file: str, n: int, reasons: Counter[str]) -> None:
    print_line(console, f"{plain(file, 200)}: {n} problems have a twin")
    for reason, count in reasons.items():
        if count:
            print_line(console, f"without one, {plain(reason, 300)}: {count}")
