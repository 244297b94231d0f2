"""Fetch models and data sets ahead of time, so that a run on a machine without a network finds them
in the cache.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from slm_math.data.base import Source
from slm_math.data.files import HubFile, fetch, hub_problem

# Weights for other frameworks, and second copies.
_NOT_NEEDED = (
    "*.gguf",
    "*.onnx",
    "*.onnx_data",
    "*.msgpack",
    "*.h5",
    "*.ot",
    "*.tflite",
    "*.pth",
    "onnx/*",
    "original/*",
)


def download(models: Sequence[str] = (), sources: Sequence[Source] = ()) -> list[str]:
    """Bring hub models and the hub files of data sets into the cache, with progress; nothing is
    fetched twice.

    Every failure is one line on stderr and in the returned list; the rest is still fetched. An
    interrupted download continues where it stopped.
    """
    failures = []
    for model in dict.fromkeys(models):
        failures += _reported(model, lambda model=model: _model(model))
    for file in dict.fromkeys(file for source in sources for file in hub_files(source)):
        failures += _reported(str(file), lambda file=file: fetch(file))
    return failures


def hub_files(source: Source) -> list[HubFile]:
    """The hub files that a source reads; [] when all its data is local."""
    files = getattr(source, "hub_files", None)
    return list(files()) if files else []


def _model(name: str) -> Path:
    """The local folder of a model: as it is, or a snapshot of a hub repository."""
    if Path(name).is_dir():
        return Path(name)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(huggingface_hub.snapshot_download(name, ignore_patterns=list(_NOT_NEEDED)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"cannot get the model {name} from the hub: {hub_problem(error)}"
        ) from error


def _reported(name: str, get: Callable[[], Path]) -> list[str]:
    try:
        print(f"{name}: {get()}", flush=True)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return [str(error)]
    return []
