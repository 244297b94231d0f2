"""Switches garbage collection off while many lasting objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection(forever: bool = False) -> Iterator[None]:
    """A block without garbage collection, for imports and for many objects that stay: collection
    would take a fifth of their time.

    Args:
        forever: later collections skip all objects that exist at the end of the block. Use it for
            the imports at the start of a process only.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if forever:
            gc.freeze()
        if was_enabled:
            gc.enable()
