"""Every config parses, and those of training train: `-m slow` trains with each of them."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from cases import some
from cli.configs import CONFIGS, shown
from logged import undescribed
from safetensors.torch import load_file
from tiny import model_folder

from slm_math.cli import run

FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
OVERLAYS = {name: "grpo/solver.yaml" for name in FILES if name.startswith(("grpo/", "rewards/"))}
OVERLAYS |= {name: "eval/gsm8k.yaml" for name in FILES if name.startswith("eval/")}
OVERLAYS |= {"fast.yaml": "sft/full.yaml", "quickstart/student.yaml": "quickstart/sft.yaml"}
OVERLAYS |= {"quickstart/code_feedback.yaml": "quickstart/grpo.yaml", "best.yaml": "sft/full.yaml"}
OVERLAYS |= {"cot/math.yaml": "cot/gsm8k.yaml", "cot/code_verified.yaml": "cot/gsm8k.yaml"}
OVERLAYS |= {"fsdp2.yaml": "sft/full.yaml", "sharded.yaml": "sft/full.yaml"}
OVERLAYS |= {"quickstart/cot_sft.yaml": "quickstart/sft.yaml"}
del OVERLAYS["eval/gsm8k.yaml"]
del OVERLAYS["grpo/solver.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_config_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--config={CONFIGS / part}" for part in (OVERLAYS.get(name), name) if part]
    content = yaml.safe_load((CONFIGS / name).read_text())
    if name.startswith("cot/") or name == "quickstart/cot.yaml":
        config = shown(capsys, "generate-cot", *files)
        assert config["accept"]["class_path"].startswith("slm_math.synthesis.accept.")
        assert {each["role"] for each in config["plan"]} <= {*(config["engines"] or {}), "solver"}
    elif "eval" in name:
        more = [] if "agents" in content else ["--agents.one=SingleShot"]
        agents = shown(capsys, "eval", *files, *more, "--out=x")["agents"]
        assert set(agents) == set(content.get("agents", ["one"]))
    else:
        assert shown(capsys, "fit", *files)["data"]["class_path"].startswith("slm_math.data.")


# the overlay is of use only where it replaces a model, its quantization and its callbacks
OVER = ("sft/", "grpo/solver.yaml", "grpo/multi_agent.yaml")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(OVER)])
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
    "grpo/vision_adjusted.yaml": ["rewards/small_math_r1.yaml"],
    "grpo/vision_adjusted_sound.yaml": [
        "rewards/small_math_r1_sound.yaml",
        "grpo/vision_adjusted.yaml",
    ],
}


# These configs cover programs, several roles, a teacher, and training on drafts. The others differ
# in agents, which tests of their own train, in numbers and in names of objectives.
TRAINED = ("code_feedback", "distill", "multi_agent", "verifier")


@pytest.mark.parametrize("name", some(GRPO, (f"grpo/{name}.yaml" for name in TRAINED)))
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
    assert undescribed(tmp_path) == []


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
    callbacks = json.dumps([evaluation, {"class_path": "ExportHF", "check": False}])
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


@pytest.mark.slow
def test_the_overlay_of_the_best_epoch_runs_to_its_end(tmp_path: Path) -> None:
    """Over a training config; a model is made of the checkpoint of the best epoch."""
    parts = ("sft/full.yaml", "fast.yaml", "best.yaml")
    files = [f"--config={CONFIGS / part}" for part in parts]
    run(["fit", *files, f"--trainer.default_root_dir={tmp_path}"])
    assert (tmp_path / "eval/epoch-0/single_shot/summary.json").is_file()
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 2
    run(["export", str(tmp_path / "checkpoints/best.ckpt"), f"--out={tmp_path / 'model'}"])
    exported, last = (load_file(tmp_path / n / "model.safetensors") for n in ("model", "export"))
    assert all(torch.equal(exported[name], last[name]) for name in last)  # of the only epoch
