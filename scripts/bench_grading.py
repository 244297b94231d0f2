#!/usr/bin/env python3
"""Measure the speed of grading on one core: this grader and math-verify on the same replies.

    python scripts/bench_grading.py [--repeats 5] [--sample 300]

There are four kinds of (reply, reference): recorded GSM8K solutions; MATH-500 answers in a sentence
with a box, typed a little differently; full MATH-500 solutions; and replies that are made to break
or stall a grader. The environment variable SLM_MATH_DATA names the folder of the data
(recorded/gsm8k_model_solutions.jsonl, math500/test.jsonl); without it, generated replies are used.

Each pass starts with an empty cache and a running algebra process, whose time is part of the wall
time but not of this process's CPU time. math-verify gets a random sample of the replies, because it
is slow.
"""

import argparse
import json
import logging
import multiprocessing
import os
import platform
import random
import re
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from math_verify import parse, verify
from rich.console import Console
from rich.table import Table

from slm_math.answers import equivalence, grade, grader_version, pool

Replies = list[tuple[str, str]]
Grader = Callable[[str, str], bool]
DEEP, LONG = 10_000, 1_000_000
KILL_AFTER, MEMORY = 20, 4 << 30  # seconds and bytes for math-verify on one hostile reply
KILLED: list[str] = []
COLUMNS = ("per CPU s", "per s", "p50", "p99", "max", "correct", "asked", "p99 not asked")


def hostile() -> Replies:
    """Replies that make a careless grader run out of time, memory or stack, or execute code."""
    bodies = [
        "10^{10^{10}}", "9^{9^{9^{9}}}", "2^{2^{2^{2^{2^{2}}}}}", "10^{1000000000}", "(10^{9})!",
        "1000000!", r"\binom{10^9}{10^8}", r"\binom{1000000}{500000}",
        r"\sum_{k=1}^{10^{12}} k^2", r"\prod_{k=1}^{10^9} k", r"\int_0^{10^9} e^{x^{x}} dx",
        r"\lim_{x \to \infty} x^{x^{x}}", r"\log_{10^{-300}} 10^{10^{9}}",
        r"\frac{" * DEEP + "1" + "}{2}" * DEEP, r"\sqrt{" * DEEP + "2" + "}" * DEEP,
        "{" * DEEP + "1" + "}" * DEEP, "(" * DEEP + "1" + ")" * DEEP, "-" * DEEP + "1",
        "2^" * DEEP + "2", "|" * DEEP, r"\frac" * DEEP, "{" * DEEP, "}" * DEEP, "7" * LONG,
        "0." + "3" * LONG, "+".join("1" * DEEP), r" \cdot ".join(["3"] * DEEP), " " * LONG,
        ",".join(map(str, range(DEEP))), "x^{100000}+1", "(x+y+z+w)^{2000}",
        r"(\sqrt{2}+\sqrt{3})^{999}", r"\sin(\sin(\sin(10^{10^{5}})))", r"\cos" * 2_000 + " x",
        "\x00", "4\x002", "\u202e24\u202c", "\u200f42", "__import__('os').system('sleep 9')",
        "().__class__.__bases__[0]", r"\input{/etc/passwd}", r"\boxed{" * DEEP,
        r"\begin{pmatrix}" * 1_000 + "1", r"\left(" * DEEP + "42", "\ud800", "1e999999999", "NaN",
    ]  # fmt: skip
    return [
        (rf"The answer is $\boxed{{{body}}}$", ("42", r"\sqrt{2}+1")[i % 2])
        for i, body in enumerate(bodies)
    ]


def typed(gold: str, draw: random.Random) -> str:
    """An answer in a sentence, typed a little differently."""
    ways: list[Callable[[str], str]] = [
        str,
        lambda t: t.replace(r"\frac", r"\dfrac"),
        lambda t: re.sub(r"\s*([-+])\s*", r" \1 ", t),
        lambda t: t if "left" in t
        else re.sub(r"(?<![\\a-z])\(", r"\\left(", t).replace(")", r"\right)"),
        lambda t: t + ".",
        lambda t: f"x={t}" if re.fullmatch(r"-?[\d.]+", t) else t,
    ]  # fmt: skip
    return (
        rf"Putting this together, we find that the answer is $\boxed{{{draw.choice(ways)(gold)}}}$."
    )


def recorded(data: Path) -> Replies | None:
    """The recorded solutions of four models to GSM8K test problems; None without the file."""
    path = data / "recorded/gsm8k_model_solutions.jsonl"
    if not path.is_file():
        return None
    replies = []
    for row in map(json.loads, path.open()):
        gold = row["ground_truth"].rsplit("A:", 1)[-1].strip()
        solutions = [model["solution"] for model in row.values() if isinstance(model, dict)]
        replies += [
            (re.sub(r"\bA:\s*(?=\S+\s*$)", "#### ", solution), gold) for solution in solutions
        ]
    return replies


