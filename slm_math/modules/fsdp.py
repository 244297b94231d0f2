"""The strategy `fsdp2`: Lightning's strategy for torch's `fully_shard`, with the checkpoints of this
project.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from slm_math.policy.sharding import gathered, like, whole


class FSDP2(ModelParallelStrategy):
    """Every rank stores a slice of each weight, of its gradient and of its moments.

    A checkpoint is that of a single process, which rank 0 assembles and writes: it resumes on any
    number of ranks, under any strategy.

    Args:
        timeout: how long a rank waits for the others.
    """

    def __init__(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.world_size  # Lightning's is the number of nodes
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        module: Any = self.lightning_module
        module.share_out(self.device_mesh["data_parallel"])
        super().setup(trainer)

    # checkpoints are read before weights are shared out, where there is a choice

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict()
        return gathered(iter(state.items()), keep=self.global_rank == 0)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        weights = dict(self.lightning_module.named_parameters())
        state = {
            name: like(value, weights[name]) if name in weights else value
            for name, value in checkpoint["state_dict"].items()
        }
        self.lightning_module.load_state_dict(state, strict=strict)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        state = Strategy.optimizer_state(self, optimizer)
        keep = self.global_rank == 0
        moments = {
            number: gathered(iter(of_weight.items()), keep)
            for number, of_weight in state["state"].items()
        }
        return state | {"state": moments if keep else {}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            shared = dict(zip(numbers, weights, strict=True))
            moments = {
                number: {
                    name: like(value, shared[number])
                    if isinstance(value, Tensor) and value.shape == shared[number].shape
                    else value
                    for name, value in of_weight.items()
                }
                for number, of_weight in state["state"].items()
            }
            optimizer.load_state_dict(state | {"state": moments})

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)


if "fsdp2" not in StrategyRegistry:
    StrategyRegistry.register("fsdp2", FSDP2, description="torch's fully_shard (FSDP2)")
