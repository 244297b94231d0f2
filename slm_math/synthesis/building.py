"""`slm-math build-data`: evaluations become data to train on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slm_math.data.problems import problems_of
from slm_math.data.published import checked_fraction, checked_limit
from slm_math.evaluation.plain import cell, print_line
from slm_math.ranges import check_whole
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.synthesis.built import Built, Keep, Kind, Options
from slm_math.synthesis.folder import check_folder, identity_of, write_build
from slm_math.synthesis.kinds import build
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.sources import read_evaluations
from slm_math.synthesis.verify import verify_build


def build_data(
    kind: Kind | None = None,
    folders: Sequence[str] = (),
    out: str | None = None,
    perturb: float = 0.0,
    balance: bool | None = None,
    keep: Keep = "best",
    role: str | None = None,
    pass_rate: tuple[float, float] | None = None,
    per_problem: int | None = None,
    validation: float = 0.05,
    test_sets: Sequence[str] = (),
    seed: int = 0,
    verify: str | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
) -> None:
    """Builds data of evaluations: `slm-math build-data KIND FOLDERS... --out DIR`.

    Writes train.jsonl, validation.jsonl and test.jsonl (each problem in one of them), manifest.json
    and a data card. The same evaluations, options and seed give the same bytes. With --verify DIR
    the exit status is 1 if anything in DIR differs from what its evaluations give.

    Args:
        kind: drafts (attempts to judge, labeled right or wrong), corrections (a program that
            failed or printed a wrong value, and its fix), trajectories (right attempts as chats),
            or preferences (pairs of a right and a wrong reply).
        folders: output folders of `slm-math eval`, or those of single agents.
        out: output folder.
        perturb: of drafts, the share that are right attempts with a mistake put into them; at most
            0.5 if they are balanced.
        balance: as many right as wrong drafts (by default), or as many trajectories of each kind
            (by default not).
        keep: of the right attempts at a problem: the best one, the shortest, or all.
        role: trajectories of this role; by default the role that speaks first.
        pass_rate: only problems of which such a share of attempts is right: 0.1 0.9.
        per_problem: the most rows of a problem; for preferences 1 by default.
        validation: the share of the training problems that is held out for validation.
        test_sets: data sets to look for among the problems, for the data card: [GSM8K:test].
        seed: of the perturbations, of what is chosen, and of the order of the rows.
        verify: a folder that build-data made. The command builds its content again, grades every
            answer and runs every program anew, and compares the result with the folder.
        sandbox: runs the programs; by default one with the default limits.
    """
    console = Console()
    programs = Programs(sandbox, console)
    try:
        if verify is not None:
            if not verify_build(Path(verify), folders, programs, console):
                sys.exit(1)
            return
        if kind is None or not folders or out is None:
            raise ValueError(
                "build-data needs a kind, folders and --out: slm-math build-data drafts runs/eval "
                "--out data/drafts"
            )
        options = checked(
            Options(
                kind=kind,
                perturb=perturb,
                balance=kind == "drafts" if balance is None else balance,
                keep=keep,
                role=role,
                pass_rate=pass_rate,
                per_problem=1 if kind == "preferences" and per_problem is None else per_problem,
                validation=validation,
                seed=seed,
            )
        )
        known = {name: problems_of(name) for name in test_sets}
        evaluations = read_evaluations(folders, validation)
        check_folder(Path(out), identity_of(evaluations, options))
        built = build(evaluations, options, programs)
        write_build(Path(out), built, evaluations, options=options, test_sets=known)
        _show(console, built, Path(out))
    finally:
        programs.close()


def checked(options: Options) -> Options:
    """The options. Raises ValueError for one that is out of range, or of another kind of data."""
    checked_fraction(options.validation)
    checked_limit(options.per_problem)
    check_whole("seed", options.seed, low=0)
    most = 0.5 if options.balance else 1
    if not 0 <= options.perturb <= most or options.perturb == 1:
        raise ValueError(
            f"perturb is a share from 0 to {most}"
            + (" of balanced drafts" if options.balance else "")
            + f", got {options.perturb}"
        )
    only = {"perturb": "drafts", "role": "trajectories"}
    for name, kind in only.items():
        if getattr(options, name) and options.kind != kind:
            raise ValueError(f"{name} is an option of {kind}, not of {options.kind}")
    if options.pass_rate is not None:
        low, high = options.pass_rate
        if not 0 <= low <= high <= 1:
            raise ValueError(f"pass_rate is two shares such as 0.1 0.9, got {low} {high}")
    return options


def _show(console: Console, built: Built, out: Path) -> None:
    """Prints what a build has, and what was left out."""
    counts = built.counts()
    table = Table(title="rows", title_justify="left")
    table.add_column("part")
    for split in counts:
        table.add_column(split, justify="right")
    for part in sorted({part for own in counts.values() for part in own}):
        table.add_row(cell(part), *(str(own.get(part, 0)) for own in counts.values()))
    table.add_row("all", *(str(sum(own.values())) for own in counts.values()))
    console.print(table)
    for reason, count in built.left_out.items():
        if count:
            print_line(console, f"left out: {count} {reason}")
    print_line(console, f"written: {out}")
