"""Which runs of a report are compared with which."""

from __future__ import annotations

from pathlib import Path

from report.runs import record, turn, write

from slm_math.evaluation.power import detectable_single
from slm_math.report.comparing import comparison_table, seeds_tables
from slm_math.report.costs import by_cost, cost_table, curves_of
from slm_math.report.load import load
from slm_math.report.tables import Table


def test_an_agent_is_also_compared_with_itself_in_an_earlier_run(tmp_path: Path) -> None:
    right = {"sft/one": 2, "sft/two": 4, "grpo/one": 5, "grpo/two": 6}
    for path, count in right.items():
        write(tmp_path / path, [record(i, i < count) for i in range(8)])
    runs = load([str(tmp_path / "sft"), str(tmp_path / "grpo")]).runs
    table = comparison_table(runs, "Comparison")
    pairs = [(row[0], row[1], int(row[6]), int(row[7])) for row in table.rows]  # gained, lost
    assert pairs == [
        ("sft/two", "sft/one", 2, 0),
        ("grpo/one", "sft/one", 3, 0),
        ("grpo/two", "sft/one", 4, 0),
        ("grpo/two", "sft/two", 2, 0),
    ]


def test_a_single_complete_run_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", [record(0, True)])
    write(tmp_path / "b", [record(0, True)], partial=True)
    runs = load([str(tmp_path / "a"), str(tmp_path / "b")]).runs
    table = comparison_table(runs, "Comparison")
    assert table.rows == ()
    assert "nothing to compare" in table.note


def test_the_table_says_what_a_comparison_could_see(tmp_path: Path) -> None:
    for name, right in (("a", 4), ("b", 6)):
        write(tmp_path / name, [record(i, i < right) for i in range(40)])
    runs = load([str(tmp_path / "a"), str(tmp_path / "b")]).runs
    table = comparison_table(runs, "Comparison")
    [row] = table.rows
    assert table.columns[-1] == "could see"
    # with 2 discordant problems of 40, as the command prints it
    assert row[-1] == f"{100 * (detectable_single(2, 0, 40) or 0):.1f}"
    assert "power of 80 %" in table.note


def over_seeds(folder: Path, counts: dict[str, int]) -> list[Table]:
    for name, right in counts.items():
        write(folder / name / "agent", [record(i, i < right) for i in range(8)])
    return seeds_tables(load([str(folder / name) for name in counts]).runs, "made")


def test_runs_over_seeds_are_about_the_method(tmp_path: Path) -> None:
    [table] = over_seeds(tmp_path, {"old0": 2, "old1": 3, "new0": 4, "new1": 7})
    assert [row[0] for row in table.rows] == [
        "the method (other seeds, other problems)",
        "the method on these problems (other seeds)",
        "these weights (other problems)",
    ]
    assert {row[1:3] for row in table.rows} == {("2", "8")}
    assert all(row[3].startswith("+37.5 [") for row in table.rows)  # of +25 and +50
    assert "of each seed: +25.0, +50.0" in table.note
    # Student's t with one degree of freedom: 12.706 x 12.5
    assert table.rows[1][3] == "+37.5 [-100.0, 100.0]"


def test_a_method_may_be_another_agent(tmp_path: Path) -> None:
    counts = {"0/old": 2, "1/old": 3, "0/new": 4, "1/new": 7}
    for name, right in counts.items():
        write(tmp_path / name, [record(i, i < right) for i in range(8)])
    [table] = seeds_tables(load([str(tmp_path / name) for name in counts]).runs, "made")
    assert table.title == "Over seeds: old, new, made"
    assert all(row[3].startswith("+37.5 [") for row in table.rows)


def test_an_odd_number_of_runs_is_no_pairs_of_seeds(tmp_path: Path) -> None:
    [table] = over_seeds(tmp_path, {"a": 2, "b": 3, "c": 4})
    assert table.rows == ()
    assert "at least four, got 3" in table.note


def test_agents_stand_beside_each_other_at_equal_cost(tmp_path: Path) -> None:
    """The second agent solves 6 of 8 with 20 tokens, where the first one has 2 with 10."""
    write(tmp_path / "out" / "a", [record(i, i < 2) for i in range(8)])
    write(tmp_path / "out" / "b", [record(i, i < 6, turn(tokens=20)) for i in range(8)])
    found = curves_of(load([str(tmp_path / "out")]).runs)
    table = cost_table(found, "At equal cost")
    assert [row[:3] for row in table.rows] == [("a", "10", "-"), ("b", "20", "-")]
    assert table.rows[1][4].startswith("+50.0 [")
    assert by_cost(found, {"a": 0, "b": 1}, "x").caption.endswith(
        "a 25.0 % for 10; b 75.0 % for 20 (n = 8)."
    )


def test_runs_without_tokens_have_no_table_of_costs(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, [record(0, True, turn(tokens=0))])
    assert curves_of(load([str(tmp_path / "a"), str(tmp_path / "b")]).runs) == []


def test_clusters_are_the_units_of_all_intervals_and_tests(tmp_path: Path) -> None:
    for name, right in (("a", 3), ("b", 6)):
        rows = [record(i, i < right, tags={"story": f"s{i // 3}"}) for i in range(9)]
        write(tmp_path / name, rows)
    found = load([str(tmp_path / "a"), str(tmp_path / "b")], cluster="story")
    table = comparison_table(found.runs, "Comparison")
    assert "sign-flip permutation by story" in table.note
    assert table.rows[0][4] == "1.000"  # one of three stories changed: 2 x 1/2
    assert [run.summary.units for run in found.runs] == [3, 3]
    assert found.notes == (
        "the units of intervals and tests are 3 clusters of the 9 problems, by story "
        "(--cluster problem: each problem is one)",
    )
