"""The command line: quick help, configs that parse, commands end to end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import model_folder

import slm_math
from slm_math.cli import run

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
OVERLAYS = {name: "grpo/solver.yaml" for name in FILES if name.startswith(("grpo/", "rewards/"))}
OVERLAYS |= {name: "eval/gsm8k.yaml" for name in FILES if name.startswith("eval/")}
OVERLAYS |= {"fast.yaml": "sft/full.yaml", "quickstart/student.yaml": "quickstart/sft.yaml"}
OVERLAYS |= {"quickstart/code_feedback.yaml": "quickstart/grpo.yaml", "best.yaml": "sft/full.yaml"}
del OVERLAYS["eval/gsm8k.yaml"]
del OVERLAYS["grpo/solver.yaml"]
FULL = [f"--config={CONFIGS / name}" for name in ("sft/full.yaml", "fast.yaml")]
FIT = ["fit", *FULL]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The configuration that a command would run with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run([*arguments, "--print_config"])
    assert stop.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys; from slm_math.cli import run; run(['--help'])\n"
        "slow = {'torch', 'lightning', 'transformers', 'sympy', 'numpy', 'jsonargparse'}\n"
        "assert not slow & sys.modules.keys()"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    for command in ("fit", "test", "eval", "grade", "results", "download"):
        assert f"  {command} " in out


def test_version_of_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slm_math", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{slm_math.__version__}\n"


@pytest.mark.parametrize("name", FILES)
def test_config_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--config={CONFIGS / part}" for part in (OVERLAYS.get(name), name) if part]
    content = yaml.safe_load((CONFIGS / name).read_text())
    if "eval" in name:
        more = [] if "agents" in content else ["--agents.one=SingleShot"]
        agents = shown(capsys, "eval", *files, *more, "--out=x")["agents"]
        assert set(agents) == set(content.get("agents", ["one"]))
    else:
        assert shown(capsys, "fit", *files)["data"]["class_path"].startswith("slm_math.data.")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("sft/", "grpo/"))])
def test_fast_goes_over_every_training_config(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part for part in (OVERLAYS.get(name), name, "fast.yaml") if part]
    config = shown(capsys, "fit", *(f"--config={CONFIGS / part}" for part in parts))
    policy = config["model"]["init_args"]["policy"]
    assert policy["path"] is None
    assert policy["scratch"]["hidden"] == 32
    assert config["trainer"]["limit_train_batches"] == 2


GRPO = {name: [] for name in FILES if name.startswith("grpo/")} | {
    "grpo/solver_published.yaml": ["rewards/slm_math.yaml"],
    "grpo/adjusted.yaml": ["rewards/small_math_r1.yaml"],
    "grpo/self_correction_bonus.yaml": ["grpo/self_correction.yaml"],
}


@pytest.mark.parametrize("name", GRPO)
def test_every_grpo_config_trains(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["grpo/solver.yaml", *GRPO[name], name, "fast.yaml"]
    judged = drafts_in(tmp_path) if name == "grpo/verifier.yaml" else []
    sizes = ["--model.inference.sampling.max_new_tokens=12", "--model.group_size=4"]
    root = f"--trainer.default_root_dir={tmp_path}"
    if name == "grpo/distill.yaml":
        sizes.append(f"--model.teacher.path={model_folder(tmp_path / 'teacher', seed=3)}")
    run(
        [
            "fit",
            *(f"--config={CONFIGS / file}" for file in files),
            *sizes,
            root,
            "--data.batch_size=2",
            *judged,
        ]
    )
    lines = (tmp_path / "rollouts.jsonl").read_text().splitlines()
    assert len(lines) >= 2 * 2 * 4
    rewards = json.loads(lines[0])["rewards"]
    assert any(value is not None for value in rewards.values())


def drafts_in(folder: Path) -> list[str]:
    """Options for a source of drafts to judge, and an agent that judges them."""
    rows = [
        {"problem": f"{n} + {n}?", "draft": f"#### {answer}", "answer": str(answer), "gold": 2 * n}
        for n in range(40)
        for answer in (2 * n, 2 * n + 1)
    ]
    file = folder / "drafts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = json.dumps(
        {"class_path": "Drafts", "init_args": {"path": str(file), "validation": 0.2}}
    )
    judge = {"class_path": "Judge", "init_args": {"prompt": "verify_plain", "runs": 0}}
    evaluation = {"class_path": "AgentEval", "init_args": {"agents": {"judge": judge}, "limit": 4}}
    evaluation["init_args"]["inference"] = {"sampling": {"temperature": 0.0, "max_new_tokens": 8}}
    callbacks = json.dumps([evaluation, {"class_path": "ExportHF"}])
    return [f"--data.source={source}", f"--trainer.callbacks={callbacks}"]


def test_the_config_of_verifier_sft_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--config={CONFIGS / file}" for file in ("sft/verifier.yaml", "fast.yaml")]
    root = f"--trainer.default_root_dir={tmp_path}"
    run(["fit", *files, root, *drafts_in(tmp_path)])
    out = capsys.readouterr().out
    assert "wrong drafts, of" in out  # how many of each, in a line
    summary = json.loads((tmp_path / "eval/epoch-0/judge/summary.json").read_text())
    assert 0 <= summary["balanced_accuracy"] <= 1
    logged = (tmp_path / "logs/version_0/metrics.csv").read_text().splitlines()[0]
    assert "eval/judge/balanced_accuracy" in logged


def test_environment_sets_options_and_files_beat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLM_MATH_FIT__TRAINER__MAX_STEPS", "7")
    monkeypatch.setenv("SLM_MATH_FIT__TRAINER__MAX_EPOCHS", "9")
    trainer = shown(capsys, "fit", *FULL)["trainer"]
    assert trainer["max_steps"] == 7
    assert trainer["max_epochs"] == 1
    monkeypatch.setenv("SLM_MATH_EVAL_SAMPLES", "3")
    evaluation = [f"--config={CONFIGS / 'eval/gsm8k.yaml'}", "--agents.one=SingleShot"]
    assert shown(capsys, "eval", *evaluation)["samples"] == 3


def test_callbacks_can_be_appended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(
        "trainer: {callbacks+: [{class_path: callbacks.RolloutTable, init_args: {rows: 2}}]}"
    )
    names = [
        item["class_path"]
        for item in shown(capsys, "fit", *FULL, f"--config={more}")["trainer"]["callbacks"]
    ]
    assert names == ["callbacks.AgentEval", "callbacks.ExportHF", "callbacks.RolloutTable"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("model")))


def evaluate(model: str, out: Path, *more: str) -> None:
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


def test_grade_scores_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"response": r"so \boxed{\frac{1}{2}}", "answer": "0.5"},
        {"response": "#### 12", "answer": "6*2 = 12 #### 12"},
        {"response": "no idea", "answer": "3"},
    ]
    file = tmp_path / "said.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    run(["grade", f"--file={file}"])
    assert capsys.readouterr().out.startswith("2 of 3 correct: 66.7 %")
    verdicts = [
        json.loads(line) for line in (tmp_path / "said.graded.jsonl").read_text().splitlines()
    ]
    assert [(verdict["line"], verdict["correct"]) for verdict in verdicts] == [
        (1, True),
        (2, True),
        (3, False),
    ]


def test_download_fetches_what_configs_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def snapshot(name: str, **options: Any) -> str:
        fetched.append(name)
        if name == "no/model":
            raise OSError("the hub is away")
        return "/cache/" + name

    def file(repo: str, name: str, **options: Any) -> str:
        fetched.append(f"{repo}/{name}")
        return "/cache/" + name

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", file)
    files = (
        f"[{CONFIGS / 'sft/full.yaml'}, {CONFIGS / 'eval/gsm8k.yaml'}, "
        f"{CONFIGS / 'quickstart/grpo.yaml'}]"
    )
    run(["download", f"--config={files}"])
    models = ["Qwen/Qwen2.5-Math-1.5B", "Qwen/Qwen2.5-Math-1.5B-Instruct"]
    assert [name for name in fetched if "gsm8k" not in name] == models
    assert any("gsm8k" in name for name in fetched)
    with pytest.raises(SystemExit) as stop:
        run(["download", "--models=[no/model, a/b]"])
    assert stop.value.code == 1
    assert "no/model" in capsys.readouterr().err
    assert fetched[-1] == "a/b"


OWN = """
from slm_math.data.base import Source
from slm_math.data.files import HubFile


