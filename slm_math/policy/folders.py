"""Where the files of a model are: in a folder, or in the cache of the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

CERTIFICATE = "certificate.json"  # beside an exported model, and no part of it


def expanded(path: str) -> str:
    """The path with `~` replaced, which transformers would take for a name on the hub."""
    return os.path.expanduser(path)


def is_folder_name(path: str) -> bool:
    """Whether a path can only be that of a folder; a hub model is written owner/name."""
    return (
        path.startswith((".", "/", "~"))
        or path.count("/") != 1
        or Path(expanded(path)).parent.is_dir()
    )


def check_exists(path: str) -> None:
    """Raises ValueError for a path that can only be that of a folder, and there is none."""
    if is_folder_name(path) and not Path(expanded(path)).exists():
        raise ValueError(f"model path {path} does not exist (a hub model is written owner/name)")


def is_hub_name(path: str) -> bool:
    """Whether a path is a name on the hub, and no folder here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", path)) and not Path(path).exists()


def local_folder(path: str) -> Path | None:
    """The folder with a model's files: `path`, or the folder of a hub model's revision in the
    cache; None if the model was not downloaded.
    """
    folder = Path(expanded(path))
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        return None  # no name on the hub
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "adapter_config.json"):
        cached = try_to_load_from_cache(path, name)
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def revision_of(path: str) -> str | None:
    """The commit of a hub model in the cache; None for a folder."""
    folder = local_folder(path)
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None


def check_export_folder(root: Path, name: str, sources: Iterable[str]) -> None:
    """Raises ValueError for an export folder that would replace the run's root, or a model that the
    run reads: on resume, another one would be in its place.

    Args:
        root: the root of the run.
        name: of the export folder, under the root.
        sources: the models that the run reads.
    """
    target = (root / name).resolve()
    if root.resolve().is_relative_to(target):
        raise ValueError(
            f"the export would replace the run's folder {root}: name a folder inside it, "
            "such as export"
        )
    for source in sources:
        folder = Path(expanded(source))
        if folder.is_dir() and folder.resolve().is_relative_to(target):
            raise ValueError(
                f"the export would replace {source}, which this run reads: choose another "
                f"default_root_dir, or another folder than {name} for ExportHF"
            )
