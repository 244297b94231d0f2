"""Compare the decode steps of evaluations, or of a simulation, with those of an ideal schedule.

    python scripts/bench_scheduling.py RUN...
    python scripts/bench_scheduling.py --simulate [--draws 20]

RUN is the folder of an agent, written by `slm-math eval` in one session with one local model. The
ideal is max(ceil(all tokens / slots), longest chain): a schedule cannot sample more than one token
per slot and step, and it cannot sample the tokens of one problem in parallel, as its turns follow
each other. The first token of a reply comes from the pass over its prompt and is left out on both
sides. For agents that request several replies at once, the longest chain is overestimated.

The simulation has a clock of its own, so it is exact on a busy machine, too: the scheduler runs 64
workflows of 2 to 12 short replies (lognormal, mean 20 tokens) with programs after 9 of 10, a decode
step takes 2 ms, and two workers run the programs. `time` is relative to the longest of: the decode
time of all tokens at full slots, of the longest chain with its programs, and all programs on their
workers. Passes over prompts count as a step each, which the bound leaves out.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from slm_math.agents import Agent
from slm_math.engines.base import Engine, Request
from slm_math.records.files import read_manifest, read_records
from slm_math.rollout.collect import run_agent
from slm_math.rollout.executors import Executors
from slm_math.types import Generate, Problem, Reply, RunPython, RunResult, Sampling, Workflow, user

STEP, WORKERS, PROBLEMS = 0.002, 2, 64  # seconds of a decode step


def measure(folder: Path) -> list[str]:
    legs = read_manifest(folder).get("legs", [])
    if len(legs) != 1 or len(legs[0]["decoding"]) != 1:
        raise SystemExit(f"{folder} is not an evaluation by one session with one local model")
    [used] = legs[0]["decoding"]
    records = read_records(folder / "records.jsonl")
    chains = [sum(max(turn.tokens - 1, 0) for turn in record.turns) for record in records]
    if sum(chains) != used["tokens"]:
        raise ValueError(
            f"{folder}: the records hold {sum(chains)} tokens, the engine sampled {used['tokens']}"
        )
    ideal = max(math.ceil(sum(chains) / used["slots"]), max(chains))
    shares = (
        f"{100 * used['occupancy']:.0f} %",
        f"{100 * sum(chains) / (ideal * used['slots']):.0f} %",
    )
    counts = len(records), used["slots"], sum(chains), max(chains), used["steps"], ideal
    return [str(folder), *map(str, counts), f"{used['steps'] / ideal:.2f}", *shares]


class Clock:
    """Simulated seconds, in the place of `time.perf_counter`."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Decoder(Engine):
    """Admits requests as `TransformersEngine` does; a request says how long its reply will be."""

    returns_logprobs = runs_in_poll = True

    def __init__(self, clock: Clock, slots: int) -> None:
        self.clock, self.slots = clock, slots
        self.waiting: list[list[int]] = []  # [ticket, tokens left]
        self.rows: list[list[int]] = []
        self.tickets = self.steps = 0

    def submit(self, request: Request) -> int:
        self.tickets += 1
        self.waiting.append([self.tickets, int(request.chat[-1].text)])
        return self.tickets

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        end, free = self.clock.now + timeout, self.slots - len(self.rows)
        if free and (len(self.waiting) >= max(1, self.slots // 8) or free >= self.slots // 2):
            self.clock.now += STEP * bool(self.waiting)
            self.rows, self.waiting = self.rows + self.waiting[:free], self.waiting[free:]
        done: list[list[int]] = []
        while self.rows and not done:
            self.steps += 1
            self.clock.now += STEP
            self.rows = [[ticket, left - 1] for ticket, left in self.rows]
            done = [row for row in self.rows if not row[1]]
            self.rows = [row for row in self.rows if row[1]]
            if self.clock.now >= end:
                break
        return [(ticket, Reply("")) for ticket, _ in done]

    def cancel(self, ticket: int) -> None:
        raise AssertionError("no workflow is left")


class Programs(Engine):
    """`WORKERS` workers, each program of which takes `seconds`."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.free, self.open, self.tickets = [0.0] * WORKERS, {}, 0

    def submit(self, request: Any) -> int:
        self.tickets += 1
        end = max(heapq.heappop(self.free), self.clock.now) + self.seconds
        heapq.heappush(self.free, end)
        self.open[self.tickets] = end
        return self.tickets

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        if timeout and self.open:
            first = min(self.open.values())
            self.clock.now = max(self.clock.now, min(first, self.clock.now + timeout))
        done = [ticket for ticket, end in self.open.items() if end <= self.clock.now]
        return [(ticket, RunResult(True)) for ticket in done if self.open.pop(ticket)]

    def cancel(self, ticket: int) -> None:
        raise AssertionError("no workflow is left")

    def identity(self) -> dict[str, Any]:
        return {}


class Chain(Agent):
    """Replies of given lengths, each followed by a program or not."""

    uses_python = True

    def __init__(self, chains: Sequence[Sequence[tuple[int, bool]]]) -> None:
        self.chains = chains

    def solve(self, problem: Problem) -> Workflow[str | None]:
        for tokens, runs in self.chains[int(problem.id)]:
            yield [Generate(user(str(tokens)))]
            if runs:
                yield [RunPython("1")]
        return None


def simulated(slots: int, seconds: float, seed: int) -> tuple[float, float]:
    """Decode steps and time, relative to their bounds."""
    draw = random.Random(seed)
    chains = [
        [
            (max(2, min(96, round(draw.lognormvariate(2.9, 0.5)))), draw.random() < 0.9)
            for _ in range(draw.choice((2, 2, 3, 4, 6, 8, 12)))
        ]
        for _ in range(PROBLEMS)
    ]
    clock = Clock()
    engine, sandbox = Decoder(clock, slots), Programs(clock, seconds)
    executors = Executors({"default": engine}, {"default": Sampling()}, sandbox)
    jobs = [(Problem(str(number), "?"), 0) for number in range(PROBLEMS)]
    real, time.perf_counter = time.perf_counter, clock
    try:
        assert len(list(run_agent(Chain(chains), jobs, executors))) == PROBLEMS
    finally:
        time.perf_counter = real
    tokens = [sum(length for length, _ in chain) for chain in chains]
    runs = [sum(run for _, run in chain) for chain in chains]
    ideal = max(math.ceil(sum(tokens) / slots), max(tokens))
    alone = max(length * STEP + run * seconds for length, run in zip(tokens, runs))
    bound = max(sum(tokens) / slots * STEP, alone, sum(runs) * seconds / WORKERS)
    return engine.steps / ideal, clock.now / bound


def shown(values: Sequence[float]) -> str:
    """The mean, and its 95 % bootstrap interval."""
    draw = random.Random(0)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(1000))
    return f"{statistics.fmean(values):.2f} [{means[25]:.2f}, {means[974]:.2f}]"


def simulate(draws: int) -> Table:
    table = Table("slots", "program, ms", "n", "steps / ideal", "time / bound")
    settings = [(slots, ms) for slots in (8, 16, 64) for ms in (0, 2.5, 5, 10, 20)]
    for slots, ms in track(settings, "simulating", console=Console(stderr=True), transient=True):
        ratios = [simulated(slots, max(ms, 1e-6) / 1000, seed) for seed in range(draws)]
        table.add_row(str(slots), f"{ms:g}", str(draws), *map(shown, zip(*ratios)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--draws", type=int, default=20, help="simulations of each row")
    args = parser.parse_args()
    console = Console(width=140)
    if args.simulate:
        console.print(simulate(args.draws))
    counts = ("samples", "slots", "tokens", "longest chain", "steps", "ideal")
    table = Table("run", *counts, "times", "occupancy", "at best")
    for folder in args.runs:
        table.add_row(*measure(folder))
    if args.runs:
        console.print(table)


if __name__ == "__main__":
    main()