class Mine(Source):
    name = "mine"

    def __init__(self, revision: str = "main"):
        self.revision = revision

    def hub_files(self):
        return [HubFile("me/mine", "test.jsonl", self.revision)]
"""


@pytest.mark.parametrize(
    "config",
    [
        "data: {class_path: ProblemData, source: my_set.Mine}",
        "source: {class_path: my_set.Mine, revision: v2}\nwhere: {source: amc}",
        "shots_source: my_set.Mine\nsource: {class_path: Arithmetic, train: 4}",
        "trainer: {callbacks: [{class_path: AgentEval, sources: {x: my_set.Mine, y: GSM8K}}]}",
    ],
)
def test_download_fetches_the_files_of_ones_own_data_set(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def file(repo: str, name: str, **options: Any) -> str:
        fetched.append(f"{repo}/{name}@{options['revision']}")
        return "/cache/" + name

    monkeypatch.setattr("huggingface_hub.hf_hub_download", file)
    (tmp_path / "my_set.py").write_text(OWN)
    (tmp_path / "a.yaml").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        run(["download", f"--config={tmp_path / 'a.yaml'}"])
    finally:
        sys.modules.pop("my_set", None)
    assert f"me/mine/test.jsonl@{'v2' if 'v2' in config else 'main'}" in fetched
    assert any("gsm8k" in name for name in fetched) == ("GSM8K" in config)


def test_fit_is_resumed_tested_and_leaves_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    fit = [*FIT, f"--trainer.default_root_dir={root}", "--trainer.accelerator=cpu"]
    run(fit)
    assert (root / "checkpoints" / "last.ckpt").is_file()
    run([*fit, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert sorted(path.name for path in (root / "eval").iterdir()) == ["epoch-0", "epoch-1"]
    first, second = sorted((root / "logs").iterdir())
    assert yaml.safe_load((first / "config.yaml").read_text())["trainer"]["max_epochs"] == 1
    assert yaml.safe_load((second / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert "train/loss" in (first / "metrics.csv").read_text()
    run(
        [
            "test",
            *fit[1:],
            f"--model.policy.path={root / 'export'}",
            "--model.policy.scratch=null",
        ]
    )
    assert (root / "eval" / "test" / "single_shot" / "records.jsonl").is_file()
