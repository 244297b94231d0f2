"""An engine for any OpenAI-compatible chat server."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from slm_math.engines.base import ContextFull, EngineError, Request, Unusable, seed_of
from slm_math.engines.endpoint import EndpointEngine, Refused, TemporaryFailure, check_url
from slm_math.engines.http import Response
from slm_math.engines.images import image_url
from slm_math.engines.pacing import Pace
from slm_math.engines.responses import count, error_message
from slm_math.engines.stops import restored
from slm_math.engines.streaming import Streamed, with_thought
from slm_math.types import Chat, Finish, Image, Message, Reply


class OpenAIEngine(EndpointEngine):
    """Sends chats to `{base_url}/chat/completions` from a thread of its own.

    Replies carry no token ids. If the server returns reasoning separately, the reply's text holds
    it in <think> tags. Servers cut the stop string off that ended a reply; it is put back (see
    `stops.restored`). A top_k of 0 is not sent, so the server's default applies: start vLLM with
    `--generation-config vllm`.

    Args:
        base_url: for example https://api.example.com/v1.
        model: the name under which the server knows the model.
        api_key_env: environment variable with the API key, which appears nowhere else.
        concurrency: the most requests in flight at once.
        requests_per_minute: the most requests in a minute, those that are sent again included.
        tokens_per_minute: the most tokens of prompts and replies in a minute. They are estimated
            before a request, and corrected by what the server counts.
        timeout: seconds for one attempt.
        retries: how often a request is sent again after status 429 or 5xx, a broken connection, a
            timeout or a malformed reply; other error statuses are final. Status 429 ends a
            request only if none was answered for `timeout` seconds.
        backoff: seconds before the first retry, doubled for each further one; the server may ask
            for more.
        send_seed: whether to derive a seed from each request's key (crashes vLLM on a CPU).
        chat_template_kwargs: variables of the server's chat template, sent with every request
            (vLLM and SGLang take them), for example {enable_thinking: false}.
        extra: fields added to every request body; null removes a field, e.g. {"max_tokens": null}.
    """

    returns_logprobs = False
    takes_effort = True
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
        chat_template_kwargs: dict[str, Any] | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        check_url(base_url, api_key_env)
        super().__init__(
            api_key_env=api_key_env,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            pace=Pace(requests_per_minute, tokens_per_minute),
        )
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self.model = model
        self.send_seed = send_seed
        sent = {"chat_template_kwargs": chat_template_kwargs} if chat_template_kwargs else {}
        self.extra = sent | dict(extra or {})
        self._answered = 0.0  # when a reply came last (time.monotonic)

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
            raise ValueError(
                "a chat endpoint cannot forbid how a reply begins: leave not_first out"
            )
        if request.resume and (not request.chat or request.chat[-1].role != "assistant"):
            raise ValueError("only a chat that ends in an assistant message can be resumed")
        return super().submit(request)

    async def _answer(self, request: Request) -> Reply:
        body, budget = self._body(request), request.sampling.max_new_tokens
        tokens = self._pace.estimate(request.chat, budget) if self._pace.counts_tokens else 0
        failures, since = Counter[bool](), time.monotonic()
        while True:
            await self._pace.turn(tokens)
            started = time.monotonic()
            try:
                streamed = Streamed(request.progress)
                response = await self._post(self._url, body, budget, streamed.add)
                whole = streamed.whole(response)
                reply = read_reply(whole, request, time.monotonic() - started)
            except TemporaryFailure as error:
                limited = error.status == 429
                failures[limited] += 1
                # a limit that many requests share is no fault of one while others are answered
                waits = limited and time.monotonic() - max(since, self._answered) < self.timeout
                if failures[limited] > self.retries and not waits:
                    tried = f"(tried {failures.total()} times)"
                    said = self._clean(f"{self._url}: {error} {tried}")
                    if error.unreached:
                        raise Unusable(f"{said}. Please check base_url: nothing answers") from None
                    raise EngineError(said) from None
                await self._pause(failures[limited], error)
            except Refused as error:
                raise (ContextFull(str(error)) if is_full(error) else error) from None
            else:
                self._answered = time.monotonic()
                self._pace.correct(tokens, reply.asked, reply.counted)
                return reply

    def _check(self, url: str, response: Response) -> None:
        if response.status == 404:  # of the only route that this engine asks
            said = self._clean(f"{url}: status 404: {error_message(response)}")
            raise Unusable(f"{said}. Please check base_url, and set model to a name it knows")
        super()._check(url, response)

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
        if sampling.effort:
            body["reasoning_effort"] = sampling.effort
        if request.resume:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if request.progress is not None:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.send_seed and request.key:
            body["seed"] = seed_of(request.key)
        return {name: value for name, value in (body | self.extra).items() if value is not None}


def is_full(error: Refused) -> bool:
    """Whether the prompt alone does not fit into the model's context.

    Where the tokens of the reply do not fit beside it, a smaller `max_new_tokens` helps.
    """
    says = str(error).lower()
    too_long = re.search(r"context[ _](length|size|window)|exceed\w* .{0,40}context", says)
    return bool(too_long) and not re.search(r"max_(completion_)?tokens|in the completion", says)


def messages(chat: Chat) -> list[dict[str, Any]]:
    """The chat as a request body holds it. Raises EngineError for an unreadable image."""
    return [{"role": message.role, "content": _content(message)} for message in chat]


def _content(message: Message) -> str | list[dict[str, Any]]:
    # text without images is sent as a string, because some servers do not accept lists of parts
    if not any(isinstance(part, Image) for part in message.content):
        return message.text
    return [
        {"type": "image_url", "image_url": {"url": image_url(part.source)}}
        if isinstance(part, Image)
        else {"type": "text", "text": part.text}
        for part in message.content
    ]


def read_reply(response: Response, request: Request, seconds: float) -> Reply:
    """The reply in a chat completion.

    Args:
        response: with status 200.
        request: what was asked; the text holds the stop string that ended it.
        seconds: that it took.

    Raises TemporaryFailure if the response is malformed, EngineError if the server filtered it.
    """
    try:
        body = response.json()
        choice = body["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text = message.get("content")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise TemporaryFailure(
            f"the response is not a chat completion: {error_message(response)}"
        ) from None
    if reason == "content_filter":
        raise EngineError("the server filtered its reply (finish_reason content_filter)")
    if reason in ("abort", "error") or not isinstance(text, str | None):
        raise TemporaryFailure(f"the reply is incomplete: {error_message(response)}")
    thought = reasoning.strip() if isinstance(reasoning, str) else ""
    finish: Finish = "length" if reason == "length" else "stop"
    usage, model = body.get("usage"), body.get("model")
    return Reply(
        _whole_text(text or "", thought, choice, request)
        if finish == "stop"
        else with_thought(text or "", thought),
        finish=finish,
        temperature=request.sampling.temperature,
        seconds=seconds,
        counted=count(usage, "completion_tokens"),
        asked=count(usage, "prompt_tokens"),
        model=model if isinstance(model, str) else "",
    )


def _whole_text(text: str, thought: str, choice: Mapping[str, Any], request: Request) -> str:
    """The text of a reply that was not cut off, with its thought and the stop string that ended
    it.
    """
    stops, before = request.sampling.stop, request.chat[-1].text if request.resume else ""
    if thought and not text:  # it may have been stopped while it reasoned
        whole = restored(thought, stops, choice, before)
        if whole != thought:
            return f"<think>\n{whole}"
    else:
        text = restored(text, stops, choice, before)
    return with_thought(text, thought)
