"""A client for the control routes of one `vllm serve` process: health, model, weight updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slm_math.engines import vllm_setup
from slm_math.engines.base import EngineError, Part, Weights
from slm_math.engines.endpoint import cleaned
from slm_math.engines.http import Response, TooLarge, TransportError, request
from slm_math.engines.loras import Loras
from slm_math.engines.responses import error_message
from slm_math.engines.vllm_transfer import trainer_side

START_HINT = (
    "Start the server with scripts/serve_vllm.sh, for training with WEIGHTS=nccl, file or adapters"
)


class ServerUnavailable(EngineError):
    """The server does not answer, or not yet; a later attempt may succeed."""


class VLLMServer:
    """One server.

    Attributes:
        load: the number of this process's requests in flight.
        down_since: when the server stopped answering (time.monotonic), None if it answers.
        stale: whether it answers with other weights than those that were pushed last.
        problem: the last error.
        restarted: whether it may have restarted since the last push.
        pushed_since: when weights were first pushed without a reply by them so far.
        failed_pushes: how often they have been pushed since then.
        names_weights: whether each of its responses names the weights that sampled it.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.load = 0
        self.down_since: float | None = None
        self.stale = False
        self.problem = ""
        self.restarted = False
        self.pushed_since = 0.0
        self.failed_pushes = 0
        self.names_weights = True
        self._parts: dict[Part, Callable[[], Iterable[tuple[str, Any]]]] = {}  # of a push
        self._key = key
        self._backend: str | None = None  # of the weight transfer
        self._update_open = False  # whether an update has begun and not ended
        self._transfer: Any = None  # vLLM's sender, for NCCL and IPC
        # adapters and "fixed" weights that never change, and are there
        self._still: set[Path | str] = set()
        self._pushed: str | None = None  # the version that was pushed last

    def ask(
        self, method: str, path: str, body: Any = None, seconds: float = 600.0, **query: Any
    ) -> Any:
        """The JSON response of a route, None if the body is not JSON.

        Raises ServerUnavailable if a later attempt may succeed, otherwise EngineError.
        """
        response = self.response(method, path, body, seconds, **query)
        try:
            return response.json()
        except ValueError:
            return None

    def response(
        self, method: str, path: str, body: Any = None, seconds: float = 600.0, **query: Any
    ) -> Response:
        where = f"{self.url}{path}"
        try:
            response = request(method, where, body, seconds=seconds, key=self._key, query=query)
        except (TransportError, TooLarge) as error:
            raise ServerUnavailable(cleaned(f"{where}: {error}", self._key)) from None
        if response.status == 200:
            return response
        message = cleaned(
            f"{where}: status {response.status}: {error_message(response)}", self._key
        )
        if response.status in (429, 502, 503, 504):
            raise ServerUnavailable(message)
        # the HTTP server still answers, but vLLM's engine has died
        if response.status >= 500 and path != "/health" and not self.healthy():
            raise ServerUnavailable(message)
        raise EngineError(f"{message}. {START_HINT}" if response.status in (403, 404) else message)

    def healthy(self) -> bool:
        try:
            self.response("GET", "/health", seconds=5.0)
        except EngineError as error:
            self.problem = str(error)
            return False
        return True

    def wait(self, patience: float, tell: Callable[[str], None] = print) -> None:
        """Waits until the server is up. Raises EngineError after `patience` seconds."""
        start = time.monotonic()
        announced = False
        while not self.healthy():
            if time.monotonic() - start >= patience:
                raise EngineError(
                    f"vLLM at {self.url} did not come up within {patience:g} s: {self.problem}. "
                    f"{START_HINT}"
                )
            if not announced:
                tell(f"waiting for vLLM at {self.url} (at most {patience:g} s)")
                announced = True
            time.sleep(min(1.0, patience / 10))

    def check_version(self) -> str:
        answer = self.ask("GET", "/version")
        if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
            raise EngineError(f"{self.url} is not a vLLM server. {START_HINT}")
        version = answer["version"]
        reason = vllm_setup.refusal(version)
        if reason is not None:
            raise ValueError(f"{self.url}: {reason}")
        self.names_weights = vllm_setup.names_weights(version)
        return version

    def model(self) -> Mapping[str, Any]:
        """The served model: its `id`, `root` (a path on the server) and `max_model_len`; adapters
        in the server's list are skipped.
        """
        answer = self.ask("GET", "/v1/models")
        models = answer.get("data") if isinstance(answer, dict) else None
        if (
            not isinstance(models, list)
            or not models
            or not all(isinstance(model, dict) for model in models)
        ):
            raise EngineError(f"{self.url} lists no model. {START_HINT}")
        return next((model for model in models if not model.get("parent")), models[0])

    def weights_version(self) -> str | None:
        """The version of the server's weights; None if its control routes are disabled, so that
        no other process can have changed them.
        """
        try:
            return str(self.ask("GET", "/weight_info")["weight_version"])
        except (EngineError, LookupError, TypeError):
            return None

    def config(self) -> Mapping[str, Any]:
        """The configuration of vLLM on the server."""
        return (self.ask("GET", "/server_info", config_format="json") or {}).get(
            "vllm_config"
        ) or {}

    def push(
        self,
        weights: Weights,
        version: str,
        file: Callable[[Part], Path],
        address: str | None,
        dtype: str,
        single_trainer: bool = True,
        images: bool = False,
    ) -> None:
        """Sends weights and adapters.

        Args:
            weights: what to send.
            version: the name of these weights.
            file: writes a part of the weights to a file that the server can read, and returns its
                path.
            address: this machine's address for NCCL, None to detect it.
            dtype: of the weights in transit.
            single_trainer: whether this is the only training process.
            images: whether the model sees, and vLLM remembers features of images.
        """
        if self._still and self.weights_version() != self._pushed:
            self._still.clear()  # a process that restarted unseen has what it started with
        self._parts = weights.parts(has_fixed="fixed" in self._still)
        if not (self._parts or weights.adapters):
            raise EngineError("there are no weights to send")
        self.pushed_since = self.pushed_since if self.failed_pushes else time.monotonic()
        self.failed_pushes += 1
        backend = self._backend_for(single_trainer) if self._parts else None
        self.ask("POST", "/pause", mode="wait")
        try:
            if backend is not None:
                self._send(backend, file, address, dtype)
                self._still |= {"fixed"} & self._parts.keys()
            for name, folder in Loras(weights.adapters).folders.items():
                if folder in self._still:
                    continue
                body = {"lora_name": name, "lora_path": str(folder), "load_inplace": True}
                self.ask("POST", "/v1/load_lora_adapter", body)
                self._still |= {folder} & weights.still
            self.ask("POST", "/update_weight_version", {"new_version": version})
            self._pushed = version
            if not (self.ask("POST", "/reset_prefix_cache") or {}).get("success"):
                raise EngineError(
                    f"{self.url} could not reset its prefix cache after the weight update"
                )
            if images:
                self.ask("POST", "/reset_encoder_cache")
        finally:
            if (
                not self._update_open
            ):  # vLLM would crash at the first request of a half-loaded model
                self.ask("POST", "/resume")

    def _backend_for(self, single_trainer: bool) -> str:
        """The server's weight-transfer backend. Raises EngineError if it cannot be used."""
        if self._backend is None:
            self._backend = str((self.config().get("weight_transfer_config") or {}).get("backend"))
        if self._backend not in (vllm_setup.WEIGHTS_BACKEND, "nccl", "ipc"):
            raise EngineError(
                f"{self.url} receives no weights (its weight transfer is {self._backend}): start "
                "it with scripts/serve_vllm.sh and WEIGHTS=nccl or file, or train adapters "
                "(policy.lora) with WEIGHTS=adapters"
            )
        if self._backend == "ipc" and not single_trainer:
            raise EngineError(
                f"{self.url} receives weights by ipc, which supports a single training process "
                "only: start it with WEIGHTS=nccl"
            )
        return self._backend

    def _send(
        self, backend: str, file: Callable[[Part], Path], address: str | None, dtype: str
    ) -> None:
        if backend == vllm_setup.WEIGHTS_BACKEND:
            paths = {part: str(file(part)) for part in self._parts}
            self.start_weight_update()
            for part, path in paths.items():
                self.update_weights({"path": path, "part": part})
            self.finish_weight_update()
        else:
            if self._transfer is None:
                self._transfer = trainer_side(self, backend, address, dtype)
            self._transfer.send_weights()

    def tensors(self) -> Iterator[tuple[str, Any]]:
        """The weights of the push that is under way."""
        for part in self._parts.values():
            yield from part()

    def reconnect(self) -> None:
        """Drops the connections to a process that has restarted."""
        if self._transfer is not None:
            self._transfer.shutdown()
        self._backend, self._transfer, self._update_open = None, None, False
        self._still.clear()

    # called by vLLM's senders

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.ask("POST", "/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        try:
            self.ask("POST", "/start_weight_update")
        except EngineError as error:
            if "already active" not in str(error):
                raise
            # an earlier update was interrupted; an invalid one ends it
            with suppress(EngineError):
                self.ask("POST", "/update_weights", {"update_info": {"nothing": ""}})
            self.ask("POST", "/start_weight_update")
        self._update_open = True

    def update_weights(self, update_info: Any) -> None:
        if "ipc_handles" in update_info:
            from vllm.distributed.weight_transfer.clients import _json_safe_update_payload

            update_info = _json_safe_update_payload(update_info)
        self.ask("POST", "/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.ask("POST", "/finish_weight_update")
        self._update_open = False
