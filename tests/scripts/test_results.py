"""The table at the end of the ladder: its numbers, against values computed here by hand."""

from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from ladder import results
from ladder.plan import Choice, Plan, read_plan
from rich.console import Console
from scripts.climbing import CONTENT, TABLE, Ladder

from slm_math.report import report

N = 40
# row -> whether each of 40 problems is solved
SOLVED = {
    "base": [i < 10 for i in range(N)],
    "tuned": [2 <= i < 24 for i in range(N)],  # gains 14, loses 2
    "pair": [i < 9 for i in range(N)],  # gains 0, loses 1
}
TOKENS = {"base": 10, "tuned": 20, "pair": 30}  # of each reply


def written(folder: Path, row: str) -> Path:
    """Records of one reply per problem; the pair's have two."""
    folder.mkdir(parents=True)
    turn = {"kind": "turn", "role": "solver", "finish": "stop", "tokens": TOKENS[row]}
    with (folder / "records.jsonl").open("w") as file:
        for number, correct in enumerate(SOLVED[row]):
            events = [turn] * (2 if row == "pair" else 1)
            values = {"id": f"p{number}", "sample": 0, "correct": correct, "seconds": 0.5}
            file.write(json.dumps(values | {"events": events}) + "\n")
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    content = copy.deepcopy(CONTENT)
    content["references"] = ["base", "tuned"]
    return Ladder(tmp_path, content).plan()


@pytest.fixture
def table(plan: Plan, tmp_path: Path) -> results.Results:
    folders = {row: written(tmp_path / "out/toy" / row, row) for row in SOLVED}
    return results.read_results(plan, {"toy": folders})


def mcnemar(gained: int, lost: int) -> float:
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(min(gained, lost) + 1)) / 2**n)


def test_accuracy_has_wilsons_interval_and_n(table: results.Results) -> None:
    rows = results.to_json(table)["data"]["toy"]["rows"]
    z, p = 1.959964, 10 / 40
    center = (p + z**2 / 80) / (1 + z**2 / 40)
    half = z * math.sqrt(p * (1 - p) / 40 + z**2 / 6400) / (1 + z**2 / 40)
    assert rows["base"]["accuracy"] == 0.25
    assert rows["base"]["low"] == pytest.approx(center - half, abs=1e-6)
    assert rows["base"]["high"] == pytest.approx(center + half, abs=1e-6)
    assert [row["n"] for row in rows.values()] == [40, 40, 40]


def test_cost_is_tokens_and_replies_of_a_problem(table: results.Results) -> None:
    rows = results.to_json(table)["data"]["toy"]["rows"]
    assert {name: (row["tokens"], row["replies"]) for name, row in rows.items()} == {
        "base": (10, 1),
        "tuned": (20, 1),
        "pair": (60, 2),
    }


def test_differences_are_paired_and_corrected_over_all_pairs(table: results.Results) -> None:
    data = results.to_json(table)["data"]["toy"]["differences"]
    pairs = {
        ("base", "tuned"): (14, 2),
        ("base", "pair"): (0, 1),
        ("tuned", "pair"): (2, 15),  # 0 and 1 against 9 to 23
    }
    found = {(a, b): data[a][b] for a in data for b in data[a]}
    assert found.keys() == pairs.keys()
    raw = {pair: mcnemar(*counts) for pair, counts in pairs.items()}
    ordered, largest, corrected = sorted(raw, key=lambda pair: raw[pair]), 0.0, {}
    for rank, pair in enumerate(ordered):
        largest = max(largest, min(1.0, (3 - rank) * raw[pair]))
        corrected[pair] = largest
    for pair, (gained, lost) in pairs.items():
        test = found[pair]
        assert (test["gained"], test["lost"], test["n"]) == (gained, lost, 40)
        assert test["difference"] == pytest.approx((gained - lost) / 40)
        assert test["p"] == pytest.approx(raw[pair])
        assert test["p_holm"] == pytest.approx(corrected[pair])
    assert results.to_json(table)["comparisons"] == 3


