"""The slm-math commands of the README and its pages run, made fast and offline by the `fast.yaml`
overlay and embedded data.
"""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from logged import undescribed

from slm_math.cli import run
from slm_math.testing import drive
from slm_math.types import Image, Problem

ROOT = Path(__file__).parents[1]
# what a reader of the README reads next, in this order
PAGES = ("grpo", "vllm", "grader", "sandbox", "evaluation", "architecture")
TEXT = "\n".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs" / f"{page}.md" for page in PAGES))
)
pytestmark = pytest.mark.usefixtures("light_programs")
# as text, which may take back what a command names before it, such as its model
FAST = json.dumps(yaml.safe_load((ROOT / "configs/fast.yaml").read_text(encoding="utf-8")))
EMBEDDED = "{class_path: Arithmetic, validation: 28, test: 28}"


def commands() -> list[str]:
    """The indented `slm-math ...` lines, continuation lines joined."""
    text = TEXT.replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    slm-math ")]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that `fit` exported."""
    root = tmp_path_factory.mktemp("readme")
    fit("slm-math fit --config configs/sft/full.yaml", root)
    return root / "export"


def fit(command: str, root: Path) -> None:
    arguments = shlex.split(command)[1:]
    small = ["--model.inference.sampling.max_new_tokens", "8", "--model.group_size", "4"]
    run(
        [
            *arguments,
            "--config",
            FAST,
            "--trainer.default_root_dir",
            str(root),
            "--torch_threads",
            "1",
            *(small if "grpo/" in command else []),
        ]
    )


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("slm-math fit")])
def test_fit_commands_of_the_readme_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    fit(command, tmp_path)
    assert (tmp_path / "export" / "config.json").is_file()
    assert (tmp_path / "eval" / "epoch-0" / "single_shot" / "summary.json").is_file()
    assert undescribed(tmp_path) == []


@pytest.mark.parametrize(
    "command", [c for c in commands() if c.startswith("slm-math eval") and "localhost" not in c]
)
def test_eval_commands_of_the_readme_run(
    command: str,
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    small = ["--limit", "2", "--inference.sampling.max_new_tokens", "8", "--torch_threads", "1"]
    run(
        [
            *shlex.split(command)[1:],
            "--model",
            str(export),
            "--source",
            EMBEDDED,
            "--out",
            str(tmp_path),
            *small,
        ]
    )
    run(["results", str(tmp_path)])
    assert "n = 2" in capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in commands() if "localhost" in c])
def test_endpoint_commands_of_the_readme_are_understood(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run([*shlex.split(command)[1:], "--print_config"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "base_url: http://localhost" in out or "- http://localhost" in out


def test_grade_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("completions.jsonl").write_text('{"completion": "so \\\\boxed{4}", "answer": "#### 4"}\n')
    for command in (c for c in commands() if c.startswith("slm-math grade")):
        run(shlex.split(command)[1:])
    out = capsys.readouterr().out
    assert "1 of 1 correct" in out
    assert "all 1 verdicts agree" in out or "1 verdict agrees" in out
    assert "right: equal" in out


def test_the_grader_examples_of_the_readme_show_their_results() -> None:
    [block] = [part for part in TEXT.split("```python") if "answers import extract, grade" in part]
    names: dict = {}
    exec(block.split("grade(", 1)[0], names)
    lines = [line for line in block.split("```")[0].splitlines() if "  # " in line]
    assert len(lines) == 6
    for line in lines:
        code, _, expected = line.partition("  # ")
        assert repr(eval(code, names)) == expected.partition(":")[0], line


def test_the_agent_of_the_readme_solves() -> None:
    [block] = [
        part.split("```")[0] for part in TEXT.split("```python") if "class SecondThought" in part
    ]
    assert len(block[block.index("class ") :].splitlines()) < 30
    names: dict = {}
    exec(block, names)
    problem = Problem("p/1", "Which?", "mc", ("5", "7"), (Image("figure.png"),))
    driven = drive(names["SecondThought"](), problem, [r"\boxed{A}", r"\boxed{B}"])
    assert driven.answer == "B"
    assert driven.chat(0)[0].content[0] == Image("figure.png")
    assert driven.chat(0)[0].text.startswith("Which?\n(A) 5\n(B) 7\n\n")


def test_the_first_agent_of_the_readme_solves() -> None:
    [block] = [part.split("```")[0] for part in TEXT.split("```python") if "class Twice" in part]
    names: dict = {}
    exec(block, names)
    driven = drive(names["Twice"](), Problem("p/1", "2 + 2?"), [r"\boxed{5}", r"\boxed{4}"])
    assert driven.answer == "4"


def test_what_the_readme_does_with_results_runs(
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its lines one after another, with the folders that they name."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "runs" / "sft-lora").mkdir(parents=True)
    (tmp_path / "runs" / "sft-lora" / "export").symlink_to(export)
    (tmp_path / "runs" / "grpo").symlink_to(export.parent)
    monkeypatch.chdir(tmp_path)
    small = [
        "--limit=2",
        "--inference.sampling.max_new_tokens=4",
        "--torch_threads=1",
        "--source",
        EMBEDDED,
    ]
    done = []
    for command in commands():
        name = command.split()[1]
        if name == "eval" and "localhost" not in command:
            run([*shlex.split(command)[1:], *small, "--model", "runs/sft-lora/export"])
        elif name in ("results", "compare", "report") and "--over" not in command:
            run(shlex.split(command)[1:])
            done.append(name)
    assert done == ["results", "compare", "report"]
    assert "exact McNemar" in capsys.readouterr().out
    assert Path("report.html").stat().st_size > 10_000
    assert list(Path("figures").glob("accuracy*.svg"))
