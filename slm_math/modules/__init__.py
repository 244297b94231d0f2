"""What learns. Modules are imported when they are asked for: they need torch and lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slm_math.modules.grpo import GRPOModule
    from slm_math.modules.sft import SFTModule

__all__ = ["GRPOModule", "SFTModule"]
_PLACES = {"GRPOModule": "grpo", "SFTModule": "sft"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
