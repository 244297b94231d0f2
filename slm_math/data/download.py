"""Download models and data sets into the cache, for runs on machines without a network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from slm_math.data.base import Source
from slm_math.data.files import fetch, hub_problem
from slm_math.visible import visible

# weights for other frameworks, and duplicates
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
    """Downloads hub models and the hub files of data sets into the cache, each once.

    Every failure is one line on stderr and in the returned list; the other downloads continue. An
    interrupted download is resumed.
    """
    failures = []
    for model in dict.fromkeys(models):
        failures += _reported(model, lambda model=model: _model(model))
    for file in dict.fromkeys(file for source in sources for file in source.hub_files()):
        failures += _reported(str(file), lambda file=file: fetch(file))
    return failures


def _model(name: str) -> Path:
    """The folder of a model: a local one unchanged, else the snapshot of a hub repository."""
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
        print(f"error: {visible(str(error))}", file=sys.stderr, flush=True)
        return [str(error)]
    return []
