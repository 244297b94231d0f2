"""Any OpenAI-compatible chat server as an engine: many requests at once, patient with errors, careful with the key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import os
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from slm_math.engines.base import Engine, EngineError, Request
from slm_math.types import Chat, Finish, Image, Message, Reply

LONGEST_WAIT = 300.0  # seconds that a server may ask us to wait before a retry


class Unanswered(Exception):
    """An attempt that failed in a way that may pass; `wait` is the number of seconds the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class OpenAIEngine(Engine):
    """Sends chats to `{base_url}/chat/completions`, at most `concurrency` at a time, on a thread of its own.

    `base_url` is like https://api.example.com/v1; the key is read from the environment variable `api_key_env` and
    appears nowhere else. `timeout` (seconds) is for one attempt; 429, 5xx, broken connections, time-outs and malformed
    replies are tried again up to `retries` times, after `backoff`, 2 `backoff`, ... seconds or what the server asks
    for; other refusals are final. `send_seed` derives a seed from each request's key (vLLM on a CPU dies of it).
    `extra` adds fields to every request body; a null removes one, so {"max_tokens": null} does.

    A top_k of 0 is not sent, so a server's own default holds: start vLLM with `--generation-config vllm`.
    Replies carry no token ids. Where a server returns reasoning apart from the reply, the text has it in <think> tags.
    """

    trainable = False
    name = "a chat endpoint"

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float = 120,
        retries: int = 4,
        backoff: float = 0.5,
        send_seed: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        url = httpx.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("base_url must be like https://host/v1")
        if url.userinfo or url.query:
            raise ValueError(f"base_url must hold no secrets: put the key into the environment variable {api_key_env}")
        if concurrency < 1 or timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError("concurrency and timeout must be positive, retries and backoff not negative")
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key = os.environ.get(api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(f"the key in the environment variable {api_key_env} has characters that no key has")
        self.model = model
        self.concurrency, self.timeout, self.retries, self.backoff = concurrency, timeout, retries, backoff
        self.send_seed = send_seed
        self.extra = dict(extra or {})
        self._change = threading.Condition()
        self._tasks: dict[int, Future[None]] = {}
        self._done: list[tuple[int, Reply | EngineError]] = []
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._url!r}, {self.model!r})"

    def identity(self) -> dict[str, Any]:
        return {"engine": type(self).__name__, "url": self._url, "model": self.model, "extra": self.extra}

    def submit(self, request: Request) -> int:
        if request.sampling.not_first:
            raise ValueError("a chat endpoint cannot forbid how a reply begins (not_first)")
        if request.resume and (not request.chat or request.chat[-1].role != "assistant"):
            raise ValueError("a chat can be resumed only where it ends in an assistant message")
        with self._change:
            if self._closed:
                raise EngineError("the engine is closed")
            loop = self._loop or self._begin()
            self._tickets += 1
            ticket = self._tickets
            self._tasks[ticket] = asyncio.run_coroutine_threadsafe(self._serve(ticket, request), loop)
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
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=None)
        self._slots = asyncio.Semaphore(self.concurrency)
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="chat endpoint", daemon=True)
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
        except Exception as error:  # whatever a server can make of a reply, it ends this request only
            result = EngineError(self._clean(f"{self._url}: {type(error).__name__}: {error}"))
        with self._change:
            if self._tasks.pop(ticket, None) is not None:
                self._done.append((ticket, result))
                self._change.notify_all()

    async def _answer(self, request: Request) -> Reply:
        body = self._body(request)
        failure: Unanswered | None = None
        for attempt in range(self.retries + 1):
            if failure is not None:
                pause = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause, min(failure.wait, LONGEST_WAIT)))
            try:
                return await self._attempt(body, request.sampling.temperature)
            except Unanswered as error:
                failure = error
        raise EngineError(self._clean(f"{self._url}: {failure} (tried {self.retries + 1} times)"))

    async def _attempt(self, body: dict[str, Any], temperature: float) -> Reply:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._client.post(self._url, json=body)
        except TimeoutError:
            raise Unanswered(f"no reply within {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from None
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise Unanswered(f"status {response.status_code}: {said(response)}", retry_after(response))
        if response.status_code != 200:
            raise EngineError(self._clean(f"{self._url}: status {response.status_code}: {said(response)}"))
        text, finish = read_completion(response)
        seconds = time.monotonic() - started
        return Reply(text, finish=finish, temperature=temperature, seconds=seconds, counted=sampled(response))

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages(request.chat),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.top_k > 0:
            body["top_k"] = sampling.top_k
        if sampling.min_p > 0:
            body["min_p"] = sampling.min_p
        if request.resume:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.send_seed and request.key:
            body["seed"] = int.from_bytes(hashlib.sha256(repr(request.key).encode()).digest()[:4]) >> 1
        return {name: value for name, value in (body | self.extra).items() if value is not None}

    def _clean(self, message: str) -> str:
        """One line of at most 400 characters, without the key, which some servers quote back."""
        if len(self._key) >= 8:  # a shorter one is a placeholder such as EMPTY
            message = message.replace(self._key, "[key]")
        message = " ".join(message.split())
        return message if len(message) <= 400 else f"{message[:400]}..."


def messages(chat: Chat) -> list[dict[str, Any]]:
    """The chat as a request body has it. Raises EngineError for a picture that cannot be read."""
    return [{"role": message.role, "content": _content(message)} for message in chat]


def _content(message: Message) -> str | list[dict[str, Any]]:
    # plain text as a plain string: not every server knows lists of parts
    if not any(isinstance(part, Image) for part in message.content):
        return message.text
    return [
        {"type": "image_url", "image_url": {"url": _picture(part.source)}}
        if isinstance(part, Image)
        else {"type": "text", "text": part.text}
        for part in message.content
    ]


def _picture(source: str) -> str:
    """A picture as a data URL."""
    if source.startswith(("data:", "http://", "https://")):
        return source
    kind = mimetypes.guess_type(source)[0] or "image/png"
    try:
        data = Path(source).read_bytes()
    except OSError as error:
        raise EngineError(f"cannot read the picture {source}: {error.strerror}") from None
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read_completion(response: httpx.Response) -> tuple[str, Finish]:
    """Text and finish reason of a chat completion. Raises Unanswered when it is none, EngineError when filtered."""
    try:
        choice = response.json()["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text, thought = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unanswered(f"the reply is no chat completion: {said(response)}") from None
    if reason == "content_filter":
        raise EngineError("the server filtered its reply")
    if reason in ("abort", "error") or not isinstance(text, str | None):
        raise Unanswered(f"the reply is not complete: {said(response)}")
    text = text or ""
    if isinstance(thought, str):
        text = f"<think>\n{thought.strip()}\n</think>\n\n{text}"
    return text, "length" if reason == "length" else "stop"


def sampled(response: httpx.Response) -> int:
    """The number of tokens that the server says it sampled; 0 when it does not say."""
    usage = response.json().get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0


def said(response: httpx.Response) -> str:
    """What the server has to say for itself: the message in its body, or the body."""
    text = response.text
    try:
        body = response.json()
        body = body.get("error", body)
        return body if isinstance(body, str) else str(body.get("message") or body.get("detail") or text)
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
