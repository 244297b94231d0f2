"""The data card: its figures, its tables, its chart."""

import json
from pathlib import Path

import pytest

from slm_math.data.card import CardInput, write_card
from slm_math.types import Problem

STORY = (
    "A train leaves the northern station with 48 passengers on board and at each of the following "
    "3 stops another 12 people get on. How many people are on board at the end?"
)


def card(**changes: object) -> CardInput:
    values: dict[str, object] = {
        "title": "my | data",
        "rows": {"solver": 30, "verifier": 10},
        "lengths": {"solver": list(range(1, 101))},
        "sources": {"solver": "runs/eval"},
        "licenses": {"solver": "MIT"},
        "problems": [Problem("a", STORY), Problem("b", STORY.replace("48", "50"))],
        "test_sets": {"mine": [Problem("t/0", STORY), Problem("t/1", "Compute 1 + 1.")]},
        "cost": {"USD": 1.25, "prompt tokens": 1234567.0},
    }
    return CardInput(**(values | changes))  # type: ignore[arg-type]


def test_the_figures_of_a_card(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    facts = json.loads((tmp_path / "card.json").read_text())
    assert facts["rows"] == 40
    assert facts["parts"]["solver"]["share"] == 0.75
    assert facts["parts"]["solver"]["characters"]["50%"] == 51
    assert facts["parts"]["verifier"]["license"] is None
    assert facts["test_sets"]["mine"]["near_exact"] == 1
    assert facts["test_sets"]["mine"]["template"] == 0
    assert (tmp_path / "shares.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "card.json",
        "card.md",
        "shares.png",
    ]


def test_rewrites_of_test_problems_are_on_the_card(tmp_path: Path) -> None:
    write_card(tmp_path, card(problems=[Problem("b", STORY.replace("48", "50"))]))
    shared = json.loads((tmp_path / "card.json").read_text())["test_sets"]["mine"]
    assert (shared["near_exact"], shared["template"]) == (0, 1)


def test_the_page_reads_as_text(tmp_path: Path) -> None:
    write_card(tmp_path, card(notes=["a *note*\x1b[2J"]))
    page = (tmp_path / "card.md").read_text()
    assert page.startswith("# my \\| data\n\n40 rows of 2 problems.")
    assert "1,234,567" in page
    assert "a \\*note\\*\\x1b" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"rows": {}}, "at least one row"), ({"sources": {"x": "y"}}, "sources names x")],
)
def test_what_a_card_refuses(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_card(tmp_path, card(**changes))
