"""Imports all classes that commands take by their short names, such as `--source GSM8K`.

jsonargparse finds a short name among the subclasses that were imported. A class of a user's own
keeps its dotted path.
"""

import slm_math.agents
import slm_math.data
import slm_math.engines.checkpoint
import slm_math.engines.openai
import slm_math.engines.vllm
import slm_math.engines.vllm_servers
import slm_math.rewards  # noqa: F401
