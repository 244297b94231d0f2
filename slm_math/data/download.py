"""Download models and data sets into the cache, for runs on machines without a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from slm_math.data.base import Source
from slm_math.data.files import fetch, hub_problem
from slm_math.data.hub import use_cache_if_away
from slm_math.visible import visible

_ADAPTER = "adapter_config.json"
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
    wanted = list(dict.fromkeys(models))
    for model in wanted:
        failures += _reported(model, lambda model=model: _model(model))
        base = _base_of(model)
        if base and base not in wanted:
            wanted.append(base)
    for file in dict.fromkeys(file for source in sources for file in source.hub_files()):
        failures += _reported(str(file), lambda file=file: fetch(file))
    return failures


def _model(name: str) -> Path:
    """The folder of a model: a local one unchanged, else the snapshot of a hub repository."""
    if Path(name).is_dir():
        return Path(name)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    use_cache_if_away()
    try:
        return Path(huggingface_hub.snapshot_download(name, ignore_patterns=list(_NOT_NEEDED)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"cannot get the model {name} from the hub: {hub_problem(error)}"
        ) from error


def _base_of(name: str) -> str | None:
    """The hub id of the base if `name` is an adapter that is here now."""
    from huggingface_hub import try_to_load_from_cache

    config = (
        Path(name) / _ADAPTER if Path(name).is_dir() else try_to_load_from_cache(name, _ADAPTER)
    )
    if not isinstance(config, (str, Path)) or not Path(config).is_file():
        return None
    base = json.loads(Path(config).read_text(encoding="utf-8")).get("base_model_name_or_path")
    return base if isinstance(base, str) and base.count("/") == 1 and base[0] not in "./~" else None


def _reported(name: str, get: Callable[[], Path]) -> list[str]:
    try:
        print(f"{name}: {get()}", flush=True)
    except FileNotFoundError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr, flush=True)
        return [str(error)]
    return []
