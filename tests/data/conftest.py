"""Folders of evaluations, as `slm-math eval` writes them."""

from pathlib import Path

import pytest
from data.drafts import Evaluations

from slm_math.records.encoding import json_line
from slm_math.records.files import write_json
from slm_math.records.record import Record


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    """Writes the folder of an evaluation of a split, and returns its path."""

    def write(name: str, split: str, records: list[Record], grader: str = "old") -> str:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "records.jsonl").write_bytes(b"".join(map(json_line, records)))
        about = {"split": split, "source": "x"}
        manifest = {"identity": {"grader": grader}, "partial": False, "about": about}
        write_json(folder / "manifest.json", manifest)
        return str(folder)

    return write
