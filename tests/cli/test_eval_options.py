"""`--eval.*` of training commands: the options of every AgentEval in `trainer.callbacks`."""

import re
from pathlib import Path
from typing import Any

import pytest
from cli.configs import FULL
from jsonargparse import Namespace

from slm_math.callbacks import AgentEval
from slm_math.early import refuse
from slm_math.engines.settings import Inference, RoleSampling
from slm_math.eval_options import apply_eval_options
from slm_math.parsing import RENAMED
from slm_math.training import TrainingCLI
from slm_math.types import Sampling


def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> TrainingCLI:
    monkeypatch.delenv("SLM_MATH_DATA", raising=False)  # it would be the option `data`
    root = f"--trainer.default_root_dir={tmp_path}"
    return TrainingCLI([*arguments, root, "--trainer.accelerator=cpu"], run=False)


def evaluations(cli: TrainingCLI) -> list[AgentEval]:
    return [each for each in cli.trainer.callbacks if isinstance(each, AgentEval)]


def test_options_reach_every_evaluation_and_leave_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--eval.limit", "50", "--eval.inference.sampling.max_new_tokens=64"]
    options += ["--eval.agents.vote", "MajorityVote", "--eval.agents.vote.k", "3"]
    cli = built(tmp_path, monkeypatch, *FULL, *options)
    [evaluation] = evaluations(cli)  # which is not the last callback of the list
    assert evaluation.limit == 50
    assert evaluation.inference == Inference(sampling=Sampling(0.0, max_new_tokens=64))
    assert list(evaluation.agents) == ["single_shot", "vote"]
    assert evaluation.agents["vote"].k == 3
    assert "eval" not in cli.config  # what is written down has them where they work
    assert cli.config.trainer.callbacks[0].init_args.limit == 50


def test_every_evaluation_of_a_list_takes_them() -> None:
    ours = "slm_math.callbacks."
    callbacks = [
        Namespace(class_path=f"{ours}AgentEval", init_args=Namespace(limit=4, seed=1)),
        Namespace(class_path=f"{ours}AgentEval"),
        Namespace(class_path=f"{ours}ExportHF"),
    ]
    trainer = Namespace(callbacks=callbacks)
    apply_eval_options(Namespace(eval=Namespace(limit=9), trainer=trainer))
    options = [vars(each.get("init_args") or Namespace()) for each in callbacks]
    assert options == [{"limit": 9, "seed": 1}, {"limit": 9}, {}]


def test_without_options_the_config_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [evaluation] = evaluations(built(tmp_path, monkeypatch, *FULL))
    assert evaluation.limit == 4
    assert evaluation.inference.sampling.max_new_tokens == 8


def test_a_file_and_the_environment_set_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(
        "eval:\n  limit: null\n  inference: {roles: {solver: {max_new_tokens: 5}}}\n"
        "  sources: {more: {class_path: Arithmetic, test: 30}}\n"
    )
    [evaluation] = evaluations(built(tmp_path, monkeypatch, *FULL, f"--config={file}"))
    assert evaluation.limit is None
    assert evaluation.inference.roles == {"solver": RoleSampling(max_new_tokens=5)}
    assert evaluation.inference.sampling.max_new_tokens == 8
    assert list(evaluation.sources or {}) == ["more"]
    monkeypatch.setenv("SLM_MATH_EVAL__SAMPLES", "3")
    [evaluation] = evaluations(built(tmp_path, monkeypatch, *FULL))
    assert evaluation.samples == 3


def test_an_evaluation_of_ones_own_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_eval.py").write_text(
        "from slm_math.callbacks import AgentEval\nclass Mine(AgentEval): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "[{class_path: own_eval.Mine, agents: {one: SingleShot}}]"
    cli = built(tmp_path, monkeypatch, *FULL, f"--trainer.callbacks={own}", "--eval.limit=7")
    [evaluation] = evaluations(cli)
    assert type(evaluation).__name__ == "Mine"
    assert evaluation.limit == 7


def test_without_an_evaluation_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = [*FULL, "--trainer.callbacks=[ExportHF]", "--eval.inference.sampling.top_k=5"]
    with pytest.raises(ValueError, match=r"^eval\.inference\.sampling\.top_k is an option of the"):
        built(tmp_path, monkeypatch, *none)


REFUSED = {
    "limt": ("--eval.limt=5", "there is no option --eval.limt: did you mean --eval.limit"),
    "short": ("--eval.max_new_tokens=5", "did you mean --eval.inference.sampling.max_new_tokens?"),
    "former": ("--eval.sampling.top_k=5", "did you mean --eval.inference.sampling?"),
    "agent": ("--eval.agents.a=SingelShot", "eval.agents.a: there is no class SingelShot: did"),
    "in a file": ('--config={"eval": {"top_p": 0.5}}', "mean eval.inference.sampling.top_p?"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_mistakes_are_refused_before_torch_is_imported(kind: str) -> None:
    argument, expected = REFUSED[kind]
    with pytest.raises(ValueError, match=re.escape(expected)):
        refuse("fit", [*FULL, argument], RENAMED)


def test_right_options_are_left_to_the_parser() -> None:
    options: list[Any] = ["--eval.limit", "5", "--eval.inference.sampling.top_k=5"]
    refuse("validate", [*FULL, *options, "--eval.agents.a=my.Own", "--eval.at_start=true"], RENAMED)
