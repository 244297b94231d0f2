"""Whole files of other tools on the command line: accuracies, disagreements, records, exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from foreign.files import ONE, RIGHT, ROWS, TWO, WRONG, Row, batch, inspect_log, jsonl

from slm_math.cli import run
from slm_math.records.files import read_records


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


def said(capsys: Any, *arguments: str) -> str:
    run(list(arguments))
    return capsys.readouterr().out


def failed(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


def saved(tool: str, rows: list[Row] | None = None) -> str:
    """A file of a tool, in the format in which it writes them."""
    rows = ROWS[tool] if rows is None else rows
    if tool == "inspect":
        return str(inspect_log(Path("a.eval"), rows))
    if tool in ("trl", "lighteval"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), f"{tool}.parquet")
        return f"{tool}.parquet"
    return str(jsonl(Path(f"{tool}.jsonl"), rows))


@pytest.mark.parametrize("tool", [name for name in ROWS if name != "lm-eval"])
def test_a_file_gives_the_accuracy_of_its_tool(tool: str, capsys: Any) -> None:
    text = said(capsys, "grade", saved(tool))
    n = 4 if tool == "qwen2.5-math" else 2
    samples = "samples correct; mean over 2 problems" if n > 2 else "correct"
    assert f"{n // 2} of {n} {samples}: 50.0 %" in text
    assert f"read as rows of {tool}" in text
    assert f"all {n} verdicts agree with ours" in text


def test_filters_of_lm_eval_have_a_verdict_each_and_one_completion(capsys: Any) -> None:
    text = said(capsys, "grade", saved("lm-eval"))
    assert "1 of 2 correct: 50.0 %" in text
    assert "exact_match, strict: all 2 verdicts agree with ours" in text
    row = next(line for line in text.splitlines() if "exact_match, loose" in line)
    assert row.replace("│", " ").split() == ["exact_match,", "loose", "2", "50.0", "50.0", "1", "1"]
    assert "exact_match, loose: 2 of 2 verdicts differ" in text
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["3", "12", "12", "[invalid]", "us", "equal"] in lines
    assert ["4", "16", "13", "16", "them", "different"] in lines


def test_a_batch_needs_its_golds(capsys: Any) -> None:
    file = str(jsonl(Path("b.jsonl"), [batch("a", RIGHT, WRONG), batch("b", WRONG, WRONG)]))
    assert "join a file of references with --golds FILE" in failed(capsys, "grade", file)
    golds = jsonl(Path("g.jsonl"), [{"id": "a", "answer": "12"}, {"id": "b", "answer": "16"}])
    text = said(capsys, "grade", file, "--golds", str(golds))
    assert "1 of 4 samples correct; mean over 2 problems: 25.0 %" in text
    assert "gold joined from g.jsonl" in text


def test_a_reference_is_never_guessed(capsys: Any) -> None:
    rows = [{key: value for key, value in row.items() if key != "solution"} for row in ROWS["trl"]]
    assert "no gold: the row of trl has no 'solution'" in failed(
        capsys, "grade", saved("trl", rows)
    )


def test_a_verdict_can_be_named(capsys: Any) -> None:
    file = saved("nemo-skills")
    error = failed(capsys, "grade", file, "--verify")
    assert "several verdicts (symbolic_correct, judgement): name one with --verdict" in error
    text = said(capsys, "grade", file, "--verdict", "judgement", "--out", "elsewhere.jsonl")
    assert "judgement: all 2 verdicts agree" in text
    assert "symbolic_correct" not in text
    text = said(capsys, "grade", saved("verl", ROWS["verl"][:1]), "--verify")
    assert "all 1 verdicts agree with those in the rows" in text


def test_records_of_a_file_are_those_of_an_evaluation(capsys: Any) -> None:
    said(capsys, "grade", saved("qwen2.5-math"), "--records", "runs/q")
    records = read_records(Path("runs/q/records.jsonl"))
    assert [(r.id, r.sample, r.correct) for r in records] == [
        ("0", 0, True), ("0", 1, True), ("1", 0, False), ("1", 1, False),
    ]  # fmt: skip
    assert records[0].problem == ONE
    assert records[0].turns[0].reply == RIGHT
    assert records[0].turns[0].prompt[0].content == ONE
    manifest = json.loads(Path("runs/q/manifest.json").read_text())
    assert (manifest["records"], manifest["partial"]) == (4, False)
    assert "runs/q holds records already" in failed(
        capsys, "grade", saved("qwen2.5-math"), "--records", "runs/q"
    )
    assert "verdicts agree" in said(capsys, "grade", "runs/q/records.jsonl", "--verify")


def test_filters_that_keep_other_texts_are_runs_of_their_own(capsys: Any) -> None:
    file = saved("lm-eval")
    said(capsys, "grade", file, "--completion", "filtered_resps", "--records", "runs/l")
    assert [r.correct for r in read_records(Path("runs/l/strict/records.jsonl"))] == [True, False]
    assert [r.correct for r in read_records(Path("runs/l/loose/records.jsonl"))] == [False, True]
    said(capsys, "grade", file, "--records", "runs/m")
    assert len(read_records(Path("runs/m/records.jsonl"))) == 2
    assert not list(Path("runs/m").glob("*/"))


def test_a_filter_of_lm_eval_can_be_named(capsys: Any) -> None:
    """The strict one keeps 12 of 12 and nothing of 16, the loose one 13 and 16."""
    file = saved("lm-eval")
    said(capsys, "grade", file, "--filter", "strict", "--records", "runs/s")
    assert [r.correct for r in read_records(Path("runs/s/records.jsonl"))] == [True, False]
    said(capsys, "grade", file, "--filter", "loose", "--records", "runs/t")
    assert [r.correct for r in read_records(Path("runs/t/records.jsonl"))] == [False, True]
    text = said(capsys, "grade", file, "--filter", "loose", "--completion", "resps")
    assert "1 of 2 correct" in text
    assert "exact_match, loose: 2 of 2 verdicts differ" in text
    assert "strict" not in text


def test_a_filter_chooses_rows_wherever_files_are_read(capsys: Any) -> None:
    rows = [
        row | ({"filtered_resps": ["0"]} if row["filter"] == "strict" else {})
        for row in ROWS["lm-eval"]
    ]
    file, other = saved("lm-eval", rows), str(jsonl(Path("other.jsonl"), rows))
    assert "0.0 [0.0, 65.8]" in said(capsys, "results", file, "--filter", "strict")
    assert "50.0 [9.5, 90.5]" in said(capsys, "results", file)
    assert "0.0" in said(capsys, "compare", file, other, "--filter", "strict")
    said(capsys, "report", file, "--filter", "strict", "--out", "r.html")
    assert "0.0 [0.0, 65.8]" in Path("r.html").read_text()


def test_a_filter_that_no_row_has_is_refused(capsys: Any) -> None:
    error = failed(capsys, "results", saved("lm-eval"), "--filter", "stict")
    assert "has no rows of a filter stict: its filters are strict, loose" in error
    error = failed(capsys, "grade", saved("verl"), "--filter", "strict")
    assert "--filter names a filter of lm-eval, and its rows are others" in error
    Path("runs").mkdir()
    assert "there is no file among runs" in failed(capsys, "results", "runs", "--filter", "x")


def test_one_id_of_two_problems_is_refused(capsys: Any) -> None:
    rows = [{"id": 1, "problem": text, "answer": "5", "response": "#### 5"} for text in (ONE, TWO)]
    file = str(jsonl(Path("x.jsonl"), rows))
    error = failed(capsys, "grade", file, "--records", "runs/x")
    assert "line 2: the id '1' is that of another problem" in error
    assert not list(Path("runs/x").glob("*"))


def test_samples_that_spell_their_problem_otherwise_are_of_the_first(capsys: Any) -> None:
    """Their records agree, so that results, comparisons and claims take them."""
    spelled = [(ONE, "5"), (f" {ONE} ", "5.0"), (ONE, r"\frac{10}{2}")]
    rows = [
        {"id": 1, "problem": text, "answer": gold, "response": "#### 5"} for text, gold in spelled
    ]
    rows.append({"id": 2, "problem": TWO, "answer": "3", "response": "#### 5"})
    file = str(jsonl(Path("x.jsonl"), rows))
    said(capsys, "grade", file, "--records", "runs/x")
    assert "n = 2" in said(capsys, "results", "runs/x")
    records = [json.loads(line) for line in Path("runs/x/records.jsonl").read_text().splitlines()]
    assert [(one["problem"], one["gold"], one["reason"]) for one in records[:3]] == [
        (ONE, "5", "equal")
    ] * 3
    assert "everything" not in said(capsys, "claim", "runs/x", "-o", "c.zip")
    assert "everything holds" in said(capsys, "claim", "--check", "c.zip")


def test_problems_of_one_text_are_mentioned_by_every_command(capsys: Any) -> None:
    """Three ids of one problem are no three problems."""
    rows = [
        {"id": number, "problem": text, "answer": "5", "response": "#### 5"}
        for number, text in enumerate([ONE, ONE, f" {ONE}", TWO])
    ]
    file = str(jsonl(Path("x.jsonl"), rows))
    assert "2 of 4 problems have another id and the same text" in said(capsys, "grade", file)
    for name in ("a", "b"):
        said(capsys, "grade", str(jsonl(Path("x.jsonl"), rows[1::-1] + rows[3:])), "--out",
             f"{name}.v", "--records", f"runs/{name}")  # fmt: skip
    expected = "1 of 3 problems have another id and the same text"
    assert expected in said(capsys, "results", "runs/a")
    assert expected in said(capsys, "compare", "runs/a", "runs/b")


def test_results_stand_beside_each_other(capsys: Any) -> None:
    text = said(capsys, "results", saved("verl"), saved("inspect"), saved("lm-eval"))
    assert text.count("50.0 [9.5, 90.5]") == 3


PLAIN = [
    {"problem": f" {TWO} ", "answer": "16.0", "response": "#### 16"},
    {"problem": ONE, "answer": "12", "response": "#### 12"},
    {"problem": "Another?", "answer": "1", "response": "#### 1"},
]


def test_runs_of_two_tools_are_paired_by_their_problems(capsys: Any) -> None:
    plain = str(jsonl(Path("p.jsonl"), PLAIN))
    text = said(capsys, "compare", saved("verl"), plain, "--out", "c.json")
    [one] = json.loads(Path("c.json").read_text())["comparisons"]
    assert (one["problems"], one["difference"]) == (2, 0.5)
    assert [flip["answers"] for flip in one["gained"]] == [{"verl.jsonl": ["13"], plain: ["16"]}]
    assert "paired 2 problems by their texts" in text
    assert "not paired and left out: 1 only in p.jsonl" in text


def test_runs_with_the_same_ids_are_paired_by_them(capsys: Any) -> None:
    one = [
        {"id": "a", "answer": "5", "response": "#### 5"},
        {"id": "b", "answer": "6", "response": "7"},
    ]
    other = [row | {"response": "#### 6"} for row in reversed(one)]
    files = [str(jsonl(Path(name), rows)) for name, rows in (("x.jsonl", one), ("y.jsonl", other))]
    text = said(capsys, "compare", *files)
    assert "paired 2 problems by id" in text


def without_texts(name: str, n: int, **more: Any) -> str:
    rows = [{"id": f"{i}", "answer": f"{i}", "response": f"#### {i}"} | more for i in range(n)]
    return str(jsonl(Path(name), rows))


def test_problems_without_texts_are_paired_by_the_ids_that_are_in_all_runs(capsys: Any) -> None:
    """Twenty problems against fifteen of them."""
    files = without_texts("x.jsonl", 20), without_texts("y.jsonl", 15, response="?")
    text = said(capsys, "compare", *files, "--out", "c.json")
    [one] = json.loads(Path("c.json").read_text())["comparisons"]
    assert (one["problems"], one["difference"], len(one["lost"])) == (15, -1.0, 15)
    assert (
        "paired 15 problems by id, since not all have texts of the problems; not paired and "
        in (text)
    )
    assert "left out: 5 only in x.jsonl" in text


def test_what_flips_with_several_samples_is_said(capsys: Any) -> None:
    """A quarter of right samples more, and no problem that flips."""
    three, two = (["#### 5"] * n + ["#### 6"] * (4 - n) for n in (3, 2))
    files = [
        str(jsonl(Path(name), [{"id": "a", "answer": "5", "response": replies}]))
        for name, replies in (("x.jsonl", two), ("y.jsonl", three))
    ]
    said_of_samples = "gained and lost count problems that one run solves in more than half of its"
    text = " ".join(said(capsys, "compare", *files).split())
    assert "+25.0" in text
    assert said_of_samples in text
    one = [without_texts(f"{n}.jsonl", 12, response=f"#### {n}") for n in (1, 2)]
    assert said_of_samples not in " ".join(said(capsys, "compare", *one).split())


def test_ids_of_other_problems_are_no_pairs(capsys: Any) -> None:
    files = without_texts("x.jsonl", 20), without_texts("y.jsonl", 15, answer="5")
    assert "problem '0' has another gold in y.jsonl" in failed(capsys, "compare", *files)


def test_lines_pair_whole_files_alone(capsys: Any) -> None:
    """A file of fifteen rows without ids or texts may begin anywhere in one of twenty."""
    files = [without_texts(f"{n}.jsonl", n, id=None, answer="5") for n in (20, 15)]
    assert "no problem in common" in failed(capsys, "compare", *files)
    same = without_texts("z.jsonl", 20, id=None, answer="5")
    assert "paired 20 problems by their lines, since rows have" in said(
        capsys, "compare", files[0], same
    )


def test_runs_on_other_golds_are_not_compared(capsys: Any) -> None:
    rows = [PLAIN[0] | {"answer": "17"}, PLAIN[1]]
    error = failed(capsys, "compare", saved("verl"), str(jsonl(Path("p.jsonl"), rows)))
    assert "has another gold in p.jsonl than in verl.jsonl ('17', '16')" in error


def test_runs_on_other_problems_are_not_compared(capsys: Any) -> None:
    error = failed(capsys, "compare", saved("verl"), str(jsonl(Path("p.jsonl"), PLAIN[2:])))
    assert "have no problem in common" in error


def test_a_file_whose_fields_must_be_named_says_where(capsys: Any) -> None:
    file = str(jsonl(Path("p.jsonl"), [{"text": "5", "key": "5"}]))
    error = failed(capsys, "results", file)
    assert "slm-math grade p.jsonl --records FOLDER" in error


def test_a_report_has_the_completions_of_files(capsys: Any) -> None:
    said(capsys, "report", saved("verl"), saved("inspect"), "--out", "r.html")
    page = Path("r.html").read_text()
    assert "a.eval/completions" in page
    assert "verl.jsonl/completions" in page


@pytest.mark.parametrize("name", ["x.eval", "x.json"])
def test_an_exported_log_of_inspect_is_read_as_one(name: str, capsys: Any) -> None:
    said(capsys, "convert", saved("qwen2.5-math"), "--to", "inspect", "--out", name)
    text = said(capsys, "grade", name)
    assert "2 of 4 samples correct" in text
    assert "slm_math: all 4 verdicts agree with ours" in text


def test_exported_rows_of_lm_eval_are_read_as_these(capsys: Any) -> None:
    said(capsys, "convert", saved("verl"))
    [first, _] = [json.loads(line) for line in Path("samples_verl.jsonl").read_text().splitlines()]
    assert set(first) == {
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash", "exact_match"),
    }
    assert "exact_match, slm_math: all 2 verdicts agree" in said(
        capsys, "grade", "samples_verl.jsonl"
    )
