"""An export on the Hugging Face hub; the token comes from the environment only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

TOKEN = "HF_TOKEN"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_push(name: str) -> None:
    """Raises ValueError for a name that no repository has, or without a token."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"--push takes OWNER/NAME, got {name!r}")
    if not os.environ.get(TOKEN):
        raise ValueError(
            f"--push needs a token that may write, in the environment: {TOKEN}=... (it is written "
            "nowhere)"
        )
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise ValueError("--push needs the hub, and HF_HUB_OFFLINE is set: unset it")


def push_folder(folder: Path, name: str, private: bool = True) -> str:
    """Uploads all files of a folder to the repository `owner/name`, which is made if there is none,
    and returns the address of the commit. One that exists keeps who may see it.

    Raises ValueError in one line for what the hub refuses.
    """
    check_push(name)
    from huggingface_hub import HfApi, errors

    api = HfApi(token=os.environ[TOKEN])
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done: Any = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Export of slm-math"
        )
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = error.server_message or str(error).partition("\n")[0]
        raise ValueError(
            f"{folder} is exported, but the hub did not take it as {name} (HTTP status {status}): "
            f"{reason}; then: hf upload {name} {folder}"
        ) from error
    except (OSError, getattr(errors, "HTTPError", OSError)) as error:  # that of its HTTP library
        raise ValueError(
            f"{folder} is exported, but the hub could not be reached: {str(error)[:200]}; then: hf "
            f"upload {name} {folder}"
        ) from error
    return str(done.commit_url)
