"""How weights leave the trainer for `vllm serve` processes: over NCCL, CUDA IPC, or in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from slm_math.engines import vllm_setup
from slm_math.engines.base import Part, Weights


class Receiver(Protocol):
    """The client of a server, which vLLM's senders call, too."""

    url: str

    def ask(
        self, method: str, path: str, body: Any = None, seconds: float = 600.0, **query: Any
    ) -> Any: ...

    def tensors(self) -> Iterator[tuple[str, Any]]: ...


def trainer_side(server: Receiver, backend: str, address: str | None, dtype: str) -> Any:
    """vLLM's sender of weights over NCCL (a group of this process and the server's workers) or CUDA
    IPC (trainer and server on the same GPU).
    """
    import socket

    import torch

    vllm_setup.import_vllm()
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    class TrainerWeights(WeightSource):
        def metadata(self) -> list[Any]:
            return [ParamMeta(name, wire, tuple(tensor.shape)) for name, tensor in server.tensors()]

        def __iter__(self) -> Any:
            for name, tensor in server.tensors():
                yield name, tensor.to(wire)

    wire = getattr(torch, dtype)
    if backend == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        info: Any = IPCTrainerInitInfo(rank=0, packed=True)
    else:
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        size = 1 + int(server.ask("GET", "/get_world_size")["world_size"])
        info = NCCLTrainerInitInfo(
            rank=0,
            master_address=address or reachable(server.url),
            master_port=port,
            world_size=size,
        )
    return WeightTransferTrainerFactory.trainer_init(info, client=server, source=TrainerWeights())


def reachable(url: str) -> str:
    """This machine's address in the network that leads to a server."""
    import socket

    parsed = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parsed.hostname, parsed.port or 80))  # for UDP this sends nothing
        return probe.getsockname()[0]


class WeightFiles:
    """The files of an update, each written once for all servers.

    Args:
        weights: of the update.
        folder: which the servers can read.
        dtype: of the weights in the files.
    """

    def __init__(self, weights: Weights, folder: Path, dtype: str) -> None:
        self._weights, self._folder, self._dtype = weights, folder, dtype
        self._written: dict[Part, Path] = {}

    def path(self, part: Part) -> Path:
        """The file with a part of the weights."""
        if part not in self._written:
            name, tensors = "weights", self._weights.tensors()
            if part == "fixed":
                name, tensors = "fixed", self._weights.fixed()
            path = (self._folder / f"{name}.safetensors").resolve()
            self._written[part] = tensors_file(tensors, path, self._dtype)
        return self._written[part]


def tensors_file(weights: Iterable[tuple[str, Any]], path: Path, dtype: str) -> Path:
    """Writes weights to a safetensors file and returns its path.

    The file is renamed into place, so that no server reads an incomplete file.
    """
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    save_file(
        {
            name: tensor.detach().to("cpu", getattr(torch, dtype)).contiguous()
            for name, tensor in weights
        },
        new,
    )
    new.replace(path)
    return path
