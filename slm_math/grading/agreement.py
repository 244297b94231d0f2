"""The verdicts that rows carry beside ours: both accuracies, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from slm_math.evaluation.plain import as_name, cell, plain, print_line
from slm_math.grading.scoring import GradedLine, GradedSample


class Disagreement(NamedTuple):
    """A sample on which a row's verdict (`accepted`) and ours differ; answers are None for none."""

    line: int
    sample: int
    gold: str
    answer: str | None
    theirs: str | None
    accepted: bool
    reason: str


@dataclass
class Agreement:
    """Of the samples with a verdict of one name: how many both call correct, and so on."""

    n: int = 0
    both: int = 0
    only_theirs: int = 0
    only_ours: int = 0
    first: list[Disagreement] = field(default_factory=list)

    def add(self, sample: GradedSample, accepted: bool, shown: int) -> None:
        self.n += 1
        self.both += accepted and sample.correct
        if accepted == sample.correct:
            return
        self.only_theirs += accepted
        self.only_ours += sample.correct
        if len(self.first) < shown:
            found = Disagreement(
                line=sample.line,
                sample=sample.sample,
                gold=sample.gold,
                answer=sample.answer,
                theirs=sample.theirs,
                accepted=accepted,
                reason=sample.reason,
            )
            self.first.append(found)

    @property
    def differ(self) -> int:
        return self.only_theirs + self.only_ours


class Agreements:
    """An agreement for each name of a verdict, and each filter of lm-eval; `shown` disagreements of
    each are kept.
    """

    def __init__(self, shown: int) -> None:
        self.shown = shown
        self.by_name: dict[str, Agreement] = {}

    def add(self, row: GradedLine) -> GradedLine:
        """Counts a line, and returns it."""
        if row.error is None:
            for sample in row.samples:
                for name, accepted in sample.verdicts if sample.broken is None else ():
                    full = f"{name}, {sample.filter}" if sample.filter else name
                    one = self.by_name.setdefault(full, Agreement())
                    one.add(sample, accepted, self.shown)
        return row

    def print(self, tool: str, console: Console) -> None:
        """Prints both accuracies for each verdict, and the disagreements."""
        if not self.by_name:
            return
        console.print(accuracies_table(tool, self.by_name))
        for name, one in self.by_name.items():
            if one.first:
                console.print(disagreements_table(name, one))
            elif not one.differ:
                print_line(console, f"{plain(name)}: all {one.n} verdicts agree with ours")


def accuracies_table(tool: str, agreements: dict[str, Agreement]) -> Table:
    """Accuracy by the file's verdicts and by ours, in per cent."""
    table = Table(
        title=cell(f"verdicts of {tool} beside ours, by sample", 200), title_justify="left"
    )
    table.add_column("verdict", overflow="fold")
    for name in ("n", "theirs, %", "ours, %", "only theirs", "only ours"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in agreements.items():
        theirs, ours = (
            100 * (one.both + own) / max(one.n, 1) for own in (one.only_theirs, one.only_ours)
        )
        table.add_row(
            as_name(name, 60),
            str(one.n),
            f"{theirs:.1f}",
            f"{ours:.1f}",
            str(one.only_theirs),
            str(one.only_ours),
        )
    return table


def disagreements_table(name: str, one: Agreement) -> Table:
    """The first disagreements: gold, both answers, which verdict is which, and our reason."""
    more = f", the first {len(one.first)}" if one.differ > len(one.first) else ""
    title = f"{name}: {one.differ} of {one.n} verdicts differ{more}"
    table = Table(title=cell(title, 200), title_justify="left")
    for column in ("line", "gold", "our answer", "their answer", "correct for", "our reason"):
        table.add_column(column, overflow="fold")
    for each in one.first:
        place = f"{each.line}" + (f".{each.sample}" if each.sample else "")
        table.add_row(
            place,
            cell(each.gold, 40),
            cell(_shown(each.answer), 40),
            cell(_shown(each.theirs), 40),
            "them" if each.accepted else "us",
            cell(each.reason, 40),
        )
    return table


def _shown(answer: str | None) -> str:
    return "-" if answer is None else answer
