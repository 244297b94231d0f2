"""Compare verdicts that exist with fresh ones: `slm-math grade FILE --verify`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.answers import grader_version
from slm_math.evaluation.plain import plain
from slm_math.grading.completions import VERDICT, Fields
from slm_math.grading.jsonl import RowError, lines, parse
from slm_math.grading.saved import as_expected, beside, first_row, understood
from slm_math.grading.scoring import Item, Row, stream
from slm_math.grading.tally import SHOWN, Tally, say, tell_unread

COMPARED = ("correct", "answer", "method", "reason", "lenient")
Key = tuple[int, int]  # line, sample
STORED = {
    "line": int,
    "sample": int,
    "correct": bool,
    "answer": str | None,
    "completion_hash": str,
    "gold_hash": str,
}


@dataclass
class Findings:
    """What a comparison found: how many agree, and of each kind of trouble the count and the first
    few cases.
    """

    agree: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    graders: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, case: str) -> None:
        self.counts[kind] += 1
        if len(self.first[kind]) < SHOWN:
            self.first[kind].append(case)

    def tell(self, console: Console, where: str) -> None:
        for kind, count in self.counts.items():
            say(console, f"{kind}: {count}" + (f", the first {SHOWN}:" if count > SHOWN else ""))
            for case in self.first[kind]:
                say(console, f"  {case}")
        others = [plain(name) for name in self.graders if name != grader_version()]
        made = (
            f" (made by grader {', '.join(others)}; this is {grader_version()})" if others else ""
        )
        every = "all " if self.agree and not self.counts else ""
        say(console, f"{every}{self.agree} verdicts agree with {where}{made}")


def verify(
    path: Path,
    fields: Fields,
    out: Path | None,
    workers: int | None,
    expect: int | None,
    console: Console,
) -> bool:
    """Grades a file again; False on any verdict that is different, missing or there twice, and when
    there is none.

    Compared are the verdicts in the file beside it (or `out`), else those that its rows carry.
    """
    fields = understood(path, fields)
    verdicts = out or beside(path)
    own = fields.records or fields.verdict is not None
    if not own and not verdicts.is_file():
        _, row = first_row(path) or (0, {})
        own = out is None and any(name in row for name in VERDICT)
        if not own:
            raise ValueError(
                f"nothing to verify: {verdicts} does not exist"
                + (
                    ""
                    if out
                    else f" and rows have no field {' or '.join(VERDICT)}; grade first, or name "
                    f"--verdict"
                )
            )
    fields = understood(path, replace(fields, stored=own))
    tally, found = Tally(records=fields.records, last_number=fields.last_number), Findings()
    per_id: Counter[str | int] = Counter()
    with closing(stream(path, fields, workers, console)) as rows:
        items = _items(map(tally.add, rows), found, per_id)
        against_rows(items, found) if own else against_file(items, verdicts, found)
    tally.finish()
    if not fields.records:
        against_each_other(per_id, found)
    if fields.records:
        against_manifest(tally, path.with_name("manifest.json"), found)
    found.tell(console, "those in the rows" if own else str(verdicts))
    if tally.broken:
        say(
            console,
            f"broken: {len(tally.broken)} of the evaluation's samples have no answer to verify",
        )
    tell_unread(tally, console)
    return (
        as_expected(tally, expect, console)
        and not found.counts
        and not tally.unread
        and found.agree > 0
    )


def _items(rows: Iterable[Row], found: Findings, per_id: Counter[str | int]) -> Iterator[Item]:
    """The samples that have a verdict; counts the rows of each id."""
    for row in rows:
        if row.items and row.items[0].id is not None:
            per_id[row.items[0].id] += 1
        if row.error is None:
            yield from (item for item in row.items if item.broken is None)
        elif row.items:
            found.add("twice", f"line {row.line}: {row.error}")


def against_each_other(per_id: Counter[str | int], found: Findings) -> None:
    """Whether every id has as many rows as most of them (the fewer, where two numbers are as
    common).
    """
    sizes = Counter(per_id.values())
    usual = min(sizes, key=lambda size: (-sizes[size], size), default=0)
    for id, size in per_id.items():
        if size != usual:
            found.add(
                "twice" if size > usual else "missing",
                f"{plain(id)} has {size} rows, most have {usual}",
            )


def against_rows(items: Iterable[Item], found: Findings) -> None:
    """Compare with the verdicts that the rows themselves carry."""
    for item in items:
        if item.stored is None:
            found.add("missing", f"{_place(item.line, item.sample)} has no verdict")
        elif item.stored != item.correct:
            found.add(
                "different",
                f"{_place(item.line, item.sample)}: {_mark(item.stored)}, now {_now(item)}",
            )
        else:
            found.agree += 1


def against_file(items: Iterable[Item], path: Path, found: Findings) -> None:
    """Compare with a file of verdicts, which is read alongside: nothing is held that stands in the
    usual order.
    """
    stored = _stored(path, found)
    missing: dict[Key, Item] = {}
    ahead = next(stored, None)

    def late(old: dict[str, Any]) -> None:
        item = missing.pop((old["line"], old["sample"]), None)
        if item is None:
            found.add(
                "twice, or of no sample", f"{_place(old['line'], old['sample'])} in {old['place']}"
            )
        else:
            _compare(item, old, found)

    for item in items:
        key = (item.line, item.sample)
        while ahead and (ahead["line"], ahead["sample"]) < key:
            late(ahead)
            ahead = next(stored, None)
        if ahead and (ahead["line"], ahead["sample"]) == key:
            _compare(item, ahead, found)
            ahead = next(stored, None)
        else:
            missing[key] = item
    while ahead:
        late(ahead)
        ahead = next(stored, None)
    for line, sample in missing:
        found.add("missing", f"{_place(line, sample)} has no verdict")


def _stored(path: Path, found: Findings) -> Iterator[dict[str, Any]]:
    """The verdicts of a file, each with its own place."""
    for number, line, _ in lines(path):
        place = f"{path.name}, line {number}"
        try:
            row = parse(line)
        except RowError as error:
            found.add("unreadable", f"{place}: {plain(error)}")
            continue
        wrong = [
            name
            for name, kind in STORED.items()
            if name not in row or not isinstance(row[name], kind)
        ]
        if not wrong:
            found.graders[str(row.get("grader"))] += 1
            yield row | {"place": place}
        elif "error" not in row:
            found.add("unreadable", f"{place}: field {wrong[0]!r} is missing or of another kind")


def _compare(item: Item, old: dict[str, Any], found: Findings) -> None:
    place = f"{_place(item.line, item.sample)} ({old['place']})"
    parts = ("completion", item.completion_hash), ("gold", item.gold_hash)
    changed = [name for name, digest in parts if old[f"{name}_hash"] != digest]
    if changed:
        found.add("changed since", f"{place}: the {' and the '.join(changed)}")
    elif any(name in old and old[name] != getattr(item, name) for name in COMPARED):
        found.add(
            "different", f"{place}: {_mark(old['correct'])}, {_stored_as(old)}, now {_now(item)}"
        )
    else:
        found.agree += 1


def against_manifest(tally: Tally, path: Path, found: Findings) -> None:
    """Whether an evaluation is whole: what its manifest says, and the same samples of every
    problem.
    """
    if path.is_file():
        try:
            manifest = parse(path.read_bytes())
        except RowError as error:
            found.add("unreadable", f"{path}: {plain(error)}")
            manifest = {"partial": False, "records": len(tally.seen)}
        if manifest.get("partial") is not False:
            found.add("missing", f"{path}: the evaluation is partial")
        if manifest.get("records") != len(tally.seen):
            found.add(
                "missing",
                f"{path} counts {plain(manifest.get('records'))} records, not {len(tally.seen)}",
            )
        environment = manifest.get("environment")
        if isinstance(environment, dict):
            found.graders[str(environment.get("grader"))] += 1
    samples: defaultdict[str | int | None, set[int]] = defaultdict(set)
    for id, sample in tally.seen:
        samples[id].add(sample)
    most = max(map(len, samples.values()), default=0)
    for id, there in samples.items():
        for sample in range(most):
            if sample not in there:
                found.add("missing", f"sample {sample} of {plain(id)}")


def _place(line: int, sample: int) -> str:
    return f"line {line}, sample {sample}"


def _stored_as(old: dict[str, Any]) -> str:
    return f"({plain(old.get('reason', '-'))}, answer {_shown(old['answer'])})"


def _mark(correct: bool) -> str:
    return "stored as right" if correct else "stored as not right"


def _now(item: Item) -> str:
    return (
        f"{'right' if item.correct else 'not right'} ({item.reason}, answer {_shown(item.answer)})"
    )


def _shown(answer: str | None) -> str:
    return "none" if answer is None else f"'{plain(answer)}'"
