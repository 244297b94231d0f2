"""Evaluations end to end: an interrupt, other weights, and results side by side."""

import json
from pathlib import Path

import pytest
from tiny import model_folder

from slm_math.cli import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("model")))


def evaluate(model: str, out: Path, *more: str) -> None:
    """Runs `slm-math eval` with one agent on five problems."""
    source = "{class_path: Arithmetic, init_args: {test: 14}}"
    agents = "{one: {class_path: SingleShot, init_args: {prompt: solve_plain}}}"
    sampling = "{temperature: 0.0, max_new_tokens: 4}"
    options = {
        "model": model,
        "source": source,
        "agents": agents,
        "inference.sampling": sampling,
        "out": str(out),
        "limit": "5",
    }
    run(["eval", *(f"--{name}={value}" for name, value in options.items()), *more])


def test_without_an_agent_it_is_a_single_shot_and_says_so(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(model, tmp_path, "--agents=null")
    assert "agent: single_shot (SingleShot, one reply);" in capsys.readouterr().out
    summary = json.loads((tmp_path / "single_shot" / "summary.json").read_text())
    assert summary["n"] == 5


def test_eval_resumes_after_an_interrupt_and_refuses_another_evaluation(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(model, tmp_path)
    file = tmp_path / "one" / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    assert "n = 5" in capsys.readouterr().out
    file.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    evaluate(model, tmp_path)
    after = file.read_bytes().splitlines(keepends=True)
    assert after[:3] == lines[:3]
    assert [json.loads(line)["id"] for line in after] == [json.loads(line)["id"] for line in lines]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        evaluate(model, tmp_path, "--sampling.max_new_tokens=5")
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "sampling" in said
    assert str(tmp_path / "one") in said
    assert file.read_bytes().splitlines(keepends=True) == after


def test_eval_refuses_records_of_other_weights_in_the_same_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        model_folder(tmp_path / "model", seed)
        if seed == 0:
            evaluate(str(tmp_path / "model"), tmp_path)
    with pytest.raises(SystemExit) as stop:
        evaluate(str(tmp_path / "model"), tmp_path)
    assert stop.value.code == 2
    assert "weights" in capsys.readouterr().err


def test_a_benchmark_by_name_with_a_second_opinion(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"problem": f"Find {n} + {n}.", "answer": f"{2 * n:03}"} for n in range(3)]
    file = tmp_path / "aime.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--source.path", str(file), "--source", "aime25", "--agents.one", "SingleShot"]
    sampling = ["--inference.sampling={temperature: 0.0, max_new_tokens: 4}", "--limit=2"]
    out = tmp_path / "out"
    run(["eval", "--model", model, *options, *sampling, f"--out={out}", "--second_opinion=true"])
    assert (
        "(math-verify): accuracy 0.0 % if every disputed verdict is wrong, 0.0 %"
        in capsys.readouterr().out
    )
    records = [json.loads(line) for line in (out / "one" / "records.jsonl").open()]
    assert [(each["id"], each["gold"]) for each in records] == [
        ("aime25/test/0", "0"),
        ("aime25/test/1", "2"),
    ]
    written = json.loads((out / "one" / "second_opinion.json").read_text())
    assert (written["n"], written["accuracy"], written["disputed"]) == (2, [0.0, 0.0], [])


def test_results_shows_evaluations_side_by_side(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, samples in (("a", 1), ("b", 2)):
        evaluate(model, tmp_path / name, f"--samples={samples}")
    manifest = tmp_path / "b" / "one" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"partial": True}))
    capsys.readouterr()
    run(["results", f"--folders=[{tmp_path / 'a'}, {tmp_path / 'b'}]", "--by=kind"])
    out = capsys.readouterr().out
    assert "one" in out
    assert "n = 5" in out
    assert "".join(f"{manifest.parent} is partial".split()) in "".join(out.split())


def test_two_results_fit_a_terminal_of_80_columns(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a_folder_with_a_long_name", "another_folder"):
        evaluate(model, tmp_path / name)
    capsys.readouterr()
    folders = [str(tmp_path / name) for name in ("a_folder_with_a_long_name", "another_folder")]
    run(["results", f"--folders={json.dumps(folders)}", "--by=kind"])
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("│ one")]
    assert rows
    assert all(row.count("n = ") == 2 and len(row) <= 80 for row in rows)
