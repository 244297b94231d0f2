"""The control routes of one `vllm serve` process: is it there, what is it, and how new weights get
into it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from slm_math.engines import vllm_setup
from slm_math.engines.base import EngineError, Weights
from slm_math.engines.endpoint import cleaned, said

HOW = "Start it with scripts/serve_vllm.sh, for training with WEIGHTS=nccl, file or adapters"


class NoAnswer(EngineError):
    """A server that is not there, or not yet."""


class Server:
    """The control routes of one server, and what is known about it.

    `load`: this process's requests that the server works on. `down_since`: the time
    (`time.monotonic`) since which the server has not answered, None while it answers. `stale`: the
    server answers, but not with the weights that were sent to it. `problem`: the last error.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.load = 0
        self.down_since: float | None = None
        self.stale = False
        self.problem = ""
        self.restarted = False  # perhaps: it was away, or had other weights
        self.first_push = 0.0  # when it was sent weights first that it did not answer with yet
        self.failed_pushes = 0  # times that it got weights without an answer by them since
        self.weights = Weights()
        self._key = key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers)
        self._backend: str | None = None  # how it takes weights
        self._half = False  # an update of its weights has begun, and not ended
        self._transfer: Any = None  # vLLM's sender of the trainer's side, for NCCL and IPC

    def ask(
        self, method: str, path: str, body: Any = None, seconds: float = 600.0, **query: Any
    ) -> Any:
        """The JSON that a route answers with. Raises EngineError, saying which server and what to
        do; NoAnswer where it may do better later."""
        response = self.response(method, path, body, seconds, **query)
        try:
            return response.json()
        except ValueError:
            return None

    def response(
        self, method: str, path: str, body: Any = None, seconds: float = 600.0, **query: Any
    ) -> httpx.Response:
        where, timeout = f"{self.url}{path}", httpx.Timeout(seconds, connect=5.0)
        try:
            response = self._http.request(
                method, where, json=body, params=query or None, timeout=timeout
            )
        except httpx.TransportError as error:
            raise NoAnswer(
                cleaned(f"{where}: {type(error).__name__}: {error}", self._key)
            ) from None
        if response.status_code == 200:
            return response
        message = cleaned(f"{where}: status {response.status_code}: {said(response)}", self._key)
        if response.status_code in (429, 502, 503, 504):
            raise NoAnswer(message)
        # its engine is dead
        if response.status_code >= 500 and path != "/health" and not self.healthy():
            raise NoAnswer(message)
        raise EngineError(f"{message}. {HOW}" if response.status_code in (403, 404) else message)

    def healthy(self) -> bool:
        try:
            self.response("GET", "/health", seconds=5.0)
        except EngineError as error:
            self.problem = str(error)
            return False
        return True

    def wait(self, patience: float, tell: Callable[[str], None] = print) -> None:
        """Until it is up. Raises EngineError when that takes longer than `patience` seconds."""
        start = time.monotonic()
        told = False
        while not self.healthy():
            if time.monotonic() - start >= patience:
                raise EngineError(
                    f"vLLM at {self.url} did not come up within {patience:g} s: {self.problem}. "
                    f"{HOW}"
                )
            if not told:
                tell(f"waiting for vLLM at {self.url} (at most {patience:g} s)")
                told = True
            time.sleep(min(1.0, patience / 10))

    def check_version(self) -> str:
        said = self.ask("GET", "/version")
        if not isinstance(said, dict) or not isinstance(said.get("version"), str):
            raise EngineError(f"{self.url} is no vLLM server. {HOW}")
        found = said["version"]
        reason = vllm_setup.refusal(found)
        if reason is not None:
            raise ValueError(f"{self.url}: {reason}")
        return found

    def model(self) -> Mapping[str, Any]:
        """What it serves: `id`, `root` (a path there) and `max_model_len`; adapters are not models
        of their own.
        """
        said = self.ask("GET", "/v1/models")
        models = said.get("data") if isinstance(said, dict) else None
        if (
            not isinstance(models, list)
            or not models
            or not all(isinstance(model, dict) for model in models)
        ):
            raise EngineError(f"{self.url} lists no model. {HOW}")
        return next((model for model in models if not model.get("parent")), models[0])

    def weights_version(self) -> str | None:
        """The name of its weights; None where control routes are closed, and nobody can have sent
        it any.
        """
        try:
            return str(self.ask("GET", "/weight_info")["weight_version"])
        except (EngineError, LookupError, TypeError):
            return None

    def config(self) -> Mapping[str, Any]:
        """vLLM's own configuration."""
        return (self.ask("GET", "/server_info", config_format="json") or {}).get(
            "vllm_config"
        ) or {}

    def push(
        self,
        weights: Weights,
        version: str,
        file: Callable[[], Path],
        address: str | None,
        dtype: str,
        single_trainer: bool = True,
    ) -> None:
        """Sends weights, adapters and their `version`; `file` writes the weights to a file that the
        server can read; `single_trainer`: no other process trains."""
        self.weights = weights
        has_tensors = next(iter(weights.tensors()), None) is not None
        if not (has_tensors or weights.adapters):
            raise EngineError("there are no weights to send")
        self.first_push = self.first_push if self.failed_pushes else time.monotonic()
        self.failed_pushes += 1
        backend = self._takes(single_trainer) if has_tensors else None
        self.ask("POST", "/pause", mode="wait")
        try:
            if backend is not None:
                self._send(backend, file, address, dtype)
            for role, folder in weights.adapters.items():
                body = {"lora_name": role, "lora_path": str(folder), "load_inplace": True}
                self.ask("POST", "/v1/load_lora_adapter", body)
            self.ask("POST", "/update_weight_version", {"new_version": version})
            if not (self.ask("POST", "/reset_prefix_cache") or {}).get("success"):
                raise EngineError(
                    f"{self.url} would not forget what it computed with the old weights"
                )
        finally:
            if not self._half:  # half a model would end it at the first request
                self.ask("POST", "/resume")

    def _takes(self, single_trainer: bool) -> str:
        """How it takes weights. Raises EngineError when it takes none, or not from here."""
        if self._backend is None:
            self._backend = str((self.config().get("weight_transfer_config") or {}).get("backend"))
        if self._backend not in (vllm_setup.WEIGHTS_BACKEND, "nccl", "ipc"):
            raise EngineError(
                f"{self.url} takes no weights (its weight transfer is {self._backend}): start it "
                f"with WEIGHTS=nccl or "
                "file (scripts/serve_vllm.sh), or train adapters (policy.lora) with "
                "WEIGHTS=adapters"
            )
        if self._backend == "ipc" and not single_trainer:
            raise EngineError(
                f"{self.url} takes weights by ipc, from one training process only: start it with "
                f"nccl"
            )
        return self._backend

    def _send(
        self, backend: str, file: Callable[[], Path], address: str | None, dtype: str
    ) -> None:
        if backend == vllm_setup.WEIGHTS_BACKEND:
            path = str(file())
            self.start_weight_update()
            self.update_weights({"path": path})
            self.finish_weight_update()
        else:
            if self._transfer is None:
                self._transfer = trainer_side(self, backend, address, dtype)
            self._transfer.send_weights()

    def forget(self) -> None:
        """After a restart nothing of the old process is left to talk to."""
        if self._transfer is not None:
            self._transfer.shutdown()
        self._backend, self._transfer, self._half = None, None, False

    # what vLLM's senders call

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.ask("POST", "/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        try:
            self.ask("POST", "/start_weight_update")
        except EngineError as error:
            if "already active" not in str(error):
                raise
            # somebody was stopped in the middle; an update that fails ends theirs
            with suppress(EngineError):
                self.ask("POST", "/update_weights", {"update_info": {"nothing": ""}})
            self.ask("POST", "/start_weight_update")
        self._half = True

    def update_weights(self, update_info: Any) -> None:
        if "ipc_handles" in update_info:
            from vllm.distributed.weight_transfer.clients import _json_safe_update_payload

            update_info = _json_safe_update_payload(update_info)
        self.ask("POST", "/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.ask("POST", "/finish_weight_update")
        self._half = False


def trainer_side(server: Server, backend: str, address: str | None, dtype: str) -> Any:
    """vLLM's sender over NCCL (a group of this process and the server's workers) or CUDA IPC (on
    one and the same GPU).

    Not tried without GPUs.
    """
    import socket

    import torch

    vllm_setup.imported()
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    class Source(WeightSource):
        def metadata(self) -> list[Any]:
            return [
                ParamMeta(name, wire, tuple(tensor.shape))
                for name, tensor in server.weights.tensors()
            ]

        def __iter__(self) -> Any:
            for name, tensor in server.weights.tensors():
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
    return WeightTransferTrainerFactory.trainer_init(info, client=server, source=Source())


def reachable(url: str) -> str:
    """The address of this machine on the way to a server."""
    import socket

    parsed = httpx.URL(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parsed.host, parsed.port or 80))  # sends nothing
        return probe.getsockname()[0]


def tensors_file(weights: Iterable[tuple[str, Any]], path: Path, dtype: str) -> Path:
    """Writes weights where servers can read them; renamed into place, so that nobody reads half a
    file.
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
