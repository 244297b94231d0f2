"""Requests to vLLM and its outputs, the same in this process and over HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slm_math.engines.base import Request, check_logprobs, refuse_effort, seed_of
from slm_math.engines.endpoint import TemporaryFailure
from slm_math.engines.http import Response
from slm_math.engines.prompting import fit_prompt
from slm_math.engines.responses import error_message
from slm_math.policy.chat import ChatFormat
from slm_math.types import Reply

LOWEST_TEMPERATURE = 0.01  # vLLM raises lower positive temperatures to this one
BAN = -1e9  # added to the logit of a forbidden token, because JSON has no infinity

WITHOUT_SUPPORT = (
    "training on samples under top_p, top_k, min_p or not_first needs the support of each token, "
    "which vLLM reports only in the training process on a GPU: set engine transformers, or remove "
    "these options"
)


@dataclass(frozen=True)
class Sampled:
    """What vLLM sampled for one of its requests.

    `logps` are in nats, after temperature and truncation; `support` is as in `Reply`.
    """

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    finish: str
    support: tuple[bytes, ...] = ()


@dataclass
class Pending:
    """An unfinished request.

    Args:
        request: the request.
        prompt: its token ids.
        digest: of the prompt's text and images.
        budget: the most tokens of the reply.
        extra: what its images add to the prompt's tokens.
        start: when the request was made (time.perf_counter).
        first: the first token if it was sampled on its own, because `not_first` forbids some there.
    """

    request: Request
    prompt: tuple[int, ...]
    digest: str
    budget: int
    extra: int = 0
    start: float = field(default_factory=time.perf_counter)
    first: Sampled | None = None

    @property
    def needs_support(self) -> bool:
        """Whether the reply must report its support."""
        return needs_support(self.request)

    @property
    def bans_first(self) -> bool:
        """Whether the next token is the first of the reply and `not_first` forbids some."""
        return bool(self.request.sampling.not_first) and self.first is None


def needs_support(request: Request) -> bool:
    """Whether a request asks for the support and its sampling restricts it."""
    sampling = request.sampling
    return (
        request.support
        and sampling.temperature > 0
        and (sampling.restricts_support or bool(sampling.not_first))
    )


def check_request(request: Request, mask_size: int = 0) -> None:
    """Raises ValueError for requests that vLLM would not serve as they are meant.

    `mask_size` is the size of the vocabulary if vLLM reports the support, otherwise 0.
    """
    refuse_effort(request)
    if 0 < request.sampling.temperature < LOWEST_TEMPERATURE:
        raise ValueError(
            f"vLLM samples at temperature 0 (greedy) or at least {LOWEST_TEMPERATURE}, got "
            f"{request.sampling.temperature}"
        )
    if needs_support(request) and not mask_size:
        raise ValueError(WITHOUT_SUPPORT)


def prepare(chat: ChatFormat, request: Request, limit: int) -> Pending:
    """A request with its prompt. Raises ContextFull if the context (`limit` tokens) has no room."""
    fitted = fit_prompt(chat, request, limit)
    return Pending(
        request, fitted.ids, fitted.digest, budget=fitted.budget, extra=fitted.extent.extra
    )


def sampling_fields(
    pending: Pending, chat: ChatFormat, ends: Iterable[int], seed: bool = True, mask_size: int = 0
) -> tuple[list[int], dict[str, Any]]:
    """The prompt's token ids and the fields of vLLM's SamplingParams.

    vLLM bans tokens from whole replies only, so `not_first` takes two requests: one for the first
    token and one for the rest.

    `mask_size` is the size of the vocabulary if vLLM reports the support, otherwise 0. vLLM then
    rejects greedy requests and requests without top_k. They are replaced by top_k 1 and by top_k =
    `mask_size`, which sample the same (but log-probabilities of greedy replies are then 0).
    """
    request, sampling = pending.request, pending.request.sampling
    ids, budget, key = list(pending.prompt), pending.budget, request.key
    never = chat.sight.banned if chat.sight is not None else ()
    bias = dict.fromkeys(never, BAN)
    if pending.first is not None:
        ids = [*ids, *pending.first.tokens]
        budget, key = budget - 1, (*key, "after the first")
    elif pending.bans_first:
        bias |= {id: BAN for text in sampling.not_first for id in chat.first_ids(text)}
        budget = 1
    seeded = seed and bool(key) and sampling.temperature > 0
    greedy = sampling.temperature == 0
    return ids, {
        "temperature": 1.0 if mask_size and greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": (1 if greedy else sampling.top_k or mask_size) if mask_size else sampling.top_k,
        "min_p": sampling.min_p,
        "max_tokens": budget,
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "stop_token_ids": sorted(ends),
        "detokenize": bool(sampling.stop),  # vLLM needs the text for stop strings only
        "logprobs": 0,  # 0: of the sampled token only
        "seed": seed_of(key) if seeded else None,
        "logit_bias": bias or None,
    }


def awaits_rest(pending: Pending, sampled: Sampled, chat: ChatFormat) -> bool:
    """Whether vLLM has sampled the first token only; `pending` then asks for the rest."""
    if not pending.bans_first or pending.budget == 1 or sampled.finish != "length":
        return False
    text = chat.text(sampled.tokens)
    if any(stop in text for stop in pending.request.sampling.stop):
        return False
    pending.first = sampled
    return True


def build_reply(pending: Pending, sampled: Sampled, chat: ChatFormat, version: int) -> Reply:
    """The reply to a request; `version` is that of the weights."""
    if pending.first is not None:
        sampled = _joined(pending.first, sampled, chat, pending.request.sampling.stop)
    return Reply(
        text=chat.reply_text(pending.prompt, sampled.tokens, pending.request.resume),
        token_ids=sampled.tokens,
        logprobs=sampled.logps,
        support=sampled.support if pending.needs_support else (),
        finish="stop" if sampled.finish == "stop" else "length",
        prompt_ids=pending.prompt,
        prompt=pending.digest,
        version=version,
        temperature=pending.request.sampling.temperature or 1.0,
        seconds=time.perf_counter() - pending.start,
        asked=len(pending.prompt) + pending.extra,
    )


def _joined(first: Sampled, rest: Sampled, chat: ChatFormat, stops: tuple[str, ...]) -> Sampled:
    """The first token and the rest as one reply.

    It ends at a stop string that begins in the first token, which vLLM cannot see.
    """
    tokens, logps = first.tokens + rest.tokens, first.logps + rest.logps
    support = first.support + rest.support
    for end in range(2, len(tokens)) if stops else ():
        text = chat.text(tokens[:end])
        if any(stop in text for stop in stops):
            return Sampled(tokens[:end], logps[:end], "stop", support[:end])
    stopped = any(stop in chat.text(tokens) for stop in stops)
    return Sampled(tokens, logps, "stop" if stopped else rest.finish, support)


def pack_support(mask: Sequence[Sequence[int]] | None) -> tuple[bytes, ...]:
    """vLLM's sampling mask (token ids for each sampled token) packed as in `Reply.support`."""
    return tuple(np.asarray(ids, dtype=np.int32).tobytes() for ids in mask or ())


def parse_completion(response: Response) -> tuple[Sampled, set[str]]:
    """What a server sampled, and the versions of the weights that it used.

    Raises TemporaryFailure if the response is malformed or incomplete, ModelError if the model
    computes no numbers.
    """
    try:
        [choice] = response.json()["choices"]
        tokens, finish = tuple(choice["token_ids"]), choice["finish_reason"]
        # JSON has null instead of NaN
        logps = tuple(
            math.nan if item["logprob"] is None else float(item["logprob"])
            for item in choice["logprobs"]["content"]
        )
        versions = {str(span["version"]) for span in choice.get("weight_versions") or ()}
    except (ValueError, LookupError, TypeError):
        raise TemporaryFailure(
            f"the response is not a completion: {error_message(response)[:200]}"
        ) from None
    if finish not in ("stop", "length") or len(logps) != len(tokens) or not tokens:
        raise TemporaryFailure(
            f"the response is incomplete (finish_reason {finish}, {len(tokens)} tokens, "
            f"{len(logps)} log-probabilities)"
        )
    check_logprobs(logps, f"of {response.url}")
    return Sampled(tokens, logps, finish), versions
