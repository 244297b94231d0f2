"""Trains and evaluates everything that `table.yaml` names, and prints one table: which step of
training, and which agent, brings how much.

    python scripts/table.py                              the embedded default, on two CPU cores
    python scripts/table.py Qwen/Qwen2.5-Math-1.5B       GSM8K and MATH-500, on a GPU
    python scripts/table.py --dry_run                    prints the commands

`scripts/reproduce_table.sh` does the same and installs everything first. Run the same command again
to resume: steps whose result is whole are skipped, training and evaluations go on where they were.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from ladder.plan import ROOT, Choice, Plan, read_plan  # noqa: E402
from rich.console import Console  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from slm_math.stopping import Stopped, say, stoppable

    try:
        model = None if options.model is None else _model(options.model)
        default = "ladder" if model is None else f"ladder-{Path(model).name}"
        out = Path(options.out).resolve() if options.out else ROOT / "runs" / default
        choice = Choice(out, model, options.limit, options.seed)
        plan = read_plan(Path(options.table), choice)
        if options.dry_run:
            for step in plan.steps:
                print(step.shown())
            return 0
        with stoppable():
            return _climb(plan, choice)
    except (ValueError, OSError) as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt as error:
        stop = Stopped.of(error)
        say(f"{stop.how}. Run the same command to resume.")
        return stop.status


def _climb(plan: Plan, choice: Choice) -> int:
    """Runs the steps and prints the table."""
    from ladder import results
    from ladder.driver import Driver, StepFailed, locked
    from ladder.progress import Progress
    from ladder.steps import Steps

    console = Console()
    if choice.model is not None and shutil.which("nvidia-smi") is None:
        console.print(
            "there is no NVIDIA GPU here: with MODEL this takes days, without MODEL minutes",
            highlight=False,
        )
    with locked(choice.out):
        steps = Steps(plan, choice.out)
        begun = time.monotonic()
        with Progress(console, plan) as progress:
            if steps.done:
                progress.say(f"{len(steps.done)} of {len(plan.steps)} steps are done already")
            try:
                Driver(plan, steps, progress).run()
            except StepFailed as failure:
                progress.say(str(failure))
                return 1
        folders: dict[str, dict[str, Path]] = {data: {} for data in plan.data}
        for step in plan.steps:
            if step.row is not None and step.data is not None:
                folders[step.data][step.row] = step.result
        table = results.read_results(plan, folders)
        results.write(table, choice.out, choice.seed)
        times = results.time_sheet(table, steps)
        results.write_text(choice.out / "times.md", times.markdown())
        chosen: dict[str, Any] = {
            "profile": plan.profile,
            "model": choice.model,
            "limit": choice.limit,
            "seed": choice.seed,
        }
        results.write_json(choice.out / "manifest.json", results.manifest(table, steps, chosen))
    results.show(table, console)
    out = os.path.relpath(choice.out)
    console.print(
        f"\n{len(plan.steps)} steps; it took {time.monotonic() - begun:.0f} s\n"
        f"{out}: table.md, table.json, times.md (seconds), manifest.json\n"
        f"transcripts: slm-math report {out} -o report.html",
        markup=False,
        highlight=False,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reproduce_table.sh",
        description="Trains and evaluates all rows of the table. Run it again to resume.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="folder or hub id of a base model, such as Qwen/Qwen2.5-Math-1.5B, for a machine with "
        "a GPU; by default a tiny model that is made here, for two CPU cores",
    )
    parser.add_argument(
        "--limit", type=_positive, help="evaluate on the first LIMIT problems of each data set"
    )
    parser.add_argument("--out", help="where everything is written (default: runs/ladder[-MODEL])")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and sampling")
    parser.add_argument("--dry_run", action="store_true", help="print all commands, run none")
    parser.add_argument(
        "--table",
        default=str(Path(__file__).with_name("table.yaml")),
        help="steps and rows (default: scripts/table.yaml)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _model(given: str) -> str:
    """A base model: a hub id, or a folder as an absolute path, since commands run in the folder of
    the project.

    Raises ValueError for a path without a model, and for an adapter.
    """
    from slm_math.policy.adapter_files import base_of
    from slm_math.policy.loading import check_model

    if not given:
        raise ValueError("MODEL is empty: name a folder or a hub id, or leave it out")
    path = check_model(given)
    if base_of(path) is not None:
        raise ValueError(f"{path} is an adapter of {base_of(path)}: name a base model")
    return str(Path(path).resolve()) if Path(path).is_dir() else path


if __name__ == "__main__":
    sys.exit(main())
