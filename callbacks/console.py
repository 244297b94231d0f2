"""Where callbacks print tables."""

from __future__ import annotations

import lightning as L
from rich.console import Console


def console_of(trainer: L.Trainer) -> Console:
    """The console of the progress bar if there is one, so that a table does not break the bar."""
    progress = getattr(trainer.progress_bar_callback, "progress", None)
    return progress.console if progress is not None else Console()
