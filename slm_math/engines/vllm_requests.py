"""What vLLM is asked and what it answers, in this process and over HTTP alike."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from slm_math.engines.base import Request, seed_of
from slm_math.engines.endpoint import TemporaryFailure, error_message
from slm_math.engines.prompting import fit_prompt
from slm_math.policy.chat import ChatFormat
from slm_math.types import Reply

COLDEST = 0.01  # vLLM takes this instead of what lies between 0 and it
NEVER = -1e9  # added to a logit: JSON has no infinity


@dataclass(frozen=True)
class Sampled:
    """Tokens that were sampled, their log-probabilities (nats, after temperature and truncation),
    what was `support`.
    """

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    finish: str
    support: tuple[bytes, ...] = ()


@dataclass
class Pending:
    """A request under way. `first` is the token that was sampled under a ban (`not_first`), before
    all others.
    """

    request: Request
    prompt: tuple[int, ...]
    digest: str
    room: int
    start: float = field(default_factory=time.perf_counter)
    first: Sampled | None = None

    @property
    def needs_support(self) -> bool:
        """True when the tokens that could be sampled are to be reported, and were not all."""
        return needs_support(self.request)

    @property
    def banned(self) -> bool:
        """True while the next token is the first one, and some are forbidden there."""
        return bool(self.request.sampling.not_first) and self.first is None


def needs_support(request: Request) -> bool:
    sampling = request.sampling
    return (
        request.support
        and sampling.temperature > 0
        and (sampling.restricts_support or bool(sampling.not_first))
    )


def check_request(request: Request, mask_size: int = 0) -> None:
    """Raises ValueError for what vLLM would do in another way than it is asked for."""
    if 0 < request.sampling.temperature < COLDEST:
        raise ValueError(f"vLLM samples at temperature {COLDEST} at least, or greedily at 0")
    if needs_support(request) and not mask_size:
        raise ValueError(WITHOUT_SUPPORT)


def prepare(chat: ChatFormat, request: Request, limit: int) -> Pending:
    """A request with its prompt. Raises ContextFull where the model's context, `limit` tokens,
    leaves no room.
    """
    return Pending(request, *fit_prompt(chat, request, limit))


def sampling_fields(
    pending: Pending, chat: ChatFormat, ends: Iterable[int], seed: bool = True, mask_size: int = 0
) -> tuple[list[int], dict[str, Any]]:
    """Prompt ids, and the fields of vLLM's SamplingParams. vLLM bans tokens from whole replies
    only, so under a ban the first token is a reply of its own.

    `mask_size`: the size of the vocabulary when vLLM reports what could be sampled; it then takes no
    greedy request and none without top_k: the likeliest token alone, and all tokens, are the same
    (but for log-probabilities of greedy replies, which are then 0).
    """
    request, sampling = pending.request, pending.request.sampling
    ids, room, key = list(pending.prompt), pending.room, request.key
    bias: dict[int, float] | None = None
    if pending.first is not None:
        ids, room, key = [*ids, *pending.first.tokens], room - 1, (*key, "after the first")
    elif pending.banned:
        bias, room = {chat.tokens(text)[0]: NEVER for text in sampling.not_first}, 1
    seeded = seed and bool(key) and sampling.temperature > 0
    greedy = sampling.temperature == 0
    return ids, {
        "temperature": 1.0 if mask_size and greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": (1 if greedy else sampling.top_k or mask_size) if mask_size else sampling.top_k,
        "min_p": sampling.min_p,
        "max_tokens": room,
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "stop_token_ids": sorted(ends),
        "detokenize": bool(sampling.stop),  # else the text is of no use to it
        "logprobs": 0,  # that of the sampled token
        "seed": seed_of(key) if seeded else None,
        "logit_bias": bias,
    }


def awaits_rest(pending: Pending, sampled: Sampled, chat: ChatFormat) -> bool:
    """Whether the rest of a reply is still to be asked for, after its first token; `pending` is then
    ready for it.
    """
    if not pending.banned or pending.room == 1 or sampled.finish != "length":
        return False
    text = chat.text(sampled.tokens)
    if any(stop in text for stop in pending.request.sampling.stop):
        return False
    pending.first = sampled
    return True


def build_reply(pending: Pending, sampled: Sampled, chat: ChatFormat, version: int) -> Reply:
    sampled = (
        sampled
        if pending.first is None
        else _joined(pending.first, sampled, chat, pending.request.sampling.stop)
    )
    return Reply(
        text=chat.text(sampled.tokens),
        token_ids=sampled.tokens,
        logprobs=sampled.logps,
        support=sampled.support if pending.needs_support else (),
        finish="stop" if sampled.finish == "stop" else "length",
        prompt_ids=pending.prompt,
        prompt=pending.digest,
        version=version,
        temperature=pending.request.sampling.temperature or 1.0,
        seconds=time.perf_counter() - pending.start,
    )


def _joined(first: Sampled, rest: Sampled, chat: ChatFormat, stops: tuple[str, ...]) -> Sampled:
    """Both parts of a reply; a stop string that began in the first token ends it, of which vLLM
    could not know.
    """
    tokens, logps, support = (
        first.tokens + rest.tokens,
        first.logps + rest.logps,
        first.support + rest.support,
    )
    for end in range(2, len(tokens)) if stops else ():
        text = chat.text(tokens[:end])
        if any(stop in text for stop in stops):
            return Sampled(tokens[:end], logps[:end], "stop", support[:end])
    stopped = any(stop in chat.text(tokens) for stop in stops)
    return Sampled(tokens, logps, "stop" if stopped else rest.finish, support)


def pack_support(mask: Sequence[Sequence[int]] | None) -> tuple[bytes, ...]:
    """What could be sampled at each token, as `Reply.support` has it."""
    return tuple(np.asarray(ids, dtype=np.int32).tobytes() for ids in mask or ())


WITHOUT_SUPPORT = (
    "training on samples under top_p, top_k, min_p or not_first needs the tokens that could be "
    "sampled, which vLLM "
    "reports in the training process on a GPU only: take engine transformers, or leave these out"
)


def parse_completion(response: httpx.Response) -> tuple[Sampled, set[str]]:
    """What a server sampled, and by which weights. Raises TemporaryFailure when the
    answer is not whole.
    """
    try:
        [choice] = response.json()["choices"]
        tokens, finish = tuple(choice["token_ids"]), choice["finish_reason"]
        logps = tuple(float(item["logprob"]) for item in choice["logprobs"]["content"])
        versions = {str(span["version"]) for span in choice.get("weight_versions") or ()}
    except (ValueError, LookupError, TypeError):
        raise TemporaryFailure(
            f"the answer is no completion: {error_message(response)[:200]}"
        ) from None
    if finish not in ("stop", "length") or len(logps) != len(tokens) or not tokens:
        raise TemporaryFailure(
            f"the answer is not complete ({finish}, {len(tokens)} tokens, {len(logps)} "
            f"log-probabilities)"
        )
    return Sampled(tokens, logps, finish), versions
