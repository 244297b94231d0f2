"""Servers as engines: many requests at once on a thread of its own, patient with errors, careful
with the key.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from slm_math.engines.base import Engine, EngineError, Request
from slm_math.types import Reply

LONGEST_WAIT = 300.0  # seconds that a server may ask us to wait before a retry


class TemporaryFailure(Exception):
    """An attempt that failed in a way that may pass; `wait` is the number of seconds the server
    asked for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(EngineError):
    """An answer that is final, with its HTTP `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class EndpointEngine(Engine):
    """Keeps up to `concurrency` requests under way, whoever polls; subclasses say what a request is
    made of.

    The key is read from the environment variable `api_key_env` and appears nowhere else. `timeout`
    (seconds) is for one attempt; 429, 5xx, broken connections, time-outs and malformed replies are
    tried again up to `retries` times, after `backoff`, 2 `backoff`, ... seconds or what the server
    asks for; other refusals are final.
    """

    def __init__(
        self, api_key_env: str, concurrency: int, timeout: float, retries: int, backoff: float
    ) -> None:
        if concurrency < 1 or timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "concurrency and timeout must be positive, retries and backoff not negative"
            )
        self._key = os.environ.get(api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(
                f"the key in the environment variable {api_key_env} has characters that no key has"
            )
        self.concurrency, self.timeout, self.retries, self.backoff = (
            concurrency,
            timeout,
            retries,
            backoff,
        )
        self._change = threading.Condition()
        self._tasks: dict[int, Future[None]] = {}
        self._done: list[tuple[int, Reply | EngineError]] = []
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def _answer(self, request: Request) -> Reply:
        """Sends a request until it is answered. Raises EngineError when it is not."""
        raise NotImplementedError

    def submit(self, request: Request) -> int:
        with self._change:
            if self._closed:
                raise EngineError("the engine is closed")
            loop = self._loop or self._begin()
            self._tickets += 1
            ticket = self._tickets
            self._tasks[ticket] = asyncio.run_coroutine_threadsafe(
                self._serve(ticket, request), loop
            )
        return ticket

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        with self._change:
            self._change.wait_for(lambda: self._done or not self._tasks, timeout)
            done, self._done = self._done, []
            return done

    def cancel(self, ticket: int) -> None:
        with self._change:
            task = self._tasks.pop(ticket, None)
            self._done = [(other, result) for other, result in self._done if other != ticket]
        if task is not None:
            task.cancel()  # closes the connection, so that the server can stop as well

    @property
    def busy(self) -> int:
        with self._change:
            return len(self._tasks) + len(self._done)

    def close(self) -> None:
        with self._change:
            self._closed = True
            loop, self._loop = self._loop, None
            tickets = [*self._tasks, *(ticket for ticket, _ in self._done)]
        for ticket in tickets:
            self.cancel(ticket)
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _begin(self) -> asyncio.AbstractEventLoop:
        """Start the thread. It waits for servers at all times, whoever polls."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(
            max_connections=self.concurrency, max_keepalive_connections=self.concurrency
        )
        self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=None)
        self._slots = asyncio.Semaphore(self.concurrency)
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name=self.name, daemon=True)
        self._thread.start()
        return loop

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, ticket: int, request: Request) -> None:
        try:
            async with self._slots:
                result: Reply | EngineError = await self._answer(request)
        except EngineError as error:
            result = error
        # whatever a server can make of a reply, it ends this request only
        except Exception as error:
            result = EngineError(self._clean(f"{self.name}: {type(error).__name__}: {error}"))
        with self._change:
            if self._tasks.pop(ticket, None) is not None:
                self._done.append((ticket, result))
                self._change.notify_all()

    async def _post(self, url: str, body: dict[str, Any]) -> httpx.Response:
        """One attempt. Raises TemporaryFailure where another one may do better, EngineError where none
        can.
        """
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._client.post(url, json=body)
        except TimeoutError:
            raise TemporaryFailure(f"no reply within {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise TemporaryFailure(f"{type(error).__name__}: {error}") from None
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise TemporaryFailure(
                f"status {response.status_code}: {error_message(response)}", retry_after(response)
            )
        if response.status_code != 200:
            message = self._clean(
                f"{url}: status {response.status_code}: {error_message(response)}"
            )
            raise Refused(message, response.status_code)
        return response

    async def _pause(self, attempt: int, failure: TemporaryFailure) -> None:
        """Waits before attempt number `attempt` (from 1), longer every time, or as long as the
        server asks for.
        """
        pause = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
        await asyncio.sleep(max(pause, min(failure.wait, LONGEST_WAIT)))

    def _clean(self, message: str) -> str:
        return cleaned(message, self._key)


def cleaned(message: str, key: str) -> str:
    """One line of at most 400 characters, without the key, which some servers quote back."""
    if len(key) >= 4 and key != "EMPTY":  # which is no secret
        message = message.replace(key, "[key]")
    message = " ".join(message.split())
    return message if len(message) <= 400 else f"{message[:400]}..."


def check_url(
    url: str, api_key_env: str, name: str = "base_url", like: str = "https://host/v1"
) -> None:
    """Raises ValueError for what is no address, or holds a secret."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError(f"{name} must be like {like}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{name} must be like {like}")
    if parsed.userinfo or parsed.query:
        raise ValueError(
            f"{name} must hold no secrets: put the key into the environment variable {api_key_env}"
        )


def error_message(response: httpx.Response) -> str:
    """What the server has to say for itself: the message in its body, or the body."""
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
    """Seconds that the server asks us to wait: the header holds a number or a date."""
    value = response.headers.get("Retry-After", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
