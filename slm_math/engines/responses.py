"""What servers say: their errors, their wishes, their counts."""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from slm_math.engines.http import Response

_CONTENT = re.compile(r"moderat|flagged|content|safety|polic", re.I)
_KEY = re.compile(r"(invalid|incorrect) api[ _]key|api[ _]key (is )?not valid", re.I)


def error_message(response: Response) -> str:
    """The error message in a response's body, or the body itself."""
    try:
        body = response.json()
        body = body.get("error", body)
        return (
            body
            if isinstance(body, str)
            else str(body.get("message") or body.get("detail") or response.text)
        )
    except (ValueError, AttributeError):
        return response.text


def retry_after(response: Response) -> float:
    """Seconds until a retry, from the header Retry-After, which holds a number or a date; 0 without
    a valid one.
    """
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(seconds, 0.0)


def refuses_all(response: Response, api_key_env: str) -> str | None:
    """What to change if a server refuses every request as it refused this one: the key, the account
    or the name of the model. None if another request may succeed.
    """
    codes, message = _codes(response), error_message(response)
    key = f"set the environment variable {api_key_env} to a valid API key"
    if response.status == 401 or "invalid_api_key" in codes or _KEY.search(message):
        return key
    if response.status == 402 or "insufficient_quota" in codes:
        return f"add to the account of the API key in {api_key_env}: it has no quota left"
    # some servers refuse a single request so, for what it is about
    if response.status == 403 and not _CONTENT.search(message):
        return f"{key}, of an account that may use this model"
    if "model_not_found" in codes:
        return "set model to a name that the server knows"
    return None


def _codes(response: Response) -> set[str]:
    """The codes and types of the error in a response's body."""
    try:
        body = response.json()
        error = body.get("error", body)
        return {error[name] for name in ("code", "type") if isinstance(error.get(name), str)}
    except (ValueError, AttributeError):
        return set()


MOST_TOKENS = 1 << 24  # no context is longer


def count(usage: Any, name: str) -> int:
    """The number of tokens that a server reports; 0 for what cannot be one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value <= MOST_TOKENS else 0
