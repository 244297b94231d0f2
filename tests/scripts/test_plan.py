"""The ladder's plan: what table.yaml says, as commands that slm-math understands."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from ladder.plan import Choice, Step, read_plan
from scripts.climbing import CONTENT, ROOT, TABLE, Ladder
from table import main
from tiny import model_folder

from slm_math.cli import run

MODEL = "Qwen/Qwen2.5-Math-1.5B"
OUT = ROOT / "runs" / "ladder"


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return Ladder(tmp_path, copy.deepcopy(CONTENT))


def plan_of(model: str | None = None, **choice: Any) -> Any:
    return read_plan(TABLE, Choice(OUT, model, **choice))


def step(name: str, model: str | None = None, **choice: Any) -> Step:
    return next(each for each in plan_of(model, **choice).steps if each.name == name)


def value(step: Step, option: str) -> str:
    return step.command[step.command.index(option) + 1]


def test_a_step_reads_what_its_options_name(ladder: Ladder) -> None:
    steps = {step.name: step for step in ladder.plan().steps}
    assert {name: step.inputs for name, step in steps.items()} == {
        "base": (),
        "tuned": ("base",),
        "toy-base": ("base",),
        "toy-tuned": ("tuned",),
        "toy-pair": ("tuned", "base"),
    }
    assert value(steps["tuned"], "--from") == str(ladder.out / "train/base/export")


def test_a_slot_is_filled_at_any_depth_and_a_seed_is_a_number(ladder: Ladder) -> None:
    options = {"a": {"b": ["{base}/x", "{seed}", "seed {seed}"]}}
    ladder.content["profiles"]["embedded"]["steps"]["tuned"]["options"] = options
    [tuned] = [step for step in ladder.plan(seed=7).steps if step.name == "tuned"]
    export = ladder.out / "train/base/export"
    assert value(tuned, "--a") == f'{{"b": ["{export}/x", 7, "seed 7"]}}'


def test_the_table_has_every_row() -> None:
    titles = [f"{row.group} {row.title}".strip() for row in plan_of().rows]
    assert titles == [
        "base",
        "SFT LoRA",
        "SFT full",
        "GRPO",
        "solver-verifier base",
        "solver-verifier SFT solver",
        "solver-verifier SFT verifier",
        "solver-verifier SFT both",
        "solver-verifier SFT + RL",
        "code feedback base",
        "code feedback SFT",
        "code feedback SFT + RL",
        "self-correction SFT",
        "self-correction SFT + RL",
        "selector of 4 SFT",
        "selector of 4 SFT + RL",
        "solver-checker, tools",
        "majority vote",
        "python tools",
    ]


@pytest.mark.parametrize(
    ("model", "data"), [(None, ["arithmetic"]), (MODEL, ["gsm8k", "math500"])], ids=["own", "hub"]
)
def test_every_row_is_evaluated_under_its_name_on_every_data_set(
    model: str | None, data: list[str]
) -> None:
    plan = plan_of(model)
    rows = [row.name for row in plan.rows]
    evaluated = [(each.data, each.row, each.result) for each in plan.steps if each.row is not None]
    assert evaluated == [(name, row, OUT / name / row) for name in data for row in rows]


@pytest.mark.parametrize("model", [None, MODEL], ids=["own", "hub"])
def test_training_covers_the_ladder(model: str | None) -> None:
    trained = {each.name for each in plan_of(model).steps if each.trains}
    learned = {"sft-lora", "sft-full", "sft-verifier"}
    learned |= {"grpo-solver", "grpo-multi", "grpo-code-feedback"}
    learned |= {"grpo-self-correction-1", "grpo-self-correction", "grpo-selector"}
    assert trained == (learned if model else {"base", *learned})
    assert step("drafts", model).inputs == ("sft-lora",)
    assert step("sft-verifier", model).inputs[-1] == "drafts"
    assert set(step("grpo-multi", model).inputs) == {"sft-lora", "sft-verifier"}


def test_the_named_model_is_the_base() -> None:
    assert value(step("gsm8k-base", MODEL), "--model") == MODEL
    assert value(step("sft-full", MODEL), "--model.policy.path") == MODEL
    assert step("sft-full", MODEL).inputs == ()


def test_limit_is_one_of_the_rows() -> None:
    assert value(step("gsm8k-grpo", MODEL, limit=5), "--limit") == "5"
    assert "--limit" not in step("drafts", MODEL, limit=5).command


def test_figures_of_others_are_shown_for_their_model_alone(tmp_path: Path) -> None:
    assert plan_of(MODEL).others is not None
    folder = tmp_path / "Qwen2.5-Math-1.5B"
    folder.mkdir()
    assert plan_of(str(folder)).others is not None
    assert plan_of("Qwen/Qwen2.5-1.5B").others is None
    assert plan_of().others is None


def test_a_local_model_counts_among_what_a_step_reads(tmp_path: Path) -> None:
    assert step("sft-full", str(tmp_path)).files[-1] == tmp_path
    assert tmp_path not in step("grpo-solver", str(tmp_path)).files


def edited(content: dict[str, Any], path: str, value: Any) -> None:
    *keys, last = path.split(".")
    node: Any = content
    for key in keys:
        node = node[int(key)] if key.isdigit() else node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value


STEPS = "profiles.embedded.steps"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("rows", None, "'rows' is missing"),
        ("row", [], "the file has unknown keys: row"),
        ("profiles.embedded", None, "'embedded' is missing"),
        ("rows.1.name", "base", "row base is there twice"),
        ("rows.1.name", "a b", "row 'a b': a name has letters"),
        ("rows.1.model", "tunde", "row tuned reads {tunde}, which no step above it makes"),
        ("rows.1.agent", "duo", "row tuned: profile embedded has no agent duo"),
        ("rows.1.colour", "red", "colour"),
        ("references", ["sft"], "no row is called sft"),
        (f"{STEPS}.base.options", {"a": ["{tuned}"]}, "step base reads {tuned}, which no step abo"),
        (f"{STEPS}.base.command", "train", "step base: command is fit or eval, not 'train'"),
        (f"{STEPS}.base.command", None, "'command' is missing"),
        (f"{STEPS}.base.config", ["configs/x.yaml"], "step base: config configs/x"),
        (f"{STEPS}.base.steps", 3, "step base has unknown keys: steps"),
        (f"{STEPS}.base", 3, "step base must have keys"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    ladder: Ladder, path: str, value: Any, message: str
) -> None:
    edited(ladder.content, path, value)
    with pytest.raises(ValueError, match=r"table\.yaml: ") as error:
        ladder.plan()
    assert message in str(error.value)


def test_dry_run_prints_every_command_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([MODEL, "--dry_run", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    plan = read_plan(TABLE, Choice(out, MODEL))
    assert [shlex.split(line)[1:] for line in printed] == [list(s.command) for s in plan.steps]
    assert not out.exists()


def commands(model: str | None) -> list[tuple[str, ...]]:
    """One command of each kind: the rows differ in agents and models."""
    plan = plan_of(model)
    return [each.command for each in plan.steps if each.data in (None, plan.data[0])]


def understood(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run([*command, "--print_config"])
    assert stop.value.code in (0, None), capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", [None, MODEL], ids=["own", "hub"])
def test_every_command_is_understood(
    model: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for command in commands(model):
        understood(command, capsys)


@pytest.mark.parametrize("name", ["sft-lora", "drafts", "grpo-code-feedback", "gsm8k-python_tools"])
def test_some_commands_are_understood(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    understood(step(name, MODEL).command, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "must be at least 1"),
        (["--limit", "many"], "invalid"),
        (["--sead", "1"], "unrecognized arguments: --sead"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_table_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "none.yaml", "--dry_run"]) == 2
    assert "none.yaml cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "MODEL is empty"),
        ("./no/such/folder", "does not exist"),
        ("configs", "contains no config.json"),
    ],
)
def test_a_model_that_is_none_is_named_before_any_step(
    model: str, message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([model, "--dry_run"]) == 2
    assert message in capfd.readouterr().err


def test_an_adapter_is_no_base(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base = model_folder(tmp_path / "base")
    config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": str(base)}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert main([str(adapter), "--dry_run"]) == 2
    assert "adapter" in capfd.readouterr().err


def test_an_out_that_is_a_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert "file" in capfd.readouterr().err
