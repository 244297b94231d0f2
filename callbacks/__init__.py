"""Lightning callbacks: `class_path: AgentEval` in a config, `slm_math.callbacks` in code."""

from slm_math.callbacks.agent_eval import AgentEval
from slm_math.callbacks.checkpoints import Checkpoints
from slm_math.callbacks.export import ExportHF
from slm_math.callbacks.progress import Progress
from slm_math.callbacks.rollout_log import RolloutLog
from slm_math.callbacks.rollout_table import RolloutTable
from slm_math.callbacks.status import Status
from slm_math.callbacks.stop_reason import StopReason
from slm_math.callbacks.summary import Summary
from slm_math.callbacks.watchdog import Watchdog

__all__ = [
    "AgentEval",
    "Checkpoints",
    "ExportHF",
    "Progress",
    "RolloutLog",
    "RolloutTable",
    "Status",
    "StopReason",
    "Summary",
    "Watchdog",
]
