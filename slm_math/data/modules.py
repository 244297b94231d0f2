"""The old place of the data modules, kept for one version: import them from `slm_math.data`."""

from slm_math.data.batches import Batches, ItemBatch, run_seed
from slm_math.data.chat_data import ChatData
from slm_math.data.problem_data import ProblemData
from slm_math.data.selection import sample_tasks, select_problems

Items = ItemBatch
take = sample_tasks
choose = select_problems

__all__ = ["Batches", "ChatData", "Items", "ProblemData", "choose", "run_seed", "take"]
