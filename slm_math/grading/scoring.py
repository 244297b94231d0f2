"""Grade saved completions: lines in, verdicts out in the same order, in one process per core."""

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
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import TaskProgressColumn

from slm_math.answers import grade_answer, grade_reply, grader_version
from slm_math.answers.second_opinion import Opinion, second_opinion
from slm_math.data.json_lines import Line, RowError, parse, quoted
from slm_math.evaluation.live import Live, State
from slm_math.foreign.joining import Golds
from slm_math.foreign.texts import text_key
from slm_math.grading.completions import Case, cases
from slm_math.grading.fields import AmbiguousRow, Fields
from slm_math.grading.records import record_of
from slm_math.grading.rows import rows
from slm_math.grading.texts import looks_truncated
from slm_math.metrics.groups import AccuracySoFar
from slm_math.records.record import Record
from slm_math.types import Task

BATCH_ROWS, BATCH_BYTES = 32, 1 << 18
IN_PROCESS = 2000  # samples that this process grades before it starts others
IN_FLIGHT = 4  # batches per worker, which bounds memory
SHOWN_EVERY = 0.1  # seconds between two states of the progress bar


class GradedSample(NamedTuple):
    """The verdict on one sample; `lenient`: whether it is correct when the last number is accepted.

    `truncated`: the completion hit the token limit, or, if the row does not say (`estimated`),
    looks as if it had. `asked` and `gold_hash`: hashes of the problem's text with its choices,
    after normalization, and of the reference answer. `problem`, `verdicts`, `theirs` and `filter`
    are those of `Case`.
    `broken`: why an evaluation has no answer; there is no verdict then. `repeats`: what tells
    this sample from others, None if nothing does.
    `record`: of this sample, where one is asked for.
    `opinion`: what math-verify says, where it was asked, of the answer to `gold`.
    """

    line: int
    sample: int
    id: str | int | None
    problem: str
    correct: bool
    answer: str | None
    method: str
    reason: str
    seconds: float
    grader: str
    completion_hash: str
    asked: str
    gold_hash: str
    lenient: bool
    truncated: bool
    estimated: bool
    broken: str | None
    gold: str
    verdicts: tuple[tuple[str, bool], ...] = ()
    theirs: str | None = None
    filter: str | None = None
    repeats: str | None = None
    record: Record | None = None
    opinion: Opinion | None = None

    @property
    def stored(self) -> bool | None:
        """The verdict that the row carries, where it carries one."""
        return self.verdicts[0][1] if self.verdicts else None

    def to_line(self) -> str:
        """What a file of verdicts says of this sample; several times as fast as an encoder."""
        id = "" if self.id is None else f'"id": {_in_json(self.id)}, '
        answer = "null" if self.answer is None else quoted(self.answer)
        opinion = ""
        if self.opinion is not None:
            one = self.opinion
            answer_right, reply_right = (
                "null" if right is None else _in_json(right)
                for right in (one.correct, one.reply_correct)
            )
            opinion = (
                f', "second_opinion": {answer_right}, "second_opinion_of_reply": {reply_right}, '
                f'"second_readings": [{", ".join(map(quoted, (one.answer, one.found, one.gold)))}]'
            )
        return (
            f'{{"line": {self.line}, "sample": {self.sample}, {id}'
            f'"correct": {_in_json(self.correct)}, "answer": {answer}, '
            f'"method": "{self.method}", "reason": "{self.reason}", '
            f'"seconds": {self.seconds}, "grader": "{self.grader}", '
            f'"completion_hash": "{self.completion_hash}", "gold_hash": "{self.gold_hash}", '
            f'"lenient": {_in_json(self.lenient)}{opinion}}}\n'
        )


def _in_json(value: str | int) -> str:
    if isinstance(value, str):
        return quoted(value)
    return str(value).lower()  # true and false, too


class GradedLine(NamedTuple):
    """The verdicts on the samples of one line, or why it cannot be read."""

    line: int
    samples: tuple[GradedSample, ...]
    error: str | None = None


class LineBatch(NamedTuple):
    """Lines with their numbers, and the offset in the file at which they end."""

    lines: list[tuple[int, Line]]
    end: int


def grade_lines(
    path: Path,
    fields: Fields,
    workers: int | None,
    console: Console,
    golds: Golds | None = None,
) -> Generator[GradedLine]:
    """Graded lines in the order of the file, with a progress bar.

    `golds` are joined to the rows. `workers` None: all usable cores, once the file has turned out
    to be long. Raises ValueError for an ambiguous row, and when a worker process dies.
    """
    accuracy, done = AccuracySoFar(), 0
    shown = 0.0
    start, size = time.monotonic(), path.stat().st_size
    with Live(console, path.name, amount=TaskProgressColumn()) as live:
        for graded, end in _graded(path, fields, workers, golds):
            for line in graded:
                for sample in line.samples:
                    accuracy.add(sample.problem, 1, sample.correct)
                yield line
            done += len(graded)
            now = time.monotonic()
            if now - shown < SHOWN_EVERY and end < size:
                continue
            shown = now
            share, low, high = accuracy.value()
            state = State(
                done=end,
                total=size,
                accuracy=share,
                low=low,
                high=high,
                rate=f"{done / (time.monotonic() - start):.1f} rows/s",
                line=f"{done} rows",
            )
            live.show(path.name, state)


