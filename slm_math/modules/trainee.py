"""What the engines of a policy need of the module that trains it."""

from __future__ import annotations

from typing import Any, Protocol

import lightning as L
import torch

from slm_math.engines.settings import Inference
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy


class Trainee(Protocol):
    """What serving needs of a module under training."""

    policy: Policy
    loaded: LoadedPolicy | None
    inference: Inference
    train_roles: tuple[str, ...]
    frozen: dict[str, str]
    forward_context: Any
    trainer: L.Trainer
    device: torch.device
    global_step: int
    ahead: int

    @property
    def shares_out(self) -> bool: ...

    def skeleton(self) -> LoadedPolicy: ...

    @property
    def chat(self) -> ChatFormat: ...

    @property
    def ends(self) -> frozenset[int]: ...

    def progress(self, phase: str, done: int, total: int) -> None: ...

    def heartbeat(self) -> None: ...
