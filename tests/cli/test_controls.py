"""`fit --controls`: the run again without what there is to learn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from slm_math.cli import run
from slm_math.records.run_folder import read_run

GRPO = ["--config", "configs/grpo/solver.yaml", "--config", "configs/fast.yaml"]
GRPO += ["--model.inference.sampling.max_new_tokens", "8"]
SFT = ["--config", "configs/sft/lora.yaml", "--config", "configs/fast.yaml"]
QUIET = ["--torch_threads", "1", "--trainer.enable_progress_bar", "false"]


def fit(root: Path, *arguments: str) -> None:
    run(["fit", *arguments, *QUIET, "--trainer.default_root_dir", str(root)])


def rollouts(root: Path) -> list[dict]:
    lines = (root / "rollouts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_an_arm_is_the_same_run_with_another_reward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, arm = tmp_path / "run", tmp_path / "run" / "controls" / "random_reward"
    fit(root, *GRPO, "--controls", "random_reward")
    out = capsys.readouterr().out
    assert "single_shot, gain minus random_reward: +0.0 [" in out
    own, other = rollouts(root), rollouts(arm)
    assert [one["id"] for one in own] == [one["id"] for one in other]  # data and order
    # the first step has the same weights and draws, and another reward
    size = len(own) // 2
    assert [one["answer"] for one in own[:size]] == [one["answer"] for one in other[:size]]
    assert {one["rewards"]["solver"] for one in other} == {0.0, 1.0}
    begun = read_run(arm)
    assert begun["control"] == {"arm": "random_reward", "run": read_run(root)["run"]}
    assert begun["run"] != read_run(root)["run"]
    assert "control" not in read_run(root)
    starts = [path / "eval" / "start" / "single_shot" / "manifest.json" for path in (root, arm)]
    first, second = (json.loads(path.read_text())["identity"]["weights"] for path in starts)
    assert first == second
    [config] = (arm / "logs").glob("*/config.yaml")
    [reward] = yaml.safe_load(config.read_text())["model"]["init_args"]["rewards"]
    assert reward["class_path"].endswith("RandomReward")


REFUSED = {
    "random_reward needs a run with rewards": [*SFT, "--controls", "shuffled_gold,random_reward"],
    "there is no arm shufled_gold: did you mean shuffled_gold": [
        *GRPO,
        *("--controls", "[shufled_gold]"),
    ],
    "blank_images replaces images, and arithmetic/train has none": [
        *SFT,
        *("--controls", "blank_images"),
    ],
    "controls are compared by what AgentEval evaluates": [
        *GRPO,
        *("--controls", "random_reward", "--trainer.callbacks", "[]"),
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_arm_that_cannot_be_is_refused_before_anything_is_written(
    message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path / "run", *REFUSED[message])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sft_with_shuffled_solutions_is_an_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run", *SFT, "--controls", "shuffled_gold")
    assert "gain minus shuffled_gold" in capsys.readouterr().out


@pytest.mark.slow
def test_an_arm_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slm_math.modules.grpo import GRPOModule
    from slm_math.stopping import Stopped

    arms = ("--controls", "random_reward,format_only")
    fit(tmp_path / "whole", *GRPO, *arms)
    step = GRPOModule.training_step

    def stopped(self: GRPOModule, batch: object, batch_idx: int) -> None:
        if "controls" in str(self.trainer.default_root_dir) and batch_idx == 1:
            raise Stopped()
        step(self, batch, batch_idx)

    monkeypatch.setattr(GRPOModule, "training_step", stopped)
    with pytest.raises(SystemExit):
        fit(tmp_path / "torn", *GRPO, *arms)
    assert not (tmp_path / "torn" / "controls" / "format_only").exists()
    monkeypatch.setattr(GRPOModule, "training_step", step)
    fit(tmp_path / "torn", *GRPO, *arms, "--ckpt_path", "last")
    assert "gain minus format_only" in capsys.readouterr().out
    for arm in ("random_reward", "format_only"):
        whole, torn = (
            tmp_path / name / "controls" / arm / "eval" / "epoch-0" / "single_shot"
            for name in ("whole", "torn")
        )
        weights = [
            json.loads((path / "manifest.json").read_text())["identity"]["weights"]
            for path in (whole, torn)
        ]
        assert weights[0] == weights[1]


@pytest.mark.slow
def test_arms_of_another_run_are_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "run"
    fit(root, *GRPO, "--controls", "random_reward")
    other = tmp_path / "other"
    fit(other, *GRPO)
    (root / "controls").rename(other / "controls")
    fit(other, *GRPO, "--controls", "random_reward", "--ckpt_path", "last")
    arm = other / "controls" / "random_reward"
    assert (arm / "replaced-1" / "manifest.json").is_file()
    assert read_run(arm)["control"]["run"] == read_run(other)["run"]
