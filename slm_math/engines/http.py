"""HTTP as the engines need it: bounded replies, few processor cycles, no redirects, no cookies.

The library is aiohttp, of clients here alone: a request through it costs a tenth of the processor
time that it costs through httpx (`scripts/bench_endpoint.py`), and lightning installs it anyway.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import json
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

if TYPE_CHECKING:
    import aiohttp

MOST_BYTES = 16 << 20  # of a reply, and BYTES_PER_TOKEN more for each token that it may have
BYTES_PER_TOKEN = 1024  # token, log-probability and text as JSON take about a third of this
ERROR_BYTES = 64 << 10  # of the message that comes with an error status; the rest is not read
CONNECT = 10.0  # seconds until a connection is made


_clients: WeakSet[Client] = WeakSet()  # that are open


class TransportError(Exception):
    """There is no response: no connection was made, it broke, or it does not carry HTTP."""


class NoConnection(TransportError):
    """The connection failed: the host does not exist, or no server listens on the port."""


class TooLarge(Exception):
    """A response is larger than it can be."""


@dataclass(frozen=True)
class Response:
    """A response that was read; `body` is unpacked. The names of headers have any case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    @cached_property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @cached_property
    def parsed(self) -> Any:
        return json.loads(self.body)

    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is none."""
        return self.parsed


class Client:
    """Sends requests from one event loop, in which it must be made, used and closed."""

    def __init__(self, key: str = "") -> None:
        import aiohttp  # takes half a second, which most runs need not spend

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # no limit: who asks decides how many requests are in flight
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=headers | {"User-Agent": "slm-math"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._loop = asyncio.get_running_loop()
        _clients.add(self)

    async def send(
        self,
        method: str,
        url: str,
        body: Any = None,
        most: int = MOST_BYTES,
        headers: Mapping[str, str] | None = None,
        arrived: Callable[[bytes], None] = lambda chunk: None,
    ) -> Response:
        """The response to a request, read up to `most` bytes; of an error only the beginning.

        `body` is sent as JSON, bytes as they are. `arrived` is called with each part of a response
        that is no error. Raises TransportError, and TooLarge if the
        response is larger. Cancel it to stop it; the connection is then closed.
        """
        import aiohttp

        own = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body, own = json.dumps(body).encode(), {"Content-Type": "application/json"} | own
        try:
            async with self._session.request(
                method,
                url,
                data=io.BytesIO(body) if body and len(body) > 1 << 19 else body,
                headers=own,
                allow_redirects=False,
                proxy=proxy_of(url),
                ssl=certificates() if url.startswith("https:") else True,
            ) as response:
                return await _read(response, url, most, arrived)
        except TimeoutError as error:  # of the connection; `asyncio.timeout` is around this
            raise TransportError(f"{type(error).__name__}: {error}") from None
        except aiohttp.ClientConnectorError as error:
            raise NoConnection(f"{type(error).__name__}: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        _clients.discard(self)
        await self._session.close()


async def _read(
    response: aiohttp.ClientResponse, url: str, most: int, arrived: Callable[[bytes], None]
) -> Response:
    """The response with its body. What is not read closes the connection."""
    body, is_error = bytearray(), response.status >= 400
    async for chunk in response.content.iter_any():
        body += chunk
        if is_error and len(body) >= ERROR_BYTES:
            response.close()
            break
        if not is_error and len(body) > most:
            response.close()
            raise TooLarge(f"the reply is larger than {most / 2**20:.0f} MiB")
        if not is_error:
            arrived(chunk)
    return Response(response.status, bytes(body), response.headers, url)


@cache
def certificates() -> ssl.SSLContext:
    """Those that every client trusts, loaded once: that takes a tenth of a second."""
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


@cache
def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTPS_PROXY, NO_PROXY, ...)."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(parts.netloc) else proxy


def request(
    method: str,
    url: str,
    body: Any = None,
    seconds: float = 600.0,
    key: str = "",
    query: Mapping[str, Any] | None = None,
) -> Response:
    """The response to a request, for callers that wait: at most `seconds`.

    Raises TransportError and TooLarge.
    """
    client, loop = _shared()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    where = f"{url}?{urlencode(query)}" if query else url

    async def send() -> Response:
        try:
            async with asyncio.timeout(seconds):
                return await client.send(method, where, body, headers=headers)
        except TimeoutError:
            raise TransportError(f"the reply did not end within {seconds:g} s") from None

    waiting = asyncio.run_coroutine_threadsafe(send(), loop)
    try:
        return waiting.result()
    except BaseException:
        waiting.cancel()
        raise


@cache
def _shared() -> tuple[Client, asyncio.AbstractEventLoop]:
    """The client of `request` and its loop, which runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="HTTP", daemon=True).start()

    async def begin() -> Client:
        return Client()

    client = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    return client, loop


@atexit.register
def _close_clients() -> None:
    """Closes what nobody closed: aiohttp would complain at the end of the process."""
    for client in list(_clients):
        if client._loop.is_running():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(client.close(), client._loop).result(1.0)
