"""Lightning callbacks of slm-math: `class_path: callbacks.AgentEval` in a config."""

from callbacks.agent_eval import AgentEval
from callbacks.checkpoints import Checkpoints
from callbacks.export import ExportHF
from callbacks.progress import Progress
from callbacks.rollout_log import RolloutLog
from callbacks.rollout_table import RolloutTable
from callbacks.stop_reason import StopReason
from callbacks.summary import Summary
from callbacks.watchdog import Watchdog

__all__ = [
    "AgentEval",
    "Checkpoints",
    "ExportHF",
    "Progress",
    "RolloutLog",
    "RolloutTable",
    "StopReason",
    "Summary",
    "Watchdog",
]
