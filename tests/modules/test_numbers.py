"""A number that makes no sense is refused where it is set, in a line that names the option."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from tiny import Even, chats, grpo, problems, sft

from slm_math.agents import MajorityVote, SingleShot, SolverVerifier
from slm_math.callbacks import AgentEval, Progress, RolloutTable
from slm_math.data.arithmetic import Arithmetic
from slm_math.engines.settings import Inference, Vllm
from slm_math.losses.advantages import Advantage
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora
from slm_math.policy.scratch import Scratch
from slm_math.rewards import Correct
from slm_math.types import Sampling

# what is made -> option -> values of it that make no sense
WRONG: dict[tuple[Callable[..., Any], str], dict[str, list[Any]]] = {
    (Optim, "optim."): {
        "lr": [0, -2e-5, None, math.nan, math.inf, "1e-5", True],
        "matrix_lr": [-0.1, None, math.nan],
        "betas": [(0.9, 1.0), (-0.1, 0.9), (0.9,), 0.9, (0.9, math.nan), None],
        "weight_decay": [-0.01, math.inf, None],
        "warmup": [-1, math.nan, 7.5],
        "floor": [-0.5, 1.5, math.nan],
        "clip": [-1.0, math.nan, None],
        "kind": ["adam"],
        "schedule": ["cosin"],
    },
    (Advantage, "advantage."): {"eps": [-1e-6, math.nan], "scale": ["std"], "baseline": [None]},
    (Sampling, ""): {
        "temperature": [-0.7, math.nan, math.inf, None],
        "top_p": [0.0, 1.01, math.nan],
        "min_p": [-0.1, math.nan],
        "top_k": [-1, 2.5],
        "max_new_tokens": [0, 12.5, None],
    },
    (Inference, "inference."): {"slots": [0, -4, 1.5]},
    (Vllm, "vllm."): {"patience": [-1, math.nan], "timeout": [0, math.nan], "context": [0]},
    (Lora, "policy.lora."): {
        "r": [0, -8, 2.5],
        "alpha": [0, -16, math.nan],
        "dropout": [-0.1, 1.0, math.nan],
    },
    (Scratch, "policy.scratch."): {"hidden": [0, 30], "layers": [0], "context": [-1]},
    (chats, "data."): {
        "batch_size": [0, -8, 2.5, None],
        "limit": [0, -3],
        "max_length": [0, 1, -5],
        "prompt_weight": [-0.5, math.nan],
    },
    (problems, "data."): {"batch_size": [0], "limit": [0, -3]},
    (sft, ""): {"tokens_per_batch": [-1, 1.5]},
    (grpo, ""): {
        "group_size": [0, 2.5],
        "passes": [-2, None],
        "resample": [-2, 0.5],
        "reference_update": [math.nan, -1],
    },
    (lambda **options: Arithmetic(**options), "Arithmetic."): {"train": [-1], "bare": [1.5]},
    (lambda **options: AgentEval({"one": SingleShot()}, **options), "AgentEval."): {
        "limit": [0, -3],
        "samples": [0, -1],
        "every_n_epochs": [0],
        "every_n_steps": [0],
    },
    (RolloutTable, "RolloutTable."): {"every_n_batches": [0], "rows": [-1]},
    (Progress, "Progress."): {"line_seconds": [-1.0, math.nan]},
    (MajorityVote, "MajorityVote."): {"temperature": [-1.0, math.nan], "top_p": [0.0, 2.0]},
    (SolverVerifier, "SolverVerifier."): {"retry_temperature": [-0.1]},
}
CASES = [
    pytest.param(make, prefix + option, option, value, id=f"{prefix}{option}={value}")
    for (make, prefix), options in WRONG.items()
    for option, values in options.items()
    for value in values
]


@pytest.mark.parametrize(("make", "named", "option", "value"), CASES)
def test_number_that_makes_no_sense_is_refused(
    make: Callable[..., Any], named: str, option: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=r"must|share of all steps") as caught:
        make(**{option: value})
    assert str(caught.value).startswith(named)
    assert "\n" not in str(caught.value)


def test_rate_of_a_role_is_checked_as_that_of_all() -> None:
    with pytest.raises(ValueError, match=r"optim\.role_lr\.judge must be a number .*, got -0\.5"):
        Optim(role_lr={"solver": 1e-4, "judge": -0.5})


def test_rate_of_a_role_is_refused_where_muon_would_not_use_it() -> None:
    with pytest.raises(ValueError, match=r"optim\.role_lr names judge, .* optim\.matrix_lr"):
        Optim(kind="muon", role_lr={"judge": 1e-3})
    assert Optim(kind="muon", role_lr={}).kind == "muon"


def test_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Correct\.wrong must be a number .*, got nan"):
        grpo(rewards=[Even(), Correct(wrong=math.nan)])


def test_bounds_themselves_are_taken() -> None:
    assert Optim(warmup=1, floor=1, clip=0, betas=(0.0, 0.0), weight_decay=0).clip == 0
    assert Sampling(temperature=0, top_p=1, min_p=1, top_k=0, max_new_tokens=1).top_p == 1
    assert chats(limit=1, batch_size=1, max_length=2, prompt_weight=0).limit == 1
