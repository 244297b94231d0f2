"""What answers requests for replies. Engines are imported when they are asked for, since some need
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slm_math.engines.checkpoint import CheckpointEngine
    from slm_math.engines.openai import OpenAIEngine
    from slm_math.engines.transformers import TransformersEngine
    from slm_math.engines.vllm import VLLMEngine
    from slm_math.engines.vllm_servers import VLLMServers

__all__ = [
    "CheckpointEngine",
    "OpenAIEngine",
    "TransformersEngine",
    "VLLMEngine",
    "VLLMServers",
]
_PLACES = {
    "CheckpointEngine": "checkpoint",
    "OpenAIEngine": "openai",
    "TransformersEngine": "transformers",
    "VLLMEngine": "vllm",
    "VLLMServers": "vllm_servers",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
