"""Data sets and data modules. The data modules are imported when they are asked for, since they
need lightning, and what only reads problems does not.
"""

from typing import TYPE_CHECKING

from slm_math.data.arithmetic import Arithmetic
from slm_math.data.base import Source, Split
from slm_math.data.benchmarks import Benchmark
from slm_math.data.chats import Chats
from slm_math.data.clevr_math import CLEVRMath
from slm_math.data.competition_math import MATH
from slm_math.data.cot import CoT
from slm_math.data.drafts import Drafts
from slm_math.data.geometry3k import Geometry3K
from slm_math.data.gsm8k import GSM8K
from slm_math.data.llava import LLaVAOneVision, MultiMath
from slm_math.data.math500 import MATH500
from slm_math.data.mixture import Mixture
from slm_math.data.reasoning import ReasoningGym
from slm_math.data.shapes import Shapes
from slm_math.data.table import Table
from slm_math.data.video_r1 import VideoR1
from slm_math.data.visual_benchmarks import VisualBenchmark
from slm_math.lazy import imported_later

if TYPE_CHECKING:
    from slm_math.data.chat_data import ChatData
    from slm_math.data.problem_data import ProblemData

__all__ = [
    "GSM8K",
    "MATH",
    "MATH500",
    "Arithmetic",
    "Benchmark",
    "CLEVRMath",
    "ChatData",
    "Chats",
    "CoT",
    "Drafts",
    "Geometry3K",
    "LLaVAOneVision",
    "Mixture",
    "MultiMath",
    "ProblemData",
    "ReasoningGym",
    "Shapes",
    "Source",
    "Split",
    "Table",
    "VideoR1",
    "VisualBenchmark",
]

__getattr__ = imported_later(__name__, {"ChatData": "chat_data", "ProblemData": "problem_data"})
