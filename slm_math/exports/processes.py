"""Programs that look at an export in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # the model may fill the GPU of the training run


def run_python(
    arguments: Sequence[str | Path], environment: Mapping[str, str], place: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments, without input, a shell or the hub; says what became of it.

    Args:
        arguments: of Python.
        environment: what is added to that of this process.
        place: the working directory; that of this process by default.
    """
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=place,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
