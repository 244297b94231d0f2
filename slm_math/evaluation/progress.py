"""A progress bar for work on problems, one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


def with_progress(
    items: Sequence[T], console: Console, title: str, patience: float = 2.0
) -> Iterator[T]:
    """The items; on a terminal with a progress bar once they have taken longer than `patience`
    seconds.
    """
    start = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=len(items), visible=False)
        for done, item in enumerate(items):
            if done % 64 == 0 and time.monotonic() - start > patience:
                progress.update(task, completed=done, visible=True)
            yield item
