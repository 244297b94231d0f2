"""Adapters of an evaluation, on servers of their base."""

from __future__ import annotations

from slm_math.engines.base import EngineError
from slm_math.engines.loras import Loras
from slm_math.engines.vllm_control import VLLMServer
from slm_math.policy.loading import weights_hash


def load_on_server(server: VLLMServer, loras: Loras) -> dict[str, str]:
    """Loads adapters into a server, and returns name -> what the server calls it.

    What it is called depends on the adapter's weights, so that evaluations at one time do not
    exchange each other's. A server that loads no adapters while it runs must have them already,
    by the names of their roles.
    """
    names: dict[str, str] = {}
    for name, folder in loras.folders.items():
        called = f"{name}-{weights_hash(str(folder))}"
        body = {"lora_name": called, "lora_path": str(folder.absolute()), "load_inplace": True}
        try:
            server.ask("POST", "/v1/load_lora_adapter", body)
        except EngineError as error:
            if name not in _listed(server):
                raise EngineError(
                    f"{server.url} does not serve the adapter {folder}: start it with the base of "
                    f"the adapter and WEIGHTS=adapters scripts/serve_vllm.sh, or with "
                    f"--enable-lora --lora-modules {name}={folder} ({error})"
                ) from None
            called = name
        names[name] = called
    return names


def _listed(server: VLLMServer) -> list[str]:
    """The names of the adapters that a server has."""
    answer = server.ask("GET", "/v1/models")
    models = answer.get("data") if isinstance(answer, dict) else None
    return [str(model.get("id")) for model in models or () if model.get("parent")]
