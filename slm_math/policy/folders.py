"""Where the files of a model are: in a folder, or in the cache of the hub."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str) -> str:
    """The path with `~` replaced, which transformers would take for a name on the hub."""
    return os.path.expanduser(path)


def local_folder(path: str) -> Path | None:
    """The folder with a model's files: `path`, or the folder of a hub model's revision in the
    cache; None if the model was not downloaded.
    """
    folder = Path(expanded(path))
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "adapter_config.json"):
        cached = try_to_load_from_cache(path, name) if path.count("/") == 1 else None
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def revision_of(path: str) -> str | None:
    """The commit of a hub model in the cache; None for a folder."""
    folder = local_folder(path)
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None
