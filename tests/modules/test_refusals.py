"""What cannot work is refused before a model is loaded, in a line that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)
from tiny import SCRATCH, Duo, Endpoint, Even, grpo, problems, trainer

from slm_math.cli import run
from slm_math.data.base import Source, Split
from slm_math.data.problem_data import ProblemData
from slm_math.losses.advantages import Advantage
from slm_math.losses.objective import Objective
from slm_math.modules.fsdp import FSDP2
from slm_math.modules.optim import Optim
from slm_math.modules.trainer_checks import check_fsdp2, check_strategy
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.types import Problem, Sampling, Task


def chatml(generation: bool) -> Any:
    tokenizer = SCRATCH.tokenizer()
    ending = "{% if add_generation_prompt %}<|assistant|>{% endif %}" if generation else ""
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}" + ending
    )
    return tokenizer


def test_template_without_a_generation_prompt_is_refused() -> None:
    ChatFormat(chatml(True))
    with pytest.raises(ValueError, match=r"has no generation prompt.*'<\|assistant\|>'"):
        ChatFormat(chatml(False))


@pytest.mark.parametrize("template", ["plain", "chatml"])
def test_template_whose_generation_prompt_is_empty_by_design_is_taken(template: str) -> None:
    tokenizer = SCRATCH.tokenizer()
    ChatFormat(tokenizer, template)


def test_tokenizer_without_an_end_of_sequence_is_refused() -> None:
    tokenizer = SCRATCH.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        ChatFormat(tokenizer)


class Long(Source):
    name = "long"

    def tasks(self, split: Split) -> list[Task]:
        return [Task(Problem(f"long/{n}", "8 " * n), "8") for n in (5, 400)]


def test_prompt_longer_than_the_context_is_named_before_the_model_is_loaded(tmp_path: Path) -> None:
    module = grpo()
    with pytest.raises(
        ValueError, match=r"problem long/400 makes a prompt of \d+ tokens.*context holds 512"
    ):
        trainer(tmp_path).fit(module, ProblemData(Long(), batch_size=1))
    assert module.loaded is None


def test_adapter_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    module = grpo(Policy(scratch=SCRATCH, lora=Lora(targets=("nowhere",))))
    with pytest.raises(ValueError, match="nowhere"):
        trainer(tmp_path).fit(module, problems())
    loaded = Policy(scratch=SCRATCH).load()
    with pytest.raises(ValueError, match=r"no trainable parameters: check policy\.lora\.targets"):
        LoadedPolicy(loaded.model.requires_grad_(False), {})


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "group of one": (lambda: grpo(group_size=1), "group_size must be at least 2"),
    "greedy": (lambda: grpo(sampling=Sampling(0.0)), "temperature 0"),
    "unknown role": (lambda: grpo(train_roles=("judge",)), "'judge'; SingleShot has solver"),
    "role that is not trained": (
        lambda: grpo(agent=Duo()),
        r"Duo asks for role 'judge', which is not trained.*\[solver, judge\].*engines: \{judge",
    ),
    "endpoint": (
        lambda: grpo(engines={"solver": Endpoint()}),
        "no token ids and log-probabilities.*'solver'",
    ),
    "passes": (lambda: grpo(passes=0), "passes must be at least 1"),
    "resample": (lambda: grpo(resample=-1), "resample must be at least 0"),
    "reference_update": (
        lambda: grpo(reference_update=1.5),
        "reference_update must be a number of at least 0 and of at most 1",
    ),
    "kl of parts": (
        lambda: grpo(
            advantage=Advantage(per_part=True), objective=Objective(beta=0.1, kl_in="reward")
        ),
        "exclude each other",
    ),
    "moving nothing": (lambda: grpo(reference_update=0.5), "without objective.beta there is none"),
    "no dead groups": (
        lambda: grpo(resample=1, advantage=Advantage(baseline="batch")),
        "resample drops groups",
    ),
    "tokens_per_batch": (lambda: grpo(tokens_per_batch=0), "must be at least 1"),
    "slots": (lambda: grpo(slots=0), "must be at least 1"),
    "two of a name": (
        lambda: grpo(rewards=[Even(), Even()]),
        "two rewards of role 'solver' are called 'even'",
    ),
    "reward of nobody": (
        lambda: grpo(rewards=[Even(), Even(role="judge")]),
        "is for role 'judge', but the trained roles are solver",
    ),
    "clip": (lambda: Objective(clip_low=1.5), "clip_low must lie in"),
    "dual clip": (lambda: Objective(dual_clip=0.5), "dual_clip must be 0"),
    "beta": (lambda: Objective(beta=-0.1), "beta must be >= 0"),
    "bounds": (lambda: Objective(mismatch_high=0.9), "must enclose 1"),
    "weighted k3 in the reward": (
        lambda: Objective(beta=0.1, kl="k3_weighted", kl_in="reward"),
        "needs objective.kl_in loss",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_options_that_make_no_sense_are_refused(kind: str) -> None:
    make, message = WRONG[kind]
    with pytest.raises(ValueError, match=message):
        make()


def test_role_of_a_frozen_engine_needs_no_training() -> None:
    assert grpo(agent=Duo(), engines={"judge": Endpoint()}).train_roles == ("solver",)


@pytest.mark.parametrize(
    "strategy", [FSDPStrategy(), ModelParallelStrategy(), "deepspeed_stage_2", "xla_fsdp"]
)
def test_strategies_that_would_shard_nothing_are_refused(strategy: Any) -> None:
    with pytest.raises(ValueError, match=r"would shard nothing here.*use fsdp2.*ddp.*policy\.lora"):
        check_strategy(strategy)
    for whole in ("auto", "ddp", "fsdp2", FSDP2(), DDPStrategy(), SingleDeviceStrategy("cpu")):
        check_strategy(whole)


@pytest.mark.parametrize(
    ("policy", "optim", "precision", "teacher", "message"),
    [
        (Policy(scratch=SCRATCH), Optim(), "bf16-mixed", None, "set bf16-true"),
        (Policy(scratch=SCRATCH), Optim(kind="muon"), "32-true", None, "muon needs whole matrices"),
        (Policy(scratch=SCRATCH), Optim(sharded=True), "32-true", None, "leave optim.sharded out"),
        (Policy(scratch=SCRATCH), Optim(), "32-true", "teacher.path", "name teacher.servers"),
    ],
)
def test_what_knows_no_slices_is_refused_with_fsdp2(
    policy: Policy, optim: Optim, precision: str, teacher: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^trainer\.strategy fsdp2: .*{message}"):
        check_fsdp2(policy, optim, precision, teacher)
    check_fsdp2(policy, Optim(), "32-true")


def test_strategy_is_refused_before_its_packages_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(["fit", "--config=configs/sft/full.yaml", "--trainer.strategy=deepspeed"])
    assert "strategy deepspeed would shard nothing" in capsys.readouterr().err


def test_optimizer_without_slices_is_refused_before_data_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And before other ranks are started, which would say the same."""
    with pytest.raises(SystemExit):
        run(["fit", "--config=quickstart/sft", "--config=fsdp2", "--trainer.devices=1"])
    said = capsys.readouterr().err
    assert said.count("optim.kind muon needs whole matrices") == 1
    assert "reading arithmetic" not in said


@pytest.mark.parametrize("options", [{"stop": ("",)}, {"not_first": ("a", "")}], ids=str)
def test_empty_texts_in_sampling_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not empty"):
        Sampling(**options)
