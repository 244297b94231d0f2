"""The folders of agents in an output folder of evaluations."""

from __future__ import annotations

import re
from pathlib import Path

from slm_math.records.files import read_manifest

BLIND = ".blind"  # ends the name of an agent's folder that holds its blind control

# folders of one rank's share, and of evaluations that were set aside
_NOT_AN_AGENT = re.compile(r"^rank-\d+$|\.replaced-\d+$")


def evaluation_folders(folder: Path) -> dict[str, Path]:
    """The folders of agents by name, `<agent>` or, with several data sets, `<set>/<agent>`.

    In the order in which they were started; without the shares of single ranks, and without
    evaluations that were set aside.
    """
    files = (file for depth in ("*", "*/*") for file in folder.glob(f"{depth}/records.jsonl"))
    paths = [file.parent for file in files if not _NOT_AN_AGENT.search(file.parent.name)]
    paths.sort(key=lambda path: (str(read_manifest(path).get("started", "")), str(path)))
    return {path.relative_to(folder).as_posix(): path for path in paths}
