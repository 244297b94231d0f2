"""A document of HTML that loads nothing from elsewhere and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined


def own(name: str, package: str = "slm_math.report") -> str:
    """The text of a file of a package."""
    return (files(package) / name).read_text(encoding="utf-8").strip()


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A template with its values, which are escaped unless they are `Markup`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(values)


def policy(script: str, style: str = "'unsafe-inline'", connect: str = "'none'") -> str:
    """A content security policy that allows only the page's own script and forbids loading.

    Args:
        script: the only script that runs.
        style: which styles apply.
        connect: what the script may ask.
    """
    rules = (
        "default-src 'none'",
        f"style-src {style}",
        "img-src data:",
        f"script-src {hashed(script)}",
        f"connect-src {connect}",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def hashed(text: str) -> str:
    """How a policy names a script or a style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def embedded(data: Any) -> str:
    """JSON for a script element: no text in it can close the element or open a comment."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
