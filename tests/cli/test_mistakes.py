"""Mistakes on the command line and in configs are answered in a line or two that say what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli.evaluating import ours
from cli.mistakes import EVAL, FIT, MISTAKES
from tiny import model_folder

from slm_math.cli import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    good = json.dumps({"question": "1 + 1?", "answer": "2 #### 2"})
    for name, bad in (("field", json.dumps({"question": "x"})), ("json", '{"question": ')):
        (folder / name).mkdir()
        (folder / name / "test.jsonl").write_text(f"{good}\n{bad}\n")
    (folder / "run.sh").write_text("pip install x\nif [ 1 ]; then echo; fi\n")
    (folder / "train.csv").write_text("question,answer\n1 + 1?,2\n")
    (folder / "key.yaml").write_text("model: {init_args: {tokens_per_bach: 5}}")
    (folder / "eval.yaml").write_text("limt: 5")
    (folder / "value.yaml").write_text("samples: 2\nlimit: ten\n")
    (folder / "torn.yaml").write_text("model: {init_args: [\n")
    (folder / "callback.yaml").write_text(
        "trainer: {callbacks: [{class_path: slm_math.callbacks.AgentEvall}]}"
    )
    return str(folder)


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_is_answered_in_a_line_or_two(
    kind: str,
    model: str,
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[kind]
    places = {"DATA": data, "MODEL": model, "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
        expected = [text.replace(name, place) for text in expected]
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    error = capsys.readouterr().err
    said = ours(error)
    assert stop.value.code == 2
    assert 1 <= said.count("\n") <= 2, error
    assert len(said) < 800, said
    assert "Traceback" not in error
    for jargon in ("subclass", "Union", "Parser key", "NoneType"):
        assert jargon not in said.replace(" ".join(arguments), "")
    for text in expected:
        assert text in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("variable", "command", "meant"),
    [
        ("SLM_MATH_EVAL_SAMPELS", EVAL, "SLM_MATH_EVAL_SAMPLES"),
        ("SLM_MATH_FIT__TRAINER__MAX_EPOCS", [*FIT, "--print_config"], "MAX_EPOCHS"),
    ],
)
def test_a_misspelled_variable_is_no_option(
    variable: str,
    command: list[str],
    meant: str,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SystemExit) as stop:
        run([argument.replace("MODEL", model) for argument in command])
    assert stop.value.code == 2
    error = ours(capsys.readouterr().err)
    assert f"the environment variable {variable} sets no option: did you mean" in error
    assert meant in error


@pytest.mark.slow
def test_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slm_math",
        *FIT,
        "--model.class_path=slm_math.modules.sft.SFTModul",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert 1 <= ours(done.stderr).count("\n") <= 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "SFTModule" in ours(done.stderr)
