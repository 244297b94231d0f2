"""Responses of HTTP servers: read within bounds of size and time, their errors, their wishes."""

from __future__ import annotations

import math
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from email.utils import parsedate_to_datetime

import httpx

MOST_BYTES = 16 << 20  # of a reply, and BYTES_PER_TOKEN more for each token that it may have
BYTES_PER_TOKEN = 1024  # token, log-probability and text as JSON take about a third of this
ERROR_BYTES = 64 << 10  # of the message that comes with an error status; the rest is not read


class TooLarge(Exception):
    """A response is larger than it can be."""


async def bounded(stream: AbstractAsyncContextManager[httpx.Response], most: int) -> httpx.Response:
    """The response of a request, read up to `most` bytes.

    Raises TooLarge if it is larger. Of an error status only the beginning is read.
    """
    async with stream as response:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if _is_enough(response, body, most):
                break
    return _read(response, bytes(body))


def bounded_sync(
    stream: AbstractContextManager[httpx.Response], most: int, seconds: float
) -> httpx.Response:
    """The same for a client without asyncio, within `seconds` from now on."""
    end = time.monotonic() + seconds
    with stream as response:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if _is_enough(response, body, most):
                break
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"the reply did not end within {seconds:g} s")
    return _read(response, bytes(body))


def _is_enough(response: httpx.Response, body: bytearray, most: int) -> bool:
    """Whether the rest of the body is not needed. Raises TooLarge if there is too much of it."""
    if not response.is_error and len(body) > most:
        raise TooLarge(f"the reply is larger than {most / 2**20:.0f} MiB")
    return response.is_error and len(body) >= ERROR_BYTES


def _read(response: httpx.Response, body: bytes) -> httpx.Response:
    """The response with its body, which is decoded already."""
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


def error_message(response: httpx.Response) -> str:
    """The error message in a response's body, or the body itself."""
    text = response.text
    try:
        body = response.json()
        body = body.get("error", body)
        return (
            body
            if isinstance(body, str)
            else str(body.get("message") or body.get("detail") or text)
        )
    except (ValueError, AttributeError):
        return text


def retry_after(response: httpx.Response) -> float:
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
