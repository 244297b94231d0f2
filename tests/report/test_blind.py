"""Blind controls in reports: beside their runs, and never among them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from report.runs import record, write
from report.test_page import data_of, made

from slm_math.report.load import load


def row(number: int, right: bool, blank: bool) -> dict[str, Any]:
    """A record; the first four problems are of the source a, the others of b."""
    tags = {"source": "a" if number < 4 else "b"}
    image = {"source": f"/images/{'blank' if blank else number}.png", "hash": f"{number}{blank}"}
    return record(number, right, images=[image | ({"blank": True} if blank else {})], tags=tags)


def both(out: Path, name: str, partial: bool = False) -> None:
    """A run that solves all of 8 problems with images and 1 without, and its blind control, which
    solves 2.
    """
    write(out / name, [*(row(i, True, False) for i in range(8)), record(8, True)])
    folder = write(out / f"{name}.blind", [row(i, i < 2, True) for i in range(8)], partial)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["identity"]["blank_images"] = True
    (folder / "manifest.json").write_text(json.dumps(manifest))


def cells(page: str, section: str, name: str) -> list[str]:
    inside = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)[1]
    found = re.search(rf'class="name">{name}</th>(.*?)</tr>', inside, re.DOTALL)[1]
    return re.findall(r"<td[^>]*>(.*?)</td>", found)


def test_the_table_has_the_paired_difference(tmp_path: Path) -> None:
    both(tmp_path / "out", "one")
    page = made(tmp_path, tmp_path / "out")
    # 6 of 8 are gained: 6 / 10 -+ 1.96 sqrt(7 - 36 / 10) / 10, and p = 2 / 2^6
    assert cells(page, "blind", "one") == [
        "8", "100.0 [67.6, 100.0]", "25.0 [7.1, 59.1]", "+75.0 [23.9, 96.1]", "0.031",
        "6", "0", "1",
    ]  # fmt: skip
    assert "<h3>Blind control</h3>" in page
    assert 'id="comparison"' not in page


def test_a_folded_table_has_the_difference_by_source(tmp_path: Path) -> None:
    both(tmp_path / "out", "one")
    page = made(tmp_path, tmp_path / "out")
    assert "<b>Blind control by source.</b>" in page
    # of a, 2 of 4 are gained: 2 / 6 -+ 1.96 sqrt(3 - 4 / 6) / 6; of b all 4
    assert cells(page, "blind", "a") == ["4", "100.0, 50.0: +50.0 [-16.6, 83.2]"]
    assert cells(page, "blind", "b")[1].startswith("100.0, 0.0: +100.0 [")


def test_a_control_stands_below_its_run_and_is_compared_with_no_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        both(tmp_path / "out", name)
    material = load([str(tmp_path / "out")])
    assert [run.name for run in material.runs] == ["one", "two"]
    page = made(tmp_path, tmp_path / "out")
    results = re.search(r'<section id="results">(.*?)</section>', page, re.DOTALL)[1]
    names = re.findall(r'<th scope="row" class="name">(.*?)</th>', results)
    assert names[:4] == ["one", "one.blind", "two", "two.blind"]
    assert cells(page, "comparison", "two")[:2] == ["one", "9"]
    assert "Not compared" not in page


def test_transcripts_tell_what_is_right_without_images(tmp_path: Path) -> None:
    both(tmp_path / "out", "one")
    data = data_of(made(tmp_path, tmp_path / "out"))
    assert data["runs"] == ["one", "one.blind"]
    unseen = [
        (entry["run"], entry["id"]) for entry in data["entries"] if "unseen" in entry["flags"]
    ]
    assert unseen == [(0, "made/test/0"), (0, "made/test/1")]
    assert not any("flipped" in entry["flags"] for entry in data["entries"])
    assert len(set(data["colors"])) == 1


def test_an_unfinished_control_is_shown_and_not_compared(tmp_path: Path) -> None:
    both(tmp_path / "out", "one", partial=True)
    page = made(tmp_path, tmp_path / "out")
    assert "one is not compared" in page
    assert "<h3>Blind control</h3>" not in page
    assert "one.blind" in data_of(page)["runs"]


def test_a_control_alone_is_a_run(tmp_path: Path) -> None:
    both(tmp_path / "out", "one")
    assert [run.name for run in load([str(tmp_path / "out" / "one.blind")]).runs] == ["one.blind"]
