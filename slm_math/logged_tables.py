"""Tables in the loggers of a run that can show them: TensorBoard, W&B and trackio."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from slm_math.trackio_logger import TrackioLogger


def log_table(
    loggers: Iterable[Logger],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | float | None]],
    step: int,
) -> None:
    """Logs a table of a step. Texts must not hold control characters; all else in them is shown
    literally: TensorBoard gets them escaped, the others show texts as they are.
    """
    for logger in loggers:
        if isinstance(logger, (WandbLogger, TrackioLogger)):
            data = [list(row) for row in rows]
            logger.log_table(key=name, columns=list(columns), data=data, step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown_table(columns, rows), step)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown whose texts neither Markdown nor HTML give a meaning."""
    lines = [columns, ["---"] * len(columns)]
    head = [" | ".join(line) for line in lines]
    return "\n".join(f"| {line} |" for line in (*head, *(" | ".join(map(cell, r)) for r in rows)))


def cell(value: str | float | None) -> str:
    """A value in a table in Markdown: every sign but letters and digits as its number."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"{value:.4g}"
    signs = (f"&#{ord(sign)};" if sign in string.punctuation else sign for sign in value)
    return "".join(signs).replace("\n", "<br>")
