"""How an extra of this installation is added to it."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install(extra: str) -> str:
    """The command that adds an extra, such as `train`, from the clone or the wheel that slm-math
    was installed from. It never names slm-math alone, which pip would look for at PyPI, where the
    name is not this project's.
    """
    origin = _origin()
    if origin is None:
        return f"pip install '.[{extra}]' in a clone of slm-math"
    return f"pip install '{origin}[{extra}]'"


def _origin() -> Path | None:
    """The folder or wheel that pip installed (PEP 610), if it is still there."""
    try:
        text = distribution("slm_math").read_text("direct_url.json")
        address = urlsplit(json.loads(text)["url"]) if text else None
    except (PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    if address is None or address.scheme != "file":
        return None
    path = Path(url2pathname(address.path))
    return path if path.exists() else None
