"""The precision of closed forms."""

from closeness import close, dtype

__all__ = ["close", "dtype"]
