"""Compare the decode steps of an evaluation with those of an ideal schedule, from its records.

    python scripts/bench_scheduling.py RUN...

RUN is the folder of an agent, written by `slm-math eval` in one session with one local model. The
ideal is max(ceil(all tokens / slots), longest chain): a schedule cannot sample more than one token
per slot and step, and it cannot sample the tokens of one problem in parallel, as its turns follow
each other. The first token of a reply comes from the pass over its prompt and is left out on both
sides. For agents that request several replies at once, the longest chain is overestimated.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slm_math.records.files import read_manifest, read_records


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


def main() -> None:
    counts = ("samples", "slots", "tokens", "longest chain", "steps", "ideal")
    table = Table("run", *counts, "times", "occupancy", "at best")
    for folder in sys.argv[1:]:
        table.add_row(*measure(Path(folder)))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
