#!/usr/bin/env python3
"""Measure the time of programs in the sandbox and in a fresh Python interpreter, in one run.

    python scripts/bench_sandbox.py [--tier auto] [--workers 1 2 4] [--seconds 8] [--json FILE]

The programs are: a print; a sympy solve with a different quadratic each time; and the programs of
tests/sandbox/programs that succeed: all of them, those with sympy, and those without it.

The fresh interpreter is `python -c` for the print. For all others it imports sympy first, because
the sandbox gives this environment to every program. Latency is measured with one program at a time,
throughput with several workers, or with several threads that run an interpreter each. The runners
take turns with the same programs; fast runners repeat them. The start of a sandbox is not counted.
Every result is compared with the expected one.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import sympy
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slm_math.sandbox import Sandbox
from slm_math.types import RunPython, RunResult

PROGRAMS = Path(__file__).parents[1] / "tests/sandbox/programs"
# a program may begin with an import from __future__
WITH_SYMPY = "import sys, sympy\nexec(sys.argv[1])"
FRESH = "fresh interpreter"
ROUNDS, RESAMPLES = 8, 2000
WORKLOADS = ("print", "sympy solve", "recorded programs", "without sympy", "with sympy")
SERIAL = count(1)


@dataclass(frozen=True)
class Case:
    """A program, what it prints, and the value of its last expression."""

    name: str
    code: str
    stdout: str = ""
    value: str = ""


ROWS = [
    row
    for path in sorted(PROGRAMS.glob("*.yaml"))
    for row in yaml.safe_load(path.read_text("utf-8"))
]
RECORDED = [Case(**row) for row in ROWS if "error_type" not in row]
Runner = Callable[[Sequence[Case]], list[RunResult]]


def endless(what: str) -> Iterator[Case]:
    """Prints, quadratics with two integer roots, or recorded programs in a random order."""
    draw = random.Random(0)
    chosen = [
        case
        for case in RECORDED
        if what == "recorded programs" or (what == "with sympy") == ("sympy" in case.code)
    ]
    shuffled = draw.sample(chosen, len(chosen))
    for n in count():
        low, high = sorted(draw.sample(range(-9999, 10000), 2))
        solved = f"sorted(solve(x**2 + ({-low - high})*x + ({low * high}), x))"
        if what == "print":
            yield Case("print", f"print({n} * 7)", f"{n * 7}\n")
        elif what == "sympy solve":
            yield Case(
                "solve",
                f"from sympy import *\nx = symbols('x')\nprint({solved})",
                f"[{low}, {high}]\n",
            )
        else:
            yield shuffled[n % len(shuffled)]


def sandboxed(box: Sandbox) -> Runner:
    def run(cases: Sequence[Case]) -> list[RunResult]:
        if len(cases) == 1:
            return [box.run(cases[0].code)]
        tickets = [box.submit(RunPython(case.code)) for case in cases]
        results: dict[int, RunResult] = {}
        while len(results) < len(tickets):
            results.update(box.poll(1.0))
        return [results[ticket] for ticket in tickets]

    return run


def fresh(threads: ThreadPoolExecutor, with_sympy: bool) -> Runner:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    start = [sys.executable, "-c", *([WITH_SYMPY] if with_sympy else [])]

    def one(case: Case) -> RunResult:
        done = subprocess.run(
            [*start, case.code], env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
        # an interpreter does not show the value of a last expression
        return RunResult(done.returncode == 0, done.stdout.decode(), value=case.value)

    return lambda cases: list(threads.map(one, cases)) if len(cases) > 1 else [one(cases[0])]


@dataclass
class Tally:
    """The results of one runner with one workload.

    `batches` are (number of programs, seconds); `wrong` counts the programs with a wrong result.
    """

    batches: list[tuple[int, float]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, runner: Runner, cases: Sequence[Case]) -> None:
        begun = time.perf_counter()
        results = runner(cases)
        self.batches.append((len(cases), time.perf_counter() - begun))
        for case, result in zip(cases, results):
            right = result.ok and (result.stdout, result.value) == (case.stdout, case.value)
            self.wrong[case.name] += not right


def measured(
    runners: dict[str, Runner], cases: Iterator[Case], share: float, workers: int, step
) -> dict[str, Tally]:
    """Run each runner for about `share` seconds a round, with `workers` programs at once.

    With `workers` 0, each program is a batch of its own, which measures latency.
    """
    at_once = max(workers, 1)
    trial, tallies, passes = Tally(), {name: Tally() for name in runners}, {}
    trial.add(runners[FRESH], list(islice(cases, at_once)))
    size = at_once * max(2, round(share / trial.batches[0][1]))
    for name, runner in runners.items():
        for _ in range(1 if name == FRESH else 2):  # a sandbox starts with its first program
            trial.add(runner, list(islice(cases, size)))
        passes[name] = max(1, round(share / trial.batches[-1][1]))
    for turn in range(ROUNDS):
        batch = list(islice(cases, size))
        for name in list(runners)[:: 1 if turn % 2 else -1]:
            if batch[0].name in ("print", "solve"):
                todo = list(islice(cases, size * passes[name]))
            else:
                todo = [
                    replace(c, code=f"{c.code}\n# {next(SERIAL)}\n") for c in batch * passes[name]
                ]
            for part in [todo] if workers else [[case] for case in todo]:
                tallies[name].add(runners[name], part)
            step()
    return tallies


def ratio(mine: Tally, other: Tally, workers: int) -> list[float]:
    """The speed of `mine` relative to `other`, and its 95 % interval by a paired bootstrap."""

    def pace(batches: list[tuple[int, float]]) -> float:
        if workers:
            return sum(seconds for _, seconds in batches) / sum(n for n, _ in batches)
        return statistics.median(seconds for _, seconds in batches)

    def drawn(tally: Tally, seed: int) -> float:
        return pace(random.Random(seed).choices(tally.batches, k=len(tally.batches)))

    ratios = sorted(drawn(other, seed) / drawn(mine, seed) for seed in range(RESAMPLES))
    return [
        pace(other.batches) / pace(mine.batches),
        ratios[int(0.025 * RESAMPLES)],
        ratios[int(0.975 * RESAMPLES)],
    ]


def summary(what: str, workers: int, name: str, tallies: dict[str, Tally]) -> dict[str, Any]:
    tally = tallies[name]
    values = sorted(n / seconds if workers else 1000 * seconds for n, seconds in tally.batches)
    p10, p90, p99 = (values[int(share * len(values))] for share in (0.1, 0.9, 0.99))
    return {
        "programs": what, "workers": workers, "runner": name, "n": sum(n for n, _ in tally.batches),
        "median": statistics.median(values), "low": values[0] if workers else p10,
        "high": values[-1] if workers else p90, "p99": p99, "wrong": dict(+tally.wrong),
        "ratio": None if name == FRESH else ratio(tally, tallies[FRESH], workers),
    }  # fmt: skip


def table(rows: list[dict[str, Any]], latency: bool) -> Table:
    shown = Table(
        title="latency" if latency else f"throughput, {ROUNDS} rounds", title_justify="left"
    )
    units = ("p50 ms", "p10 - p90", "p99 ms") if latency else ("workers", "median per s", "range")
    for i, column in enumerate(("programs", "runner", "n", *units, "times as fast, 95 %", "wrong")):
        shown.add_column(column, justify="right" if i > 1 else "left")
    for r in rows:
        cells = [f"{r['median']:.1f}", f"{r['low']:.1f} - {r['high']:.1f}"]
        cells = [*cells, f"{r['p99']:.1f}"] if latency else [str(r["workers"]), *cells]
        compared = "{:.2f} ({:.2f} - {:.2f})".format(*r["ratio"]) if r["ratio"] else ""
        cells += [compared, str(sum(r["wrong"].values()))]
        shown.add_row(r["programs"], r["runner"], f"{r['n']:,}", *cells, end_section=not compared)
    return shown


def machine() -> str:
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    cores = f"{platform.machine()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    return f"{cores}; load {load}; Python {platform.python_version()}, sympy {sympy.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tier", nargs="+", default=["auto"], choices=["auto", "A", "B", "C"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument(
        "--seconds", type=float, default=8, help="time for each runner and workload (default 8)"
    )
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    args = parser.parse_args()
    before, rows = machine(), []
    settings = [
        ("print", 0),
        ("sympy solve", 0),
        *((what, n) for what in WORKLOADS for n in args.workers),
    ]
    wrong: Counter[tuple[str, str]] = Counter()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(
            "", total=len(settings) * ROUNDS * (len(args.tier) + 1) + len(args.tier)
        )
        for tier in args.tier:
            progress.update(bar, description="every recorded program once")
            with Sandbox(tier=tier) as box:
                (every := Tally()).add(sandboxed(box), RECORDED)
            wrong.update({(f"sandbox {tier}", name): n for name, n in every.wrong.items()})
            progress.advance(bar)
        for what, workers in settings:
            progress.update(bar, description=f"{what}, {workers or 'one'} at a time")
            with ExitStack() as stack:
                boxes = {
                    tier: Sandbox(workers=max(workers, 1), tier=tier)
                    for tier in dict.fromkeys(args.tier)
                }
                runners = {
                    f"sandbox {tier}": sandboxed(stack.enter_context(box))
                    for tier, box in boxes.items()
                }
                threads = stack.enter_context(ThreadPoolExecutor(max(workers, 1)))
                runners[FRESH] = fresh(threads, with_sympy=what != "print")
                tallies = measured(
                    runners=runners,
                    cases=endless(what),
                    share=args.seconds / ROUNDS,
                    workers=workers,
                    step=partial(progress.advance, bar),
                )
            rows += [summary(what, workers, name, tallies) for name in runners]
    out = Console(width=150, highlight=False)
    out.print(
        f"before: {before}\nafter:  {machine()}", table([r for r in rows if not r["workers"]], True)
    )
    out.print(table([r for r in rows if r["workers"]], False))
    print("The fresh interpreter imports sympy before each program, except before the print.")
    for r in rows:
        wrong.update({(r["runner"], name): n for name, n in r["wrong"].items()})
    total = sum(r["n"] for r in rows) + len(RECORDED) * len(args.tier)
    print(f"wrong results: {wrong.total()} of {total:,}")
    print(
        "".join(
            f"  {runner}: {name}, {n} times\n" for (runner, name), n in (+wrong).most_common(20)
        ),
        end="",
    )
    if args.json:
        args.json.write_text(
            json.dumps({"before": before, "after": machine(), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
