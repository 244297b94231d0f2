"""Comparing folders: which belong together, what is refused, and what is printed and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.evaluation.compare_table import compare_runs
from slm_math.evaluation.plain import path_lines
from slm_math.evaluation.results import results
from slm_math.evaluation.runs import identity_notes, load_evaluations


def rows(marks: str) -> list[dict[str, Any]]:
    """One sample of each problem: `1` is right."""
    found = ((str(i), mark == "1") for i, mark in enumerate(marks))
    return [
        {
            "id": id,
            "sample": 0,
            "gold": "1",
            "answer": "1" if right else "2",
            "correct": right,
            "error": None,
        }
        for id, right in found
    ]


def write(folder: Path, records: list[dict[str, Any]], samples: int = 1, **manifest: Any) -> str:
    folder.mkdir(parents=True)
    problems = len({record["id"] for record in records})
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(text, encoding="utf-8")
    identity = {
        "problems": problems,
        "samples": samples,
        "data": str(folder),
        "sampling": {"default": {"top_p": 1.0}},
    }
    data = {
        "identity": identity | manifest.pop("identity", {}),
        "partial": False,
        "environment": {"grader": "2"},
    }
    (folder / "manifest.json").write_text(json.dumps(data | manifest), encoding="utf-8")
    return str(folder)


def test_agents_folders_are_compared_whatever_the_agents(tmp_path: Path) -> None:
    a, b = write(tmp_path / "x/solver", rows("10")), write(tmp_path / "x/voter", rows("01"))
    [(agents, runs)] = load_evaluations([a, b]).items()
    assert (agents, list(runs)) == ("solver, voter", ["solver", "voter"])


def test_folders_of_agents_are_compared_agent_by_agent(tmp_path: Path) -> None:
    for folder, agents in (("x", "pqr"), ("y", "qp"), ("z", "p")):
        for agent in agents:
            write(tmp_path / folder / agent, rows("10"))
    x, y, z = (str(tmp_path / name) for name in "xyz")
    assert {agent: list(runs) for agent, runs in load_evaluations([x, y, z]).items()} == {
        "p": ["x/p", "y/p", "z/p"],
        "q": ["x/q", "y/q"],
    }


def test_agents_of_one_folder_are_compared_with_its_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, marks in {"a": "000000", "b": "111111", "c": "111110"}.items():
        write(tmp_path / "x" / name, rows(marks))
    write(tmp_path / "x/a.blind", rows("000000"))
    compare_runs([str(tmp_path / "x")], flips=0, out=str(tmp_path / "c.json"))
    found = json.loads((tmp_path / "c.json").read_text())
    assert [(one["a"], one["b"]) for one in found["comparisons"]] == [("a", "b"), ("a", "c")]
    # 6 and 5 of as many go one way: 2 / 2**6, which Holm doubles, and 2 / 2**5
    corrected = [one["p_adjusted"] for one in found["comparisons"]]
    assert corrected == pytest.approx([0.0625, 0.0625])
    assert found["not_compared"] == []
    assert "p (Holm)" in capsys.readouterr().out


def test_agents_of_one_folder_are_compared_on_each_data_set(tmp_path: Path) -> None:
    for name in ("s/a", "s/b", "t/a", "t/b", "u/a"):
        write(tmp_path / name, rows("10"))
    groups = load_evaluations([str(tmp_path)])
    assert {title: list(runs) for title, runs in groups.items()} == {
        f"{tmp_path}/s": ["s/a", "s/b"],
        f"{tmp_path}/t": ["t/a", "t/b"],
    }


def test_one_agent_is_nothing_to_compare(tmp_path: Path) -> None:
    write(tmp_path / "x/a", rows("10"))
    for folder in (tmp_path / "x", tmp_path / "x/a"):
        with pytest.raises(ValueError, match="nothing to compare: name two folders or more"):
            load_evaluations([str(folder)])


def test_folders_without_a_shared_agent_are_refused_with_both_lists(tmp_path: Path) -> None:
    write(tmp_path / "x/p", rows("10"))
    write(tmp_path / "y/q", rows("10"))
    with pytest.raises(ValueError, match=r"no agent in common \(.*x has p; .*y has q\)"):
        load_evaluations([str(tmp_path / "x"), str(tmp_path / "y")])


def test_an_agents_folder_and_one_of_agents_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "x/p", rows("10")), write(tmp_path / "y/q", rows("10"))
    with pytest.raises(ValueError, match=r"name one of them, such as .*y/q"):
        load_evaluations([a, str(Path(b).parent)])


def test_the_same_folder_twice_is_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "x/p", rows("10"))
    for again in (a, f"{a}/../p/"):
        with pytest.raises(ValueError, match="named twice"):
            load_evaluations([a, again])


def test_a_partial_run_is_refused_with_how_much_of_it_there_is(tmp_path: Path) -> None:
    a = write(tmp_path / "x/p", rows("10"))
    b = write(tmp_path / "y/p", rows("10"), partial=True, identity={"problems": 5})
    with pytest.raises(
        ValueError, match=r"y/p is partial: 2 of 5 samples are there; .* to finish it"
    ):
        load_evaluations([a, b])


def test_an_empty_run_is_refused(tmp_path: Path) -> None:
    a, b = (
        write(tmp_path / "x/p", rows("10")),
        write(tmp_path / "y/p", [], identity={"problems": 2}),
    )
    with pytest.raises(ValueError, match="y/p is empty: 0 of 2"):
        load_evaluations([a, b])


def test_another_graders_run_is_refused(tmp_path: Path) -> None:
    a, b = (
        write(tmp_path / "x/p", rows("10")),
        write(tmp_path / "y/p", rows("10"), environment={"grader": "1"}),
    )
    with pytest.raises(ValueError, match=r"x/p was graded by 2 and .*y/p by 1"):
        load_evaluations([a, b])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"identity": 3}', '{"identity": {"problems": "x", "samples": 1}}']
)
def test_a_manifest_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    a, b = write(tmp_path / "x/p", rows("10")), write(tmp_path / "y/p", rows("10"))
    (Path(b) / "manifest.json").write_text(text)
    with pytest.raises(
        ValueError,
        match=r"y/p/manifest\.json is (not JSON|not the manifest|not that of an evaluation)",
    ):
        load_evaluations([a, b])


def test_other_settings_are_reported_with_their_values(tmp_path: Path) -> None:
    a = write(tmp_path / "x/p", rows("10"))
    b = write(tmp_path / "y/p", rows("10"), identity={"sampling": {"default": {"top_p": 0.9}}})
    assert identity_notes(load_evaluations([a, b])["p"]) == [
        "y/p differs from x/p in sampling.default.top_p (1.0 -> 0.9)"
    ]


def test_the_command_shows_hostile_answers_as_they_are_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "[bold red]\x1b[31m\x00</script>\ud800" + "x" * 100_000
    before, after = rows("0011"), rows("1101")
    before[0] |= {"answer": evil}
    after[2] |= {"answer": None}
    write(tmp_path / "x/p", before)
    write(tmp_path / "y/p", after)
    write(tmp_path / "y/q", rows("1111"))
    out = tmp_path / "new/found.json"
    compare_runs([str(tmp_path / "x"), str(tmp_path / "y")], flips=1, out=str(out))
    shown = capsys.readouterr().out
    assert "[bold" in shown
    assert r"\x1b" in shown
    assert "\x1b[31m" not in shown
    assert "\x00" not in shown
    assert f"because nothing stands against it: {tmp_path}/y/q" in shown
    [found] = json.loads(out.read_text(encoding="utf-8"))["comparisons"]
    assert [flip["id"] for flip in found["gained"]] == ["0", "1"]
    assert found["lost"] == [
        {
            "id": "2",
            "gold": "1",
            "answers": {"x/p": ["1"], "y/p": [None]},
        }
    ]


def test_a_folder_of_training_runs_is_their_last_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of a quickstart: two training runs, of which the first has one agent more."""
    monkeypatch.setenv("COLUMNS", "80")
    for run, marks in (("sft", "1100"), ("grpo", "1111")):
        write(tmp_path / "q" / run / "eval" / "epoch-0" / "one", rows("0000"))
        write(tmp_path / "q" / run / "eval" / "epoch-1" / "one", rows(marks))
        manifest = {"started": f"2026-01-0{marks.count('1')}", "policy": None, "run": run}
        (tmp_path / "q" / run / "manifest.json").write_text(json.dumps(manifest))
    write(tmp_path / "q" / "sft" / "eval" / "epoch-1" / "two", rows("1110"))
    monkeypatch.chdir(tmp_path)
    compare_runs(["q"], out="c.json")
    [pair] = json.loads(Path("c.json").read_text())["comparisons"]
    assert (pair["a"], pair["b"]) == ("sft/eval/epoch-1/one", "grpo/eval/epoch-1/one")
    capsys.readouterr()
    results(["q"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("n = 4") == 3
    compare_runs(["q/sft", "q/grpo"])
    assert "+50.0" in capsys.readouterr().out


def test_paths_are_broken_at_their_separators() -> None:
    assert path_lines("runs/quickstart/grpo/eval/epoch-1", 18) == [
        "runs/quickstart/",
        "grpo/eval/epoch-1",
    ]
    assert path_lines("a/very-long-name-of-a-folder/b", 8) == [
        "a/",
        "very-long-name-of-a-folder/",
        "b",
    ]
