"""What learns. Modules are imported when they are asked for: they need torch and lightning."""

from typing import TYPE_CHECKING

from slm_math.lazy import imported_later

if TYPE_CHECKING:
    from slm_math.modules.grpo import GRPOModule
    from slm_math.modules.sft import SFTModule

__all__ = ["GRPOModule", "SFTModule"]
__getattr__ = imported_later(__name__, {"GRPOModule": "grpo", "SFTModule": "sft"})
