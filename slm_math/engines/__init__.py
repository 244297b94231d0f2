"""What answers requests for replies. Engines are imported when they are asked for, since some need
torch.
"""

from typing import TYPE_CHECKING

from slm_math.lazy import imported_later

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
__getattr__ = imported_later(
    __name__,
    {
        "CheckpointEngine": "checkpoint",
        "OpenAIEngine": "openai",
        "TransformersEngine": "transformers",
        "VLLMEngine": "vllm",
        "VLLMServers": "vllm_servers",
    },
)
