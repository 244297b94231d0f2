"""Grade saved completions: rows in, verdicts out in the same order, in as many processes as there
are cores.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import TaskProgressColumn

from slm_math.answers import grade, grader_version, judge
from slm_math.evaluation.table import Live
from slm_math.grading.completions import Case, Fields, StopError, cases
from slm_math.grading.jsonl import RowError, lines, parse
from slm_math.metrics.intervals import wilson

BATCH_ROWS, BATCH_BYTES = 32, 1 << 18
IN_PROCESS = 2000  # samples that are graded before other processes are worth their start
IN_FLIGHT = 4  # batches per worker: what bounds memory
CLOSING = tuple(".!?。)]}>\"'”’»$*`|")

WRITTEN = (
    "line", "sample", "id", "correct", "answer", "method", "reason", "seconds", "grader",
    "completion_hash",
    "gold_hash", "lenient",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """The verdict on one sample; `lenient`: whether it is right when the last number is accepted.

    `cut`: it ended at the token limit, or, where the row does not say (`estimated`), looks as if.
    `stored`: the verdict that the row carries. `broken`: why an evaluation has no answer; there is
    no verdict then.
    """

    line: int
    sample: int
    id: str | int | None
    correct: bool
    answer: str | None
    method: str
    reason: str
    seconds: float
    grader: str
    completion_hash: str
    gold_hash: str
    lenient: bool
    cut: bool
    estimated: bool
    stored: bool | None
    broken: str | None

    def written(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in WRITTEN}
        if self.id is None:
            del row["id"]
        return row


class Row(NamedTuple):
    """The verdicts on one line, or why it cannot be read."""

    line: int
    items: tuple[Item, ...]
    error: str | None = None


class Batch(NamedTuple):
    """Lines with their numbers, and the offset in the file at which they end."""

    lines: list[tuple[int, bytes | None]]
    end: int


def stream(path: Path, fields: Fields, workers: int | None, console: Console) -> Generator[Row]:
    """Graded rows in the order of the file, with a progress bar. Raises ValueError for what nobody
    should go on from.

    `workers` None: all usable cores, once the file has turned out to be long.
    """
    right = n = done = 0
    start, size = time.monotonic(), path.stat().st_size
    with Live(console, path.name, amount=TaskProgressColumn()) as live:
        for rows, end in _graded(path, fields, workers):
            for row in rows:
                n += len(row.items)
                right += sum(item.correct for item in row.items)
                yield row
            done += len(rows)
            rate = f"{done / (time.monotonic() - start):.1f} rows/s"
            live.show(
                path.name, end, size, (right / max(n, 1), *wilson(right, n)), rate, f"{done} rows"
            )


def _graded(path: Path, fields: Fields, workers: int | None) -> Iterator[tuple[list[Row], int]]:
    waiting = _batches(path)
    samples = 0
    where = str(path)
    while workers == 1 or (workers is None and (samples < IN_PROCESS or usable_cores() == 1)):
        batch = next(waiting, None)
        if batch is None:
            return
        for number, line in batch.lines:
            row = _score_line(number, line, fields, where)
            samples += len(row.items)
            yield [row], batch.end
    yield from _pooled(waiting, fields, where, workers or usable_cores())


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(path: Path) -> Iterator[Batch]:
    batch: list[tuple[int, bytes | None]] = []
    held = end = 0
    for number, line, end in lines(path):
        batch.append((number, line))
        held += len(line or b"")
        if len(batch) == BATCH_ROWS or held >= BATCH_BYTES:
            yield Batch(batch, end)
            batch, held = [], 0
    if batch:
        yield Batch(batch, end)


def _pooled(
    batches: Iterable[Batch], fields: Fields, where: str, workers: int
) -> Iterator[tuple[list[Row], int]]:
    """Batches graded in other processes, in order, a bounded number in flight."""
    # a fork of this process could inherit a lock that is held
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)
    waiting: deque[tuple[Future[list[Row]], Batch]] = deque()
    line = 0
    try:
        for batch in batches:
            line = line or batch.lines[0][0]
            waiting.append((executor.submit(score_lines, batch.lines, fields, where), batch))
            if len(waiting) >= IN_FLIGHT * workers:
                line = waiting[0][1].lines[0][0]
                yield _result(waiting)
        while waiting:
            line = waiting[0][1].lines[0][0]
            yield _result(waiting)
        executor.shutdown()
    except BaseException as error:
        executor.shutdown(wait=False, cancel_futures=True)
        # nobody waits for what they are doing
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        if not isinstance(error, BrokenProcessPool):
            raise
        raise ValueError(
            f"{where}: a grading process died at or after line {line} (killed, or out of memory?); "
            "try fewer with --workers"
        ) from error


def _result(waiting: deque[tuple[Future[list[Row]], Batch]]) -> tuple[list[Row], int]:
    future, batch = waiting.popleft()
    return future.result(), batch.end


def _ignore_interrupt() -> None:
    """Ctrl-C reaches all processes of a terminal; the first one decides what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# -- one batch, in any process
# -----------------------------------------------------------------------------------


def score_lines(batch: list[tuple[int, bytes | None]], fields: Fields, where: str) -> list[Row]:
    return [_score_line(number, line, fields, where) for number, line in batch]


def _score_line(number: int, line: bytes | None, fields: Fields, where: str) -> Row:
    try:
        return Row(
            number,
            tuple(score(case, fields.last_number) for case in cases(parse(line), number, fields)),
        )
    except RowError as error:
        return Row(number, (), str(error))
    except StopError as error:
        raise ValueError(f"{where}, line {number}: {error}") from error
    except ValueError as error:  # what the grader says about a tolerance
        return Row(number, (), str(error))
    except Exception as error:  # a fault of the grader must not lose the other rows
        return Row(number, (), f"the grader failed ({type(error).__name__}: {error})")


def score(case: Case, last_number: bool = False) -> Item:
    """The verdict on one case."""
    task, problem = case.task, case.task.problem
    start = time.perf_counter()
    if case.extracted:
        decision = judge(case.completion, task)
        correct = lenient = decision.equal
        answer, method, reason = case.completion, "record", decision.reason
    else:
        text = case.completion or ""
        rules = (
            task.gold,
            problem.text or None,
            problem.answer_type,
            problem.choices or None,
            task.tolerance,
        )
        verdict = grade(text, *rules, last_number=last_number)
        correct, answer, method, reason = (
            verdict.correct,
            verdict.answer,
            verdict.method,
            verdict.reason,
        )
        lenient = correct or (
            answer is None and not last_number and grade(text, *rules, last_number=True).correct
        )
    cut = looks_cut(case.completion or "", answer is not None) if case.cut is None else case.cut
    return Item(
        case.line, case.sample, case.id, correct, answer, method, reason,
        round(time.perf_counter() - start, 6),
        grader_version(), _hash(case.completion or ""), _hash(task.gold), lenient, cut,
        case.cut is None, case.stored,
        case.broken,
    )  # fmt: skip


def looks_cut(text: str, answered: bool) -> bool:
    """Whether a completion seems to have been cut off: an open box, code fence or thought, or a
    loose end.
    """
    box = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if box >= 0 and _open_brace(text[box:]):
        return True
    if text.count("```") % 2 or text.rfind("<think>") > text.rfind("</think>"):
        return True
    return not answered and bool(text.strip()) and not text.rstrip().endswith(CLOSING)


def _open_brace(text: str) -> bool:
    """Whether the first brace of a text is never closed; escaped braces do not count."""
    depth, escaped = 0, False
    for char in text:
        if not escaped and char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return False
        escaped = char == "\\" and not escaped
    return True


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