def shown(table: results.Results) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    results.show(table, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_what_the_json_has(table: results.Results) -> None:
    lines = [line.split() for line in shown(table).splitlines()]
    assert ["base", "25.0", "[14.2,", "40.2]", "40", "10", "1.0"] in lines
    assert ["tuned", "55.0", "[39.8,", "69.3]", "40", "20", "1.0"] in lines
    assert "pairs" in [line[0] for line in lines if line]
    # Holm: the second smallest p, 2 * (1 + 16 + 120) / 2**16, times 2
    assert f"{4 * 137 / 2**16:.3f}" == "0.008"
    [tuned] = [line for line in lines if line[:2] == ["tuned", "+30.0"]]
    assert tuned[4] == "0.008"
    [pair] = [line for line in lines if line[:3] == ["tuned", "solver", "-2.5"]]
    assert pair[5] == "1.000"
    assert pair[6] == "-32.5"


def test_nothing_is_wider_than_eighty_columns_or_cut_off() -> None:
    """Every row of the table that is shipped, with the widest figures."""
    plan = read_plan(TABLE, Choice(Path("/out"), "Qwen/Qwen2.5-Math-1.5B"))
    sides = {row.name: i % 2 == 0 for i, row in enumerate(plan.rows)}
    records = {
        name: [
            results.Record(f"p{number}", 0, correct=(number % 3 > 0) == side)
            for number in range(1319)
        ]
        for name, side in sides.items()
    }
    pairs = [("base", "grpo"), ("sft_lora", "grpo"), ("base", "sft_lora")]
    tests = {pair: results._comparison(records, *pair) for pair in pairs}
    summaries = {name: results.summarize(some) for name, some in records.items()}
    differences = {
        "base": dict.fromkeys(sides, tests["base", "sft_lora"]),
        "sft_lora": dict.fromkeys(sides, tests["base", "sft_lora"]),
    }
    table = results.Results(
        plan, dict.fromkeys(plan.data, summaries), dict.fromkeys(plan.data, differences)
    )
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for sheet in results.sheets(table):
        console.print(sheet.rich())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert sum("-33.3 [-38.3, -28.1] <0.001  -33.3" in line for line in lines) == 2 * 19
    assert sum(line.startswith("solver-checker, tools ") for line in lines) == 2 * 2


def test_figures_of_others_are_marked(tmp_path: Path) -> None:
    plan = read_plan(TABLE, Choice(tmp_path, "Qwen/Qwen2.5-Math-1.5B"))
    records = [results.Record("p", 0, correct=True)]
    names = [row.name for row in plan.rows]
    summaries = dict.fromkeys(names, results.summarize(records))
    table = results.Results(
        plan, dict.fromkeys(plan.data, summaries), {d: {"base": {}} for d in plan.data}
    )
    [gsm8k, _, math500, _] = results.sheets(table)
    assert gsm8k.headings[-1] == math500.headings[-1] == "others' (*)"
    cells = {row[0].strip(): row[-1] for row in gsm8k.rows}
    assert cells["SFT LoRA"] == "80.0 / 80.0"
    assert cells["majority vote"] == "70.2 / -"
    assert cells["python tools"] == "- / -"
    assert {row[0]: row[-1] for row in math500.rows}["SFT full"] == "67.0 / 65.4"
    [note] = [line for line in results.notes(table) if line.startswith("(*)")]
    assert "Not measured here: the published SLM-Math report" in note


def test_markdown_has_the_same_rows(table: results.Results, tmp_path: Path) -> None:
    results.write(table, tmp_path, seed=3)
    text = (tmp_path / "table.md").read_text()
    assert "# embedded profile, seed 3" in text
    assert "| base | 25.0 [14.2, 40.2] | 40 | 10 | 1.0 |" in text
    assert "| &nbsp;&nbsp;tuned solver | 22.5 [12.3, 37.5] | 40 | 60 | 2.0 |" in text
    assert "for all 3 comparisons" in text


def test_times_do_not_change_the_table(plan: Plan, tmp_path: Path) -> None:
    texts = []
    for seconds in (0.5, 2.0):
        root = tmp_path / f"{seconds}"
        folders = {row: written(root / row, row) for row in SOLVED}
        for folder in folders.values():
            file = folder / "records.jsonl"
            file.write_text(file.read_text().replace('"seconds": 0.5', f'"seconds": {seconds}'))
        results.write(results.read_results(plan, {"toy": folders}), root, seed=0)
        texts.append([(root / name).read_text() for name in ("table.md", "table.json")])
    assert texts[0] == texts[1]


def test_other_problems_in_a_row_are_refused(plan: Plan, tmp_path: Path) -> None:
    folders = {row: written(tmp_path / row, row) for row in SOLVED}
    file = folders["pair"] / "records.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match="do not have the same problems"):
        results.read_results(plan, {"toy": folders})


def test_a_report_of_the_folder_shows_every_row(
    table: results.Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([str(tmp_path / "out")], str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert all(f"toy/{row}" in text or row in text for row in SOLVED)


def test_manifest_has_hashes_seed_and_versions(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path, copy.deepcopy(CONTENT))
    steps = ladder.climb(seed=5)
    folders = {step.row: step.result for step in steps.plan.steps if step.row}
    table = results.read_results(steps.plan, {"toy": folders})
    chosen: dict[str, Any] = {"seed": 5, "limit": None, "model": None}
    manifest = results.manifest(table, steps, chosen)
    assert manifest["seed"] == 5
    assert {"versions", "commit", "grader"} <= set(manifest["environment"])
    assert manifest["steps"]["toy-pair"]["problems"] == 4
    assert manifest["steps"]["base"]["result"] == steps.done["base"].result
    assert manifest["steps"]["base"]["command"].startswith("slm-math fit --config configs/")