def workloads(data: Path, seed: int) -> dict[str, Replies]:
    draw = random.Random(seed)
    made = [(draw.randint(2, 99), draw.randint(2, 99)) for _ in range(500)]
    words = "First he takes {} and then {} more, so that in the end he has {} + {} = {}.\n"
    path = data / "math500/test.jsonl"
    rows = [json.loads(line) for line in path.open()] if path.is_file() else []
    golds = [row["answer"] for row in rows] or [
        rf"\frac{{{a}}}{{{b}}}\sqrt{{{a + b}}}" for a, b in made
    ]
    solutions = [row["solution"] for row in rows] or [
        words.format(a, b, a, b, a + b) * 6 + rf"\boxed{{{gold}}}"
        for (a, b), gold in zip(made, golds)
    ]
    gsm = recorded(data)
    note = "" if rows else ", generated"
    return {
        "GSM8K-like" + ("" if gsm else ", generated"): gsm
        or [
            (words.format(a, b, a, b, a + b) * 3 + f"#### {a + b}", str(draw.choice((a, a + b))))
            for a, b in made
        ],
        f"MATH-like{note}": [(typed(gold, draw), gold) for gold in golds],
        f"MATH-500 solutions{note}": list(zip(solutions, golds)),
        "hostile": hostile(),
    }


def ours(reply: str, gold: str) -> bool:
    return grade(reply, gold).correct


def theirs(reply: str, gold: str) -> bool:
    try:
        return verify(parse(f"${gold}$"), parse(reply))
    except Exception:  # hostile text makes it raise, although it promises not to
        return False


def apart(reply: str, gold: str) -> bool:
    """math-verify in a process that can be killed, as its own time limits do not always hold."""
    process = multiprocessing.get_context("fork").Process(target=_confined, args=(reply, gold))
    process.start()
    process.join(KILL_AFTER)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode not in (0, 1):
        KILLED.append(reply)
    return process.exitcode == 1


def _confined(reply: str, gold: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os._exit(int(theirs(reply, gold)))


def percentile(times: list[float], share: float) -> float:
    return 1000 * sorted(times)[min(len(times) - 1, int(share * len(times)))]


def measured(grader: Grader, replies: Replies) -> dict[str, float]:
    """One pass with an empty cache: rates, milliseconds per call, and calls with algebra."""
    query, asked, right = pool.query, 0, 0
    times: dict[bool, list[float]] = {True: [], False: []}

    def counting(*question: str) -> str:
        nonlocal asked
        asked += 1
        return query(*question)

    pool.query = counting
    equivalence._same.cache_clear()
    wall, used = time.perf_counter(), time.process_time()
    try:
        for reply, gold in replies:
            before, start = asked, time.perf_counter()
            right += grader(reply, gold)
            times[asked > before].append(time.perf_counter() - start)
    finally:
        pool.query = query
    wall, used = time.perf_counter() - wall, time.process_time() - used
    every, n = times[True] + times[False], len(replies)
    return {
        "per CPU s": n / max(used, 1e-3), "per s": n / wall, "p50": percentile(every, 0.5),
        "p99": percentile(every, 0.99), "max": 1000 * max(every), "correct": right,
        "asked": len(times[True]),
        "p99 not asked": percentile(times[False] or [0.0], 0.99),
    }  # fmt: skip


def shown(values: list[float]) -> str:
    """The median and, below it, the range."""
    text = [
        f"{v:,.0f}" if v >= 100 or v == int(v) else f"{v:.2g}" for v in (min(values), max(values))
    ]
    middle = statistics.median(values)
    first = f"{middle:,.0f}" if middle >= 100 or middle == int(middle) else f"{middle:.2g}"
    return first if text[0] == text[1] else f"{first}\n{text[0]} - {text[1]}"


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    names = ("math-verify", "sympy", "latex2sympy2-extended")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores, one used; "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}, grader "
        f"{grader_version()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--sample", type=int, default=300, help="replies of each kind for math-verify"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    data = Path(os.environ.get("SLM_MATH_DATA", Path(__file__).parents[2] / "shared/data"))
    table = Table(
        title=f"{machine()}\nmedian and range of {args.repeats} passes; times in ms",
        title_justify="left",
    )
    for column in ("replies", "grader", "n", *COLUMNS):
        table.add_column(column, justify="left" if column in ("replies", "grader") else "right")
    theirs("\\boxed{x}", "x")
    pool.query("equal", "x", "x")  # both graders are warmed up
    for name, replies in workloads(data, args.seed).items():
        few = random.Random(args.seed).sample(replies, min(args.sample, len(replies)))
        risky = name == "hostile"
        for who, grader, own in (
            ("ours", ours, replies),
            ("math-verify", apart if risky else theirs, few),
        ):
            once = grader is apart
            runs = [measured(grader, own) for _ in range(1 if once else args.repeats)]
            cells = [shown([run[column] for run in runs]) for column in COLUMNS]
            if who != "ours":
                cells[-2:] = ["", ""]
                # the processor time of killed processes is not known
                cells[0] = "" if once else cells[0]
            table.add_row(name, who, str(len(own)), *cells)
    Console(width=150).print(table)
    print(
        f"math-verify, hostile: one pass, a process each; {len(KILLED)} died or were killed after "
        f"{KILL_AFTER} s"
    )


if __name__ == "__main__":
    main()
