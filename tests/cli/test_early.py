"""What `fit` refuses before it imports torch, and that it refuses nothing else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli.configs import CONFIGS

from slm_math.early import refuse
from slm_math.parsing import RENAMED

SFT = f"--config={CONFIGS / 'quickstart/sft.yaml'}"
GRPO = f"--config={CONFIGS / 'grpo/solver.yaml'}"
JUDGE = "{class_path: AgentEval, agents: {x: {class_path: Judge, a: 1}}}"
REFUSED: dict[str, tuple[list[str], str]] = {
    "file": ([SFT, "--config", "nowhere.yaml"], "config file does not exist: nowhere.yaml"),
    "section": (["--trianer.max_steps=3"], "there is no option trianer: did you mean trainer?"),
    "trainer": ([SFT, "--trainer.max_epocs", "3"], "option trainer.max_epocs: did you mean max_ep"),
    "model": ([SFT, "--model=SFTModul"], "model: there is no class SFTModul: did you mean SFTMod"),
    "dotted": (["--model.class_path=slm_math.modules.sft.SFTModul"], "did you mean SFTModule?"),
    "agent": ([GRPO, "--model.agent=SingelShot"], "model.agent: there is no class SingelShot: did"),
    "in an agent": ([GRPO, "--model.agent.promt=x"], "no option model.agent.promt: did you mean p"),
    "in a part": ([GRPO, "--model.optim.lrr=1"], "no option model.optim.lrr: did you mean lr?"),
    "reward": ([GRPO, "--model.rewards=[Corect]"], "model.rewards: there is no class Corect"),
    "callback": ([SFT, "--trainer.callbacks+=ExportHFF"], "no class ExportHFF: did you mean"),
    "source": ([SFT, "--data.source=GSM9K"], "data.source: there is no class GSM9K"),
    "in a source": ([SFT, "--data.source.trian=1"], "option data.source.trian: did you mean"),
    "inside": (
        [SFT, "--trainer.callbacks+=" + JUDGE],
        "there is no option trainer.callbacks.agents.x.a",
    ),
}  # fmt: skip
TAKEN = [
    [SFT, "--trainer.max_step", "3"],  # the beginning of a name
    [SFT, "--model=my_models.Mine", "--model.anything=3", "--data.source=Own"],
    [SFT, "--data=my_data.Mine", "--data.own.x=3"],
    [SFT, "--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "x"],
    [SFT, "--trainer.callbacks+", "ModelCheckpoint", "--trainer.callbacks.every_n_epochs", "2"],
    [SFT, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"],
    [GRPO, "--model.inference.sampling.temperature=0.5", "--model.engines.judge=CheckpointEngine"],
    [GRPO, "--model.engines.judge.path=a/b", "--config", '{"model": {"teacher": null}}'],
    [GRPO, "--config", '{"model": {"init_args": {"tokens_per_batch": 5}}}'],
    [GRPO, "--model.help=GRPOModule", "--print_config", "--seed_everything", "3"],
    [GRPO, "--model.policy={scratch: {layers: 2}}", "--ckpt_path=last", "--torch_threads=1"],
    [GRPO, "--data.where={level: [4, 5]}", "--model.policy.path={solver: a, verifier: b}"],
]
OTHERS = ("eval/", "cot/", "quickstart/cot.yaml", "quickstart/eval", "quickstart/vision_eval")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_certainly_wrong_is_refused(kind: str) -> None:
    arguments, expected = REFUSED[kind]
    with pytest.raises(ValueError, match=re.escape(expected)):
        refuse("fit", arguments, RENAMED)


@pytest.mark.parametrize("arguments", TAKEN)
def test_what_may_be_right_is_left_to_the_parser(arguments: list[str]) -> None:
    refuse("fit", arguments, RENAMED)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_every_config_is_taken(command: str) -> None:
    for file in CONFIGS.rglob("*.yaml"):
        if not str(file.relative_to(CONFIGS)).startswith(OTHERS):
            refuse(command, [f"--config={file}"], RENAMED)


def test_nothing_slow_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom slm_math.cli import run\ntry: run(sys.argv[1:])\n"
        "except SystemExit: pass\nassert not {'torch', 'lightning'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "fit", GRPO, "--model.agent=SingelShot"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SingelShot" in done.stderr
