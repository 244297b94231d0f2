"""The first step of a run beside its plan."""

from __future__ import annotations

from typing import Any

import torch

from slm_math.modules.base import PolicyModule
from slm_math.modules.rollouts import RolloutModule
from slm_math.planning.devices import CONTEXT, device_named, here
from slm_math.planning.network import Sizes
from slm_math.planning.of_run import problems_step, rows_step, setup_of
from slm_math.planning.predict import RunPlan, predict
from slm_math.planning.workload import Workload


def first_step_line(module: PolicyModule, items: Any, idle: int, seconds: float, peak: int) -> str:
    """What the first step took, and what a plan says of it.

    Args:
        module: what learns.
        items: the rows or problems of the step.
        idle: bytes of the process before the model was loaded.
        seconds: the time of the step.
        peak: the most bytes of the process, or of the GPU, so far.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # the run must stay what it would have been
            plan = first_step_plan(module, items, idle)
    except Exception:  # of an architecture that nobody has planned for; it can be trained, though
        return f"first step: {seconds:.3g} s, peak memory {peak >> 20} MiB"
    # what CUDA itself takes is not among the bytes that torch counts
    planned = plan.peak - (CONTEXT if module.device.type == "cuda" else 0)
    return (
        f"first step: {seconds:.3g} s (plan {plan.seconds:.3g}), peak memory {peak >> 20} MiB "
        f"(plan {planned >> 20})"
    )


def first_step_plan(module: PolicyModule, items: Any, idle: int) -> RunPlan:
    """The plan of a step on these rows or problems, of a model that is loaded."""
    is_grpo = isinstance(module, RolloutModule)
    step = problems_step(module, items) if is_grpo else rows_step(module, items)
    assert module.loaded is not None
    return predict(
        setup_of(module, str(module.trainer.precision)),
        Workload((step,)),
        device_named(here() if module.device.type == "cuda" else "cpu"),
        idle,
        sizes=Sizes.of(module.loaded),
        first=True,
    )
