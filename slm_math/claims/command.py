"""`slm-math claim`: evaluations frozen into one file, and such a file checked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from slm_math.claims.archive import CLAIM, archive, check_sizes, parsed, sha256
from slm_math.claims.check import Checked, check_claim, check_members
from slm_math.claims.figures import Design, claim_members
from slm_math.claims.frozen import runs_of
from slm_math.evaluation.plain import plain, print_line
from slm_math.records.files import naming
from slm_math.records.outputs import check_output

LINES = 100  # of what moved


def claim(
    folders: Sequence[str] = (),
    out: str | None = None,
    check: str | None = None,
    cluster: str | None = None,
    over: Literal["seeds"] | None = None,
) -> None:
    """Freezes evaluations into one file that anybody can check without a model, or checks one:
    `slm-math claim RUNS -o claim.zip`, `slm-math claim --check claim.zip`.

    The file contains a statement in words, every record and manifest, accuracies with intervals,
    paired differences with tests and the smallest detectable differences, controls, overlap, and
    hashes. It is written only if it passes its own check. The check grades every sample again, runs
    agents of slm-math again on the recorded replies, and computes every figure again. Its exit
    status is 0 if everything holds, and 1 with one line for each verdict, byte or figure that
    differs. It is 2 if the file does not exist.

    Args:
        folders: agents' folders (with records.jsonl), or an output folder of `slm-math eval`. The
            first run is the baseline of the others.
        out: the file to write, such as claim.zip.
        check: a claim file to check, instead.
        cluster: a tag of the problems, or images: problems with the same value are one unit of
            intervals and tests, by default the instances of a template, as in `compare`.
        over: with "seeds", a claim about a method: the first half of the folders are runs of the
            baseline with different seeds, the second half those of the method, in the same order.
    """
    console = Console()
    if check is not None:
        if folders or out or cluster or over:
            raise ValueError("--check takes a claim file and nothing else")
        if not Path(check).is_file():
            raise ValueError(f"--check {check}: the file does not exist, so nothing was checked")
        if not _report(Path(check), check_claim(Path(check), Console(stderr=True)), console):
            sys.exit(1)
        return
    if not out:
        raise ValueError("name the file to write: slm-math claim RUNS -o claim.zip")
    path = Path(out)
    check_output("claim", path, folders)
    runs = runs_of(folders)
    members = claim_members(runs, Design(cluster, over))
    check_sizes(members)
    checked = Checked()
    claimed = parsed(members[CLAIM])
    check_members(members, claimed, runs, checked=checked, console=Console(stderr=True))
    if checked.moved:
        raise ValueError(
            f"these runs do not pass the check of a claim ({len(checked.moved)} things differ), "
            f"so {out} was not written: {checked.moved[0]}"
        )
    data = archive(members)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with naming(path):
        new.write_bytes(data)
    os.replace(new, path)
    for line in checked.statement:
        print_line(console, line)
    print_line(console, f"written to {out}, {len(data)} bytes, sha256 {sha256(data)}")
    print_line(console, "publish this hash beside the claim: it tells this file from any other")


def _report(path: Path, checked: Checked, console: Console) -> bool:
    """Prints what a check found; whether nothing moved."""
    if checked.counts:
        table = Table(title=f"{plain(path.name, 200)}: checked", title_justify="left")
        table.add_column("what")
        table.add_column("number", justify="right")
        for name, number in checked.counts.items():
            table.add_row(name, str(number))
        console.print(table)
    for line in checked.moved[:LINES]:
        print_line(console, f"moved: {line}")
    if len(checked.moved) > LINES:
        print_line(console, f"moved: {len(checked.moved) - LINES} more")
    if checked.moved:
        print_line(console, f"{plain(path.name, 200)} does not hold")
        return False
    for line in checked.statement:
        print_line(console, line)
    print_line(console, f"everything holds; sha256 {sha256(path.read_bytes())}")
    return True
