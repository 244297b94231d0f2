"""Any OpenAI-compatible chat server as an engine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from slm_math.engines.base import EngineError, Request, seed_of
from slm_math.engines.endpoint import EndpointEngine, Unanswered, check_url, said
from slm_math.engines.images import image_url
from slm_math.types import Chat, Finish, Image, Message, Reply


class OpenAIEngine(EndpointEngine):
    """Sends chats to `{base_url}/chat/completions`, at most `concurrency` at a time, on a thread of
    its own.

    `base_url` is like https://api.example.com/v1; the key is read from the environment variable
    `api_key_env` and appears nowhere else. `timeout` (seconds) is for one attempt; 429, 5xx, broken
    connections, time-outs and malformed replies are tried again up to `retries` times, after
    `backoff`, 2 `backoff`, ... seconds or what the server asks for; other refusals are final.
    `send_seed` derives a seed from each request's key (vLLM on a CPU dies of it). `extra` adds
    fields to every request body; a null removes one, so {"max_tokens": null} does.

    A top_k of 0 is not sent, so a server's own default holds: start vLLM with `--generation-config
    vllm`. Replies carry no token ids. Where a server returns reasoning apart from the reply, the
    text has it in <think> tags.
    """

    returns_logprobs = False
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
        check_url(base_url, api_key_env)
        super().__init__(api_key_env, concurrency, timeout, retries, backoff)
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self.model = model
        self.send_seed = send_seed
        self.extra = dict(extra or {})

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._url!r}, {self.model!r})"

    def identity(self) -> dict[str, Any]:
        return {
            "engine": type(self).__name__,
            "url": self._url,
            "model": self.model,
            "extra": self.extra,
        }

    def submit(self, request: Request) -> int:
        if request.sampling.not_first:
            raise ValueError("a chat endpoint cannot forbid how a reply begins (not_first)")
        if request.resume and (not request.chat or request.chat[-1].role != "assistant"):
            raise ValueError("a chat can be resumed only where it ends in an assistant message")
        return super().submit(request)

    async def _answer(self, request: Request) -> Reply:
        body = self._body(request)
        failure: Unanswered | None = None
        for attempt in range(self.retries + 1):
            if failure is not None:
                await self._pause(attempt, failure)
            started = time.monotonic()
            try:
                response = await self._post(self._url, body)
                text, finish = read_completion(response)
            except Unanswered as error:
                failure = error
                continue
            seconds = time.monotonic() - started
            temperature = request.sampling.temperature
            return Reply(
                text,
                finish=finish,
                temperature=temperature,
                seconds=seconds,
                counted=sampled(response),
            )
        raise EngineError(self._clean(f"{self._url}: {failure} (tried {self.retries + 1} times)"))

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
            body["seed"] = seed_of(request.key)
        return {name: value for name, value in (body | self.extra).items() if value is not None}


def messages(chat: Chat) -> list[dict[str, Any]]:
    """The chat as a request body has it. Raises EngineError for a picture that cannot be read."""
    return [{"role": message.role, "content": _content(message)} for message in chat]


def _content(message: Message) -> str | list[dict[str, Any]]:
    # plain text as a plain string: not every server knows lists of parts
    if not any(isinstance(part, Image) for part in message.content):
        return message.text
    return [
        {"type": "image_url", "image_url": {"url": image_url(part.source)}}
        if isinstance(part, Image)
        else {"type": "text", "text": part.text}
        for part in message.content
    ]


def read_completion(response: httpx.Response) -> tuple[str, Finish]:
    """Text and finish reason of a chat completion. Raises Unanswered when it is none, EngineError
    when filtered.
    """
    try:
        choice = response.json()["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text, thought = (
            message.get("content"),
            message.get("reasoning_content") or message.get("reasoning"),
        )
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
