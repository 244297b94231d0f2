"""The base of engines that use HTTP servers: concurrency, retries, errors, API keys."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from slm_math.engines.base import Engine, EngineError, ModelError, Request, Unusable
from slm_math.engines.http import (
    BYTES_PER_TOKEN,
    MOST_BYTES,
    Client,
    NoConnection,
    Response,
    TooLarge,
)
from slm_math.engines.http import TransportError as TransportError
from slm_math.engines.pacing import Pace
from slm_math.engines.responses import error_message, refuses_all, retry_after
from slm_math.types import Reply
from slm_math.visible import visible

LONGEST_WAIT = 60.0  # seconds; a server cannot postpone a retry further
TOLD_WAIT = 5.0  # seconds; shorter waits are not worth a line


class TemporaryFailure(Exception):
    """An attempt failed, and another one may succeed.

    `wait`: seconds that the server asks for. `status`: that of its response, 0 without one.
    `unreached`: no connection to it was ever made.
    """

    def __init__(
        self, reason: str, wait: float = 0.0, status: int = 0, unreached: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.status = status
        self.unreached = unreached


class Refused(EngineError):
    """The server rejected a request for good, with this HTTP `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class EndpointEngine(Engine):
    """Keeps up to `concurrency` requests in flight from a thread of its own. Subclasses define how
    one request is answered.

    The API key is read from the environment variable `api_key_env` and appears nowhere else.
    `timeout` (seconds) applies to one attempt from its first to its last byte. Status 429 and 5xx,
    broken connections, timeouts and malformed replies are retried up to `retries` times, after
    `backoff`, 2 `backoff`, ... seconds, or later (at most a minute) if the server asks for it, and
    says so; other error statuses are final. So is a reply that is larger than any reply of the
    tokens asked for: it is not read to its end. Where a server refuses every request (its key, its
    account, its model), `poll` raises Unusable. `pace` spreads the requests over time; a server
    that has too many of them (status 429) makes all of them wait.
    """

    def __init__(
        self,
        api_key_env: str,
        concurrency: int,
        timeout: float,
        retries: int,
        backoff: float,
        pace: Pace | None = None,
    ) -> None:
        if concurrency < 1 or timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "concurrency must be at least 1, timeout positive, retries and backoff at least 0, "
                f"got {concurrency}, {timeout}, {retries} and {backoff}"
            )
        self.api_key_env = api_key_env
        self._key = os.environ.get(api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(
                f"the environment variable {api_key_env} holds characters that no API key has: set "
                "it again"
            )
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.backoff = backoff
        self._change = threading.Condition()
        self._tasks: dict[int, asyncio.Task[None] | None] = {}  # None: it waits for a place
        self._queue: deque[tuple[int, Request]] = deque()
        self._served: set[int] = set()  # the tickets that have a place
        self._reached = False  # whether a server has ever answered
        self._called = False  # whether the loop will look at what waits
        self._done: list[tuple[int, Reply | EngineError | Unusable]] = []
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._pace = pace or Pace()
        self._told_until = 0.0  # when the wait ends that was printed last (time.monotonic)

    async def _answer(self, request: Request) -> Reply:
        """Answers one request, with retries. Raises EngineError if all of them fail."""
        raise NotImplementedError

    def submit(self, request: Request) -> int:
        with self._change:
            if self._closed:
                raise EngineError("the engine is closed")
            loop = self._loop or self._begin()
            self._tickets += 1
            ticket = self._tickets
            self._tasks[ticket] = None
            self._queue.append((ticket, request))
            # waking the loop for each of many costs more than they
            if not self._called and len(self._served) < self.concurrency:
                self._called = True
                loop.call_soon_threadsafe(self._free)
        return ticket

    def _free(self, ticket: int = 0) -> None:
        """Gives the places that are free, with that of a request that ended, to those that wait."""
        with self._change:
            self._called = False
            self._served.discard(ticket)
            while self._queue and len(self._served) < self.concurrency:
                ticket, request = self._queue.popleft()
                if ticket in self._tasks:  # it was not canceled
                    self._served.add(ticket)
                    task = asyncio.get_running_loop().create_task(self._serve(ticket, request))
                    self._tasks[ticket] = task

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        with self._change:
            self._change.wait_for(lambda: self._done or not self._tasks, timeout)
            done, self._done = self._done, []
        ends = [result for _, result in done if isinstance(result, ModelError | Unusable)]
        results = [(t, result) for t, result in done if isinstance(result, Reply | EngineError)]
        if not ends:
            return results
        results = [(t, result) for t, result in results if not isinstance(result, ModelError)]
        if not results:
            raise ends[0]
        with self._change:  # replies that came with it are not lost: it is raised by the next poll
            self._done.insert(0, (0, ends[0]))
        return results

    def cancel(self, ticket: int) -> None:
        with self._change:
            task = self._tasks.pop(ticket, None)
            self._done = [(other, result) for other, result in self._done if other != ticket]
            if task is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop, ticket, task)

    def _stop(self, ticket: int, task: asyncio.Task[None]) -> None:
        """Closes the connection of a request, so that the server stops as well."""
        task.add_done_callback(lambda _: self._free(ticket))  # it may not have begun yet
        task.cancel()

    @property
    def busy(self) -> int:
        with self._change:
            return len(self._tasks) + len(self._done)

    def close(self) -> None:
        with self._change:
            self._closed = True
            loop, self._loop = self._loop, None
            self._tasks.clear()
            self._queue.clear()
            self._done.clear()
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _begin(self) -> asyncio.AbstractEventLoop:
        """Starts the thread that waits for servers, also while nobody polls."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name=self.name, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), loop).result()
        return loop

    async def _open(self) -> None:
        self._client = Client(self._key)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _serve(self, ticket: int, request: Request) -> None:
        try:
            result: Reply | EngineError | Unusable = await self._answer(request)
        except (EngineError, Unusable) as error:
            result = error
        # whatever the server sends, an error must end this request only
        except Exception as error:
            result = EngineError(self._clean(f"{self.name}: {type(error).__name__}: {error}"))
        with self._change:
            if self._tasks.pop(ticket, None) is not None:  # it was not canceled
                self._done.append((ticket, result))
                self._change.notify_all()
            self._free(ticket)

    async def _post(
        self,
        url: str,
        body: dict[str, Any],
        tokens: int,
        arrived: Callable[[bytes], None] = lambda chunk: None,
    ) -> Response:
        """Makes one attempt for a reply of at most `tokens` tokens, whose parts go to `arrived` as
        they come. Raises TemporaryFailure if another one may succeed, Unusable if no request can,
        otherwise EngineError.
        """
        most = MOST_BYTES + BYTES_PER_TOKEN * tokens
        return await self._exchange("POST", url, body, most, arrived=arrived)

    async def _exchange(
        self,
        method: str,
        url: str,
        body: Any = None,
        most: int = MOST_BYTES,
        headers: Mapping[str, str] | None = None,
        arrived: Callable[[bytes], None] = lambda chunk: None,
    ) -> Response:
        """Makes one attempt at a response of at most `most` bytes. Raises like `_post`."""
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._client.send(
                    method, url, body=body, most=most, headers=headers, arrived=arrived
                )
        except TimeoutError:
            raise TemporaryFailure(f"no reply within {self.timeout:g} s") from None
        except TransportError as error:
            unreached = isinstance(error, NoConnection) and not self._reached
            raise TemporaryFailure(str(error), unreached=unreached) from None
        except TooLarge as error:
            raise EngineError(self._clean(f"{url}: {error}")) from None
        self._reached = True
        self._check(url, response)
        return response

    def _check(self, url: str, response: Response) -> None:
        """Raises what `_post` raises unless the status of a response is 200."""
        status = response.status
        if status == 200:
            return
        said = f"status {status}: {error_message(response)}"
        remedy = refuses_all(response, self.api_key_env) if 400 <= status < 500 else None
        if remedy is not None:
            raise Unusable(f"{self._clean(f'{url}: {said}')}. Please {remedy}")
        if status in (408, 429) or status >= 500:
            raise TemporaryFailure(said, retry_after(response), status)
        raise Refused(self._clean(f"{url}: {said}"), status)

    async def _pause(self, attempt: int, failure: TemporaryFailure) -> None:
        """Waits before retry number `attempt` (from 1): exponential backoff, or as long as the
        server asks for. A server that has too many requests makes all of them wait for `_pace`.
        """
        wait = min(failure.wait, LONGEST_WAIT)
        doubled = min(attempt - 1, self.retries)  # status 429 may come more often
        pause = self.backoff * 2**doubled * random.uniform(0.5, 1.0)
        for_all = failure.status == 429
        if for_all:
            self._pace.pause(wait)
        if wait >= TOLD_WAIT and time.monotonic() >= self._told_until:
            self._told_until = time.monotonic() + wait
            asked = f"{self.name} asks to wait {failure.wait:.0f} s ({failure})"
            capped = f"; trying again in {wait:.0f} s" if wait < failure.wait else ""
            print(visible(self._clean(asked + capped)), flush=True)
        await asyncio.sleep(pause if for_all else max(pause, wait))

    def _clean(self, message: str) -> str:
        return cleaned(message, self._key)


def cleaned(message: str, key: str) -> str:
    """The message as one line of at most 400 characters, without the API key, which some servers
    echo.
    """
    if len(key) >= 4 and key != "EMPTY":  # "EMPTY" is a placeholder, not a secret
        message = message.replace(key, "[key]")
    message = " ".join(message.split())
    return message if len(message) <= 400 else f"{message[:400]}..."


def check_url(
    url: str, api_key_env: str, name: str = "base_url", like: str = "https://host/v1"
) -> None:
    """Raises ValueError if `url` is not an HTTP address, or if it holds a secret.

    `name` is the option to name in the error, `like` an example of a valid address.
    """
    try:
        parsed = urlsplit(url)
        # reading the port raises ValueError for one that is none
        is_address = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:
        parsed = is_address = None
    if not parsed or not is_address:
        raise ValueError(f"{name} must be like {like}")
    if "@" in parsed.netloc or parsed.query:
        raise ValueError(
            f"{name} must hold no secrets: put the key into the environment variable {api_key_env}"
        )
