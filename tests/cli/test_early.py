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
HUB = "--model.policy.path=owner/name"
JUDGE = "{class_path: AgentEval, agents: {x: {class_path: Judge, a: 1}}}"
REFUSED: dict[str, tuple[list[str], str]] = {
    "file": ([SFT, "--config", "nowhere.yaml"], "config file does not exist: nowhere.yaml"),
    "section": (["--trianer.max_steps=3"], "--trianer.max_steps: did you mean --trainer.max"),
    "last part": ([SFT, "--lr=1e-5"], "no option --lr: did you mean --model.optim.lr?"),
    "name elsewhere": ([SFT, "--optim.learning_rate=1"], "_rate: did you mean --model.optim"),
    "of another place": ([SFT, "--root=x"], "root: did you mean --trainer.default_root_dir"),
    "no section": ([GRPO, "--max_epochs", "3"], "did you mean --trainer.max_epochs?"),
    "option of an agent": ([GRPO, "--temperature=1"], "did you mean --model.agent.temperature or"),
    "two places": ([SFT, "--limit", "4"], "limit: did you mean --data.limit or --eval.limit?"),
    "trainer": ([SFT, "--trainer.max_epocs", "3"], "max_epocs: did you mean --trainer.max_ep"),
    "model": ([SFT, "--model=SFTModul"], "model: there is no class SFTModul: did you mean SFTMod"),
    "dotted": (["--model.class_path=slm_math.modules.sft.SFTModul"], "did you mean SFTModule?"),
    "agent": ([GRPO, "--model.agent=SingelShot"], "model.agent: there is no class SingelShot: did"),
    "in an agent": ([GRPO, "--model.agent.promt=x"], "promt: did you mean --model.agent.p"),
    "in a part": ([GRPO, "--model.optim.lrr=1"], "model.optim.lrr: did you mean --model.optim.lr?"),
    "reward": ([GRPO, "--model.rewards=[Corect]"], "model.rewards: there is no class Corect"),
    "callback": ([SFT, "--trainer.callbacks+=ExportHFF"], "no class ExportHFF: did you mean"),
    "source": ([SFT, "--data.source=GSM9K"], "data.source: there is no class GSM9K"),
    "in a source": ([SFT, "--data.source.trian=1"], "option --data.source.trian: did you mean"),
    "inside": (
        [SFT, "--trainer.callbacks+=" + JUDGE],
        "there is no option trainer.callbacks.agents.x.a",
    ),
    "beginning of a name": (
        [SFT, "--trainer.max_step", "3"],
        "there is no option --trainer.max_step: did you mean --trainer.max_steps?",
    ),
    "beginning of a name inside": (
        [GRPO, HUB, "--model.policy.pat=a/b"],
        "there is no option --model.policy.pat: did you mean --model.policy.path?",
    ),
    "beginning at the top": ([SFT, "--ckpt=last"], "no option --ckpt: did you mean --ckpt_path?"),
    "model folder": (
        [GRPO, "--model.policy.path=runs/nowhere/export"],
        "model path runs/nowhere/export does not exist (a hub model is written owner/name)",
    ),
    "model of a role": ([GRPO, "--model.policy.path={solver: ./a}"], "model path ./a does not"),
    "test set": ([GRPO, HUB, "--data.source=aime25"], "aime25 is a test set, which is never"),
    "data file": ([GRPO, HUB, "--data.source=Table", "--data.source.path=my.csv"], "my.csv does"),
    "data folder": (
        [SFT, "--data={source: {class_path: GSM8K, path: my}}"],
        "my does not exist (path of a data set)",
    ),
}  # fmt: skip
TAKEN = [
    [SFT, "--trainer.max_steps", "3"],
    [SFT, "--model=my_models.Mine", "--model.anything=3", "--data.source=Own"],
    [SFT, "--data=my_data.Mine", "--data.own.x=3"],
    [SFT, "--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "x"],
    [SFT, "--trainer.callbacks+", "ModelCheckpoint", "--trainer.callbacks.every_n_epochs", "2"],
    [SFT, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"],
    [GRPO, HUB, "--model.inference.slots=5", "--model.engines.judge=CheckpointEngine"],
    [GRPO, HUB, "--model.engines.judge.path=a/b", "--config", '{"model": {"teacher": null}}'],
    [GRPO, HUB, "--config", '{"model": {"init_args": {"tokens_per_batch": 5}}}'],
    [GRPO, HUB, "--model.help=GRPOModule", "--print_config", "--seed_everything", "3"],
    [GRPO, HUB, "--model.policy={scratch: {layers: 2}}", "--ckpt_path=last", "--torch_threads=1"],
    [GRPO, HUB, "--model.policy.path=./nowhere", "--model.policy={scratch: {}}"],
    [GRPO, HUB, "--model.policy.path=./nowhere", "--print_config"],
    [GRPO, HUB, "--data.source={class_path: GSM8K, path: my}", "--data.source=GSM8K"],
    [GRPO, HUB, "--data.source=my_data.Mine", "--data.source.path=my"],
    [GRPO, HUB, "--data.where={level: [4, 5]}", "--model.policy.path={solver: a/b, verifier: a/c}"],
]
OTHERS = ("eval/", "cot/", "quickstart/cot.yaml", "quickstart/eval", "quickstart/vision_eval")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_certainly_wrong_is_refused(kind: str) -> None:
    arguments, expected = REFUSED[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(expected)):
        refuse("fit", arguments, RENAMED)


@pytest.mark.parametrize("arguments", TAKEN)
def test_what_may_be_right_is_left_to_the_parser(arguments: list[str]) -> None:
    refuse("fit", arguments, RENAMED)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_every_config_is_taken(command: str) -> None:
    for file in CONFIGS.rglob("*.yaml"):
        if not str(file.relative_to(CONFIGS)).startswith(OTHERS):
            # some name models that other commands of a tutorial make
            refuse(command, [f"--config={file}", "--print_config"], RENAMED)


def test_file_and_line_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  # of the optimizer\n  optim:\n    learning_rate: 1e-5\n")
    expected = f"config file {file}, line 4: there is no option model.optim.learning_rate: did you"
    with pytest.raises(ValueError, match=re.escape(f"{expected} mean model.optim.lr?")):
        refuse("fit", [SFT, f"--config={file}"], RENAMED)
    file.write_text("- model\n")
    with pytest.raises(ValueError, match=r"mine\.yaml holds a list, and a config holds options"):
        refuse("fit", [SFT, f"--config={file}"], RENAMED)


def test_nothing_slow_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom slm_math.cli import run\ntry: run(sys.argv[1:])\n"
        "except SystemExit: pass\nassert not {'torch', 'lightning'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "fit", GRPO, "--model.agent=SingelShot"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SingelShot" in done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a run that trained."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"x")
    return tmp_path


def test_a_root_of_another_run_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [SFT, f"--trainer.default_root_dir={root}", "--trainer={max_epochs: 2}"]
    with pytest.raises(ValueError, match=f"{root} holds a run .*--ckpt_path last goes on with it"):
        refuse("fit", arguments, RENAMED)
    assert sorted(path.name for path in root.iterdir()) == ["checkpoints"]
    monkeypatch.setenv("LOCAL_RANK", "1")  # which starts when the first rank trains
    refuse("fit", arguments, RENAMED)


@pytest.mark.parametrize(
    "more",
    [
        ["--ckpt_path=last"],
        ["--config", '{"ckpt_path": "last"}'],
        ["--trainer.fast_dev_run=true"],
        ["--trainer.default_root_dir", "runs/other"],
        ["--print_config"],
    ],
)
def test_a_root_that_may_hold_the_run_is_taken(root: Path, more: list[str]) -> None:
    refuse("fit", [SFT, "--trainer.default_root_dir", str(root), *more], RENAMED)


def test_a_run_may_be_evaluated_in_its_root(root: Path) -> None:
    refuse("validate", [SFT, f"--trainer.default_root_dir={root}"], RENAMED)
