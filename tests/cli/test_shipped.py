"""The configs that come with slm-math: found by name, listed, printed and copied."""

import json
import re
from pathlib import Path

import pytest
from cli.configs import CONFIGS, shown

from slm_math.cli import run
from slm_math.early import refuse
from slm_math.parsing import RENAMED
from slm_math.shipped import config_file, names

FILES = sorted(CONFIGS.rglob("*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run([*arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err.removeprefix("slm-math: error: ").strip()


@pytest.mark.parametrize(
    "name", ["sft/lora", "sft/lora.yaml", "configs/sft/lora.yaml", "./configs/sft/lora.yaml"]
)
def test_a_config_is_found_by_its_name_in_any_folder(name: str) -> None:
    assert config_file(name).samefile(CONFIGS / "sft" / "lora.yaml")


def test_a_file_here_comes_before_a_config_of_that_name() -> None:
    for name in ("sft/lora", "fast.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("trainer: {max_epochs: 7}")
        assert config_file(name) == Path(name)


def test_a_folder_here_does_not_hide_a_config() -> None:
    Path("sft/lora").mkdir(parents=True)
    assert config_file("sft/lora").samefile(CONFIGS / "sft" / "lora.yaml")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sft/loar", "did you mean sft/lora"),
        ("lora", "did you mean sft/lora?"),
        ("configs/grpo/dpao.yaml", "did you mean grpo/dapo"),
        ("../../etc/passwd.yaml", "slm-math configs lists"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "eval", "generate-cot", "download"])
def test_an_unknown_config_names_the_nearest(
    command: str, name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error(capsys, command, "--config", name)
    assert f"config file does not exist: {name}" in message
    assert hint in message


def test_every_kind_of_command_takes_names(capsys: pytest.CaptureFixture[str]) -> None:
    refuse("fit", ["--config", "sft/full", "-c", "fast"], RENAMED)
    with pytest.raises(ValueError, match=r"did you mean --trainer\.max_epochs"):
        refuse("fit", ["--config", "sft/full", "--trainer.max_epocs=3"], RENAMED)
    fit = shown(capsys, "fit", "--config", "sft/full", "--config=fast.yaml")
    assert fit["data"]["init_args"]["source"]["class_path"].endswith("Arithmetic")
    evaluation = shown(capsys, "eval", "--config", "eval/gsm8k", "--config", "eval/selector")
    assert evaluation["inference"]["sampling"]["max_new_tokens"] == 1024
    assert len(evaluation["agents"]) == 1
    assert shown(capsys, "generate-cot", "--config", "cot/gsm8k")["out"] == "runs/cot/gsm8k"


def test_download_takes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or "/cache"
    )
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: "/cache/file")
    run(["download", "--config", "sft/full"])
    assert fetched == ["Qwen/Qwen2.5-Math-1.5B"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_the_first_line_of_a_config_is_a_sentence_that_says_what_it_does(file: Path) -> None:
    line = file.read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# [A-Z].{15,115}\.", line), line


def test_all_are_listed_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(["configs"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    listed = [line.split()[0] for line in lines if re.match(r"[\w/]+  ", line)]
    assert [name for name in listed if name in names()] == list(names())
    assert len(names()) == len(FILES)
    [lora] = [line for line in lines if line.startswith("sft/lora ")]
    assert lora.rstrip().endswith("Supervised fine-tuning of low-rank adapters.")


def test_one_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    run(["configs", "sft/lora"])
    assert capsys.readouterr().out == (CONFIGS / "sft/lora.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["sft/lora", "--copy"], "lora.yaml"),
        (["--copy", "sft/lora"], "lora.yaml"),
        (["sft/lora", "--copy", "mine/own.yaml"], "mine/own.yaml"),
        (["sft/lora", "--copy=own.yaml"], "own.yaml"),
        (["sft/lora", "--copy", "."], "lora.yaml"),
    ],
)
def test_a_copy_is_written_once(
    arguments: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["configs", *arguments])
    assert file in capsys.readouterr().out
    assert Path(file).read_bytes() == (CONFIGS / "sft/lora.yaml").read_bytes()
    Path(file).write_text("mine")
    assert f"{file} exists" in error(capsys, "configs", *arguments)
    assert Path(file).read_text() == "mine"


def test_a_copy_of_nothing_says_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name the config to copy" in error(capsys, "configs", "--copy")
    assert "did you mean" in error(capsys, "configs", "sft/loraa")


def test_what_a_config_names_is_found_without_a_clone(capsys: pytest.CaptureFixture[str]) -> None:
    """No config names another file of the project: prompts come by name, data by class."""
    for file in FILES:
        content = json.dumps([line.split("#")[0] for line in file.read_text().splitlines()])
        assert not re.search(r"\b(configs|scripts|tests|docs|slm_math)/", content), file


def test_every_config_that_the_documentation_names_comes_with_the_package() -> None:
    root = CONFIGS.parent
    texts = [root / "README.md", *(root / "docs").rglob("*.md"), *FILES]
    named = {
        name
        for file in texts
        for name in re.findall(r"--config[ =]([a-z][\w/.]*)", file.read_text(encoding="utf-8"))
        if not name.startswith("runs/")
    }
    assert len(named) > 20
    for name in named:
        assert config_file(name).is_file()
