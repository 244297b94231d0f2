"""Switches garbage collection off while many lasting objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_open: list[bool] = []  # the block that switched collection off: whether `forever`


@contextmanager
def without_collection(forever: bool = False) -> Iterator[None]:
    """A block without garbage collection, for imports and for many objects that stay: collection
    would take a fifth of their time. A block inside of another one changes nothing.

    Args:
        forever: later collections skip all objects that exist at the end of the block. Use it for
            the start of a process only.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    _open.append(forever)
    try:
        yield
    finally:
        collect_again()


def collect_again() -> None:
    """Ends the block here, where what has started runs for hours inside of it."""
    if _open:
        if _open.pop():
            gc.freeze()
        gc.enable()
