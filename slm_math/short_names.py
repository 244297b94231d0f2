"""Imports all classes that every command takes by their short names, such as `--source GSM8K`.

jsonargparse finds a short name among the subclasses that were imported. A class of a user's own
keeps its dotted path. Error messages list the classes of these modules, not the classes that they
build on (`Fleet`, `EndpointEngine`), which no config can name.
"""

import slm_math.agents
import slm_math.data
import slm_math.rewards  # noqa: F401
from slm_math.engines.batches import OpenAIBatches
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.openai import OpenAIEngine
from slm_math.engines.vllm import VLLMEngine
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.sandbox import RemoteSandbox, Sandbox

__all__ = [
    "CheckpointEngine",
    "OpenAIBatches",
    "OpenAIEngine",
    "RemoteSandbox",
    "Sandbox",
    "VLLMEngine",
    "VLLMServers",
]
