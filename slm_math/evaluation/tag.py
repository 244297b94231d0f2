"""`slm-math tag`: what evaluations found out about problems, as a file of tags."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rich.console import Console

from slm_math.data.tags import PASS_RATE, tag_lines
from slm_math.evaluation.plain import print_line
from slm_math.records.eval_folders import BESIDE, evaluation_folders
from slm_math.records.files import read_records
from slm_math.records.outputs import check_output


def tag(evaluations: list[str], out: str) -> None:
    """Writes how often each problem of some evaluations is solved: its pass rate, of n samples, of
    which k were right.

    Samples of one problem in several evaluations are counted together: name the evaluations of one
    model. The file is what `--data.tags` of `fit` and `--tags` of `eval` take.

    Args:
        evaluations: output folders of evaluations, with one agent each, or folders of one agent.
        out: the JSONL file to write.
    """
    check_output("tag", out, evaluations)
    folders = [folder for each in evaluations for folder in _agent_folders(Path(each))]
    records = [record for folder in folders for record in read_records(folder / "records.jsonl")]
    lines = tag_lines(records)
    if not lines:
        raise ValueError(f"{', '.join(evaluations)}: no sample came to its end")
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(new, path)
    rates = [json.loads(line)[PASS_RATE] for line in lines]
    console = Console()
    never, always = (sum(rate == end for rate in rates) for end in (0, 1))
    print_line(
        console,
        f"{len(rates)} problems, {len(records)} samples: {never} never solved, "
        f"{len(rates) - never - always} sometimes, {always} always",
    )
    print_line(console, f"written to {out}")


def _agent_folders(folder: Path) -> list[Path]:
    """The folder of the one agent of an evaluation. Raises ValueError if there are several, whose
    pass rates would be mixed.
    """
    if (folder / "records.jsonl").is_file():
        return [folder]
    agents = evaluation_folders(folder)
    found = {name: path for name, path in agents.items() if not name.endswith(BESIDE)}
    if len(found) != 1:
        names = f"has {len(found)} agents ({', '.join(found)}): name the folder of one"
        raise ValueError(f"{folder} {names if found else 'is no evaluation'}")
    return list(found.values())
