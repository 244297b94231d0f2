"""The state of all global random number generators, and the number of threads, as plain data for a
checkpoint.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from slm_math.policy.threads import resume_threads


def random_state() -> dict[str, Any]:
    """What `restore_random_state` takes: plain values, as torch loads no arrays."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restores the state of the random generators, and the number of threads."""
    resume_threads(state.get("threads"))
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
