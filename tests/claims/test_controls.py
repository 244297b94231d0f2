"""Blind controls in claims: part of the file, of the statement, and of the check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from claims.claimed import changed, checked, forged
from evaluation.one_by_one import run
from evaluation.sighted import Sighted, tasks

from slm_math.agents import SingleShot
from slm_math.claims.archive import archive, members
from slm_math.claims.figures import claim_members
from slm_math.claims.frozen import FrozenRun, runs_of
from slm_math.evaluation.blind import blind_tasks


def with_control(folder: Path) -> list[FrozenRun]:
    """A run that sees 6 of its 8 problems, and the same without eyes."""
    problems = tasks(folder / "images")
    run(folder / "one", Sighted(), SingleShot(), problems)
    blind = {"identity": {"blank_images": True}}
    run(folder / "one.blind", Sighted(), SingleShot(), blind_tasks(problems), **blind)
    return runs_of([str(folder / "one")])


def test_a_control_is_claimed_and_checked_without_its_images(tmp_path: Path) -> None:
    path = forged(tmp_path / "c.zip", with_control(tmp_path))
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    found = checked(path)
    assert found.moved == []
    assert "runs/1/controls/blind/records.jsonl.gz" in members(path)
    # 3 of 6 are 1, which is guessed without eyes
    assert any(
        "control blind (the same with blank images): 100.0 % right, the control 50.0 %, +50.0"
        in line
        for line in found.statement
    )
    assert not any("no control" in line for line in found.statement)


def test_a_control_that_was_made_worse_is_caught(tmp_path: Path) -> None:
    [one] = with_control(tmp_path)
    worse = changed(
        one.controls["blind"], 0, lambda r: replace(r, correct=False, reason="different")
    )
    found = checked(forged(tmp_path / "c.zip", [replace(one, controls={"blind": worse})]))
    assert any(line.startswith("one, blind, problem") for line in found.moved)


def test_a_control_that_was_taken_away_is_missed(tmp_path: Path) -> None:
    [one] = with_control(tmp_path)
    whole = claim_members([one])
    without = {name: data for name, data in whole.items() if "control" not in name}
    assert json.loads(without["claim.json"])["runs"][0]["controls"]
    (tmp_path / "c.zip").write_bytes(archive(without))
    assert any("control" in line for line in checked(tmp_path / "c.zip").moved)
