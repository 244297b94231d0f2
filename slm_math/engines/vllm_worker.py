"""A weight-transfer backend that runs in vLLM's workers and loads weights from memory or a file.

Naming this module's `Extension` as `--worker-extension-cls` registers the backend `slm_math` with
vLLM's weight transfer (https://docs.vllm.ai/en/latest/training/weight_transfer/), beside vLLM's own
backends for GPUs, NCCL and CUDA IPC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from slm_math.engines.base import Part
from slm_math.engines.vllm_setup import WEIGHTS_BACKEND


@dataclass
class NoInit(WeightTransferInitInfo):
    """This backend needs no initialization."""


@dataclass
class WeightUpdate(WeightTransferUpdateInfo):
    """One update: (name, tensor) pairs if vLLM runs in the trainer's process, otherwise the path of
    a safetensors file.

    `part`: all weights; or those that are fixed, which later updates leave out; or the rest.
    """

    tensors: Iterable[tuple[str, Tensor]] | None = None
    path: str | None = None
    part: Part = "all"


class Transfer(WeightTransferEngine[NoInit, WeightUpdate]):
    """Loads weights, named as in a checkpoint, into the running model."""

    init_info_cls = NoInit
    update_info_cls = WeightUpdate
    fixed = frozenset[str]()  # the model's weights that arrived and never change

    def init_transfer_engine(self, init_info: NoInit) -> None:
        pass

    def start_weight_update(self) -> None:
        tied = getattr(self.model_config.hf_text_config, "tie_word_embeddings", False)
        names = {name for name, _ in self.model.named_parameters()}
        self.named = {name for name in names if not (tied and name.endswith("lm_head.weight"))}
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: WeightUpdate) -> None:
        loaded = self.model.load_weights(received_tensors(update_info))
        # some models do not report what they loaded
        loaded = self.named if loaded is None else loaded
        if update_info.part != "rest":
            self.fixed = frozenset(loaded if update_info.part == "fixed" else ())
        missing = self.named - loaded - self.fixed
        if missing and update_info.part != "fixed":
            raise ValueError(f"the update lacks {len(missing)} weights, among them {min(missing)}")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            import torch

            torch.accelerator.synchronize()

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        retie_head(self.model)

    def shutdown(self) -> None:
        pass


def received_tensors(update: WeightUpdate) -> Iterable[tuple[str, Tensor]]:
    """The (name, tensor) pairs of an update."""
    if update.tensors is not None:
        yield from update.tensors
        return
    from safetensors import safe_open

    assert update.path is not None, "the update has neither tensors nor a path"
    with safe_open(update.path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


def retie_head(model: nn.Module) -> None:
    """Makes a language-model head use the embedding's new weights again if the two are tied.

    On a CPU, a tied head otherwise keeps a packed copy of the old weights.
    """
    for inner in (model, getattr(model, "language_model", None)):
        head, body = getattr(inner, "lm_head", None), getattr(inner, "model", None)
        body = getattr(body, "text_model", body)  # of models with eyes
        embedding = getattr(body, "embed_tokens", None)
        head = getattr(head, "base_layer", head)  # adapters wrap layers
        embedding = getattr(embedding, "base_layer", embedding)
        config = getattr(inner, "config", None)
        if head is None or embedding is None or not getattr(config, "tie_word_embeddings", False):
            continue
        head.weight = embedding.weight
        if head.weight.device.type == "cpu":
            head.quant_method.process_weights_after_loading(head)


class Extension:
    """Adds nothing to the worker: naming it makes the worker import this module."""


WeightTransferEngineFactory.register_engine(WEIGHTS_BACKEND, Transfer)
