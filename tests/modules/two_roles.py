"""What tests of roles share: adapters that do something, greedy replies, and settings of runs with
two roles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from answering import answer
from tiny import Duo, Even

from slm_math.engines.base import Request
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.types import Sampling, user

TWO = Lora(r=2, dropout=0.0)
GREEDY = Sampling(0.0, max_new_tokens=8)


def adapter(base: Path, folder: Path, seed: int, **options: Any) -> Path:
    """Exports an adapter that does something, and returns its folder."""
    torch.manual_seed(seed)
    policy = Policy(path=str(base), lora=Lora(**({"r": 2, "dropout": 0.0} | options)))
    loaded = policy.load()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    export_policy(loaded, policy.chat(), folder)
    return folder


def replies(engine: Any, role: str) -> list[tuple[int, ...]]:
    """The tokens that a role of an engine replies to each of six problems."""
    asked = [Request(user(f"{n} + {n} = ?"), GREEDY, role=role) for n in range(6)]
    return [reply.token_ids for reply in answer(engine, asked)]


FAST = Optim(lr=3e-2, warmup=0, schedule="constant")
PAIR = ("solver", "judge")
BOTH: dict[str, Any] = {
    "agent": Duo(),
    "rewards": [Even(), Even(role="judge")],
    "train_roles": PAIR,
    "optim": FAST,
}
