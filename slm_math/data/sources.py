"""The old place of the data sets, kept for one version: import them from `slm_math.data`."""

from slm_math.data.competition_math import MATH
from slm_math.data.cot import CoT
from slm_math.data.gsm8k import GSM8K
from slm_math.data.math500 import MATH500

__all__ = ["GSM8K", "MATH", "MATH500", "CoT"]
