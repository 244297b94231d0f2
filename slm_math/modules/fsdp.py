"""The strategy `fsdp2`: Lightning's for torch's `fully_shard`, with the checkpoints of this
project.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor

from slm_math.checkpoint_files import CheckpointFiles, slice_names
from slm_math.policy.sharding import gathered, is_slice, like, own

_SLICED = ("state_dict", "optimizer_states")  # of a checkpoint


class FSDP2(ModelParallelStrategy):
    """Every rank stores a slice of each weight, of its gradient and of its moments.

    A checkpoint resumes on any number of ranks, under any strategy.

    Args:
        save_distributed_checkpoint: False has the first rank assemble and write a checkpoint as of
            a single process; True has each rank write its slices, in files beside the checkpoint.
        timeout: how long a rank waits for the others.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = False,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            timeout=timeout,
        )

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
        return self._saved(self.lightning_module.state_dict())

    def _saved(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What this rank writes of tensors: whole ones, or slices."""
        first = self.global_rank == 0
        if not self._save_distributed_checkpoint:
            return gathered(state.items(), keep=first)
        return {
            name: own(value).detach().to("cpu", copy=True)
            for name, value in state.items()
            if first or is_slice(value)
        }

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
        moments = {number: self._saved(each) for number, each in state["state"].items()}
        return {"state": moments} | ({} if self.global_rank else state | {"state": moments})

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
        if self._save_distributed_checkpoint and self.world_size > 1:
            path = Path(self.broadcast(filepath))
            names = slice_names(path, self.broadcast(uuid.uuid4().hex[:8]), self.world_size)
            if self.global_rank:
                parts = {name: checkpoint[name] for name in _SLICED if name in checkpoint}
                path = path.with_name(names[self.global_rank - 1])
                CheckpointFiles().save_checkpoint(parts, path)
            self.barrier()  # the first file names the others
            checkpoint["slices"] = names
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)


if "fsdp2" not in StrategyRegistry:
    StrategyRegistry.register("fsdp2", FSDP2, description="torch's fully_shard (FSDP2)")