def _graded(
    path: Path, fields: Fields, workers: int | None, golds: Golds | None
) -> Iterator[tuple[list[GradedLine], int]]:
    batches = _batches(path, golds, fields.filter)
    samples = 0
    where = str(path)
    while workers == 1 or (workers is None and (samples < IN_PROCESS or usable_cores() == 1)):
        batch = next(batches, None)
        if batch is None:
            return
        for number, line in batch.lines:
            graded = _grade_line(number, line, fields, where)
            samples += len(graded.samples)
            yield [graded], batch.end
    yield from _pooled(batches, fields, where, workers or usable_cores())


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(path: Path, golds: Golds | None, filter: str | None) -> Iterator[LineBatch]:
    batch: list[tuple[int, Line]] = []
    size = end = 0
    for number, line, end in rows(path, golds, filter):
        batch.append((number, line))
        size += len(line) if isinstance(line, bytes) else 0
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield LineBatch(batch, end)
            batch, size = [], 0
    if batch:
        yield LineBatch(batch, end)


def _pooled(
    batches: Iterable[LineBatch], fields: Fields, where: str, workers: int
) -> Iterator[tuple[list[GradedLine], int]]:
    """Batches graded in other processes, in order, with a bounded number in flight."""
    # a fork of this process could inherit a lock that another thread holds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)
    waiting: deque[tuple[Future[list[GradedLine]], LineBatch]] = deque()
    line = 0
    try:
        for batch in batches:
            line = line or batch.lines[0][0]
            waiting.append((executor.submit(grade_batch, batch.lines, fields, where), batch))
            if len(waiting) >= IN_FLIGHT * workers:
                line = waiting[0][1].lines[0][0]
                yield _result(waiting)
        while waiting:
            line = waiting[0][1].lines[0][0]
            yield _result(waiting)
        executor.shutdown()
    except BaseException as error:
        executor.shutdown(wait=False, cancel_futures=True)
        # their results are no longer needed
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        if not isinstance(error, BrokenProcessPool):
            raise
        raise ValueError(
            f"{where}: a grading process died at or after line {line} (killed, or out of memory?); "
            "try fewer workers with --workers"
        ) from error


def _result(
    waiting: deque[tuple[Future[list[GradedLine]], LineBatch]],
) -> tuple[list[GradedLine], int]:
    future, batch = waiting.popleft()
    return future.result(), batch.end


def _ignore_interrupt() -> None:
    """Ctrl-C reaches all processes of a terminal; only the main process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# one batch, in any process


def grade_batch(batch: list[tuple[int, Line]], fields: Fields, where: str) -> list[GradedLine]:
    return [_grade_line(number, line, fields, where) for number, line in batch]


def _grade_line(number: int, line: Line, fields: Fields, where: str) -> GradedLine:
    try:
        samples = cases(parse(line), number, fields)
        return GradedLine(number, tuple(grade_case(case, fields) for case in samples))
    except RowError as error:
        return GradedLine(number, (), str(error))
    except AmbiguousRow as error:
        raise ValueError(f"{where}, line {number}: {error}") from error
    except ValueError as error:  # the grader rejects a tolerance
        return GradedLine(number, (), str(error))
    except Exception as error:  # a fault of the grader must not lose the other rows
        return GradedLine(number, (), f"the grader failed ({type(error).__name__}: {error})")


def grade_case(case: Case, fields: Fields = Fields()) -> GradedSample:
    """The verdict on one case; if the fields ask for it, also what math-verify says."""
    task, text = case.task, case.completion or ""
    start = time.perf_counter()
    correct, answer, method, reason, lenient = _verdict(case, task, fields.last_number)
    estimated = case.truncated is None
    completion_hash = _hash(text)
    seconds = round(time.perf_counter() - start, 6)
    asked = text_key(task.problem.text, task.problem.choices)
    gold_hash = _known_hash(task.gold)
    return GradedSample(
        line=case.line,
        sample=case.sample,
        id=case.id,
        problem=case.problem,
        correct=correct,
        answer=answer,
        method=method,
        reason=reason,
        seconds=seconds,
        grader=grader_version(),
        completion_hash=completion_hash,
        asked=asked,
        gold_hash=gold_hash,
        lenient=lenient,
        truncated=looks_truncated(text, answer is not None)
        if case.truncated is None
        else case.truncated,
        estimated=estimated,
        broken=case.broken,
        gold=task.gold,
        verdicts=case.verdicts,
        theirs=case.theirs,
        filter=case.filter,
        repeats=None
        if case.id is None
        else f"{case.id!r} {case.repeat!r} {asked} {gold_hash} {completion_hash}",
        record=record_of(case, answer, correct, reason=reason, method=method, lenient=lenient)
        if fields.recorded
        else None,
        opinion=second_opinion(answer, task, "" if case.extracted else text)
        if fields.second_opinion
        else None,
    )


def _verdict(case: Case, task: Task, last_number: bool) -> tuple[bool, str | None, str, str, bool]:
    """Whether a case is correct, its answer, how that is stated, the reason, and whether it is
    correct when the last number counts.
    """
    if case.extracted:
        decision = grade_answer(case.completion, task)
        return decision.equal, case.completion, "record", decision.reason, decision.equal
    return verdict_of(case.completion or "", task, last_number)


def verdict_of(text: str, task: Task, last_number: bool) -> tuple[bool, str | None, str, str, bool]:
    """The same of a completion."""
    found = grade_reply(text, task, last_number)
    more = found.answer is None and not last_number
    lenient = found.correct or (more and grade_reply(text, task, True).correct)
    return found.correct, found.answer, found.method, found.reason, lenient


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_known_hash = lru_cache(maxsize=256)(_hash)  # the samples of a problem are often neighbors
