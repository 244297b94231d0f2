"""What vLLM is asked and what it answers, in this process and over HTTP alike."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from slm_math.engines.base import Request, seed_of
from slm_math.engines.endpoint import Unanswered
from slm_math.engines.endpoint import said as said_by
from slm_math.engines.prompting import fit_prompt
from slm_math.policy.chat import ChatFormat
from slm_math.types import Reply

COLDEST = 0.01  # vLLM takes this instead of what lies between 0 and it
NEVER = -1e9  # added to a logit: JSON has no infinity


@dataclass(frozen=True)
class Said:
    """Tokens that were sampled, their log-probabilities (nats, after temperature and truncation),
    what was `kept`.
    """

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    finish: str
    kept: tuple[bytes, ...] = ()


@dataclass
class Asked:
    """A request under way. `first` is the token that was sampled under a ban (`not_first`), before
    all others.
    """

    request: Request
    prompt: tuple[int, ...]
    digest: str
    room: int
    start: float = field(default_factory=time.perf_counter)
    first: Said | None = None

    @property
    def cut(self) -> bool:
        """True when the tokens that could be sampled are to be reported, and were not all."""
        return cut(self.request)

    @property
    def banned(self) -> bool:
        """True while the next token is the first one, and some are forbidden there."""
        return bool(self.request.sampling.not_first) and self.first is None


def cut(request: Request) -> bool:
    sampling = request.sampling
    return (
        request.support
        and sampling.temperature > 0
        and (sampling.restricts_support or bool(sampling.not_first))
    )


def check(request: Request, masks: int = 0) -> None:
    """Raises ValueError for what vLLM would do in another way than it is asked for."""
    if 0 < request.sampling.temperature < COLDEST:
        raise ValueError(f"vLLM samples at temperature {COLDEST} at least, or greedily at 0")
    if cut(request) and not masks:
        raise ValueError(WITHOUT_SUPPORT)


def ask(chat: ChatFormat, request: Request, limit: int) -> Asked:
    """A request with its prompt. Raises ContextFull where the model's context, `limit` tokens,
    leaves no room.
    """
    return Asked(request, *fit_prompt(chat, request, limit))


def fields(
    asked: Asked, chat: ChatFormat, ends: Iterable[int], seed: bool = True, masks: int = 0
) -> tuple[list[int], dict[str, Any]]:
    """Prompt ids, and the fields of vLLM's SamplingParams. vLLM bans tokens from whole replies
    only, so under a ban the first token is a reply of its own.

    `masks`: the size of the vocabulary when vLLM reports what could be sampled; it then takes no
    greedy request and none without top_k: the likeliest token alone, and all tokens, are the same
    (but for log-probabilities of greedy replies, which are then 0).
    """
    request, sampling = asked.request, asked.request.sampling
    ids, room, key = list(asked.prompt), asked.room, request.key
    bias: dict[int, float] | None = None
    if asked.first is not None:
        ids, room, key = [*ids, *asked.first.tokens], room - 1, (*key, "after the first")
    elif asked.banned:
        bias, room = {chat.tokens(text)[0]: NEVER for text in sampling.not_first}, 1
    seeded = seed and bool(key) and sampling.temperature > 0
    greedy = sampling.temperature == 0
    return ids, {
        "temperature": 1.0 if masks and greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": (1 if greedy else sampling.top_k or masks) if masks else sampling.top_k,
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


def goes_on(asked: Asked, said: Said, chat: ChatFormat) -> bool:
    """Whether the rest of a reply is still to be asked for, after its first token; `asked` is then
    ready for it.
    """
    if not asked.banned or asked.room == 1 or said.finish != "length":
        return False
    text = chat.text(said.tokens)
    if any(stop in text for stop in asked.request.sampling.stop):
        return False
    asked.first = said
    return True


def reply(asked: Asked, said: Said, chat: ChatFormat, version: int) -> Reply:
    said = (
        said
        if asked.first is None
        else _joined(asked.first, said, chat, asked.request.sampling.stop)
    )
    return Reply(
        text=chat.text(said.tokens),
        token_ids=said.tokens,
        logprobs=said.logps,
        support=said.kept if asked.cut else (),
        finish="stop" if said.finish == "stop" else "length",
        prompt_ids=asked.prompt,
        prompt=asked.digest,
        version=version,
        temperature=asked.request.sampling.temperature or 1.0,
        seconds=time.perf_counter() - asked.start,
    )


def _joined(first: Said, rest: Said, chat: ChatFormat, stops: tuple[str, ...]) -> Said:
    """Both parts of a reply; a stop string that began in the first token ends it, of which vLLM
    could not know.
    """
    tokens, logps, kept = (
        first.tokens + rest.tokens,
        first.logps + rest.logps,
        first.kept + rest.kept,
    )
    for end in range(2, len(tokens)) if stops else ():
        text = chat.text(tokens[:end])
        if any(stop in text for stop in stops):
            return Said(tokens[:end], logps[:end], "stop", kept[:end])
    stopped = any(stop in chat.text(tokens) for stop in stops)
    return Said(tokens, logps, "stop" if stopped else rest.finish, kept)


def packed(mask: Sequence[Sequence[int]] | None) -> tuple[bytes, ...]:
    """What could be sampled at each token, as `Reply.support` has it."""
    return tuple(np.asarray(ids, dtype=np.int32).tobytes() for ids in mask or ())


WITHOUT_SUPPORT = (
    "training on samples under top_p, top_k, min_p or not_first needs the tokens that could be "
    "sampled, which vLLM "
    "reports in the training process on a GPU only: take engine transformers, or leave these out"
)


def read(response: httpx.Response) -> tuple[Said, set[str]]:
    """What a server sampled, and by which weights. Raises Unanswered when the
    answer is not whole.
    """
    try:
        [choice] = response.json()["choices"]
        tokens, finish = tuple(choice["token_ids"]), choice["finish_reason"]
        logps = tuple(float(item["logprob"]) for item in choice["logprobs"]["content"])
        versions = {str(span["version"]) for span in choice.get("weight_versions") or ()}
    except (ValueError, LookupError, TypeError):
        raise Unanswered(f"the answer is no completion: {said_by(response)[:200]}") from None
    if finish not in ("stop", "length") or len(logps) != len(tokens) or not tokens:
        raise Unanswered(
            f"the answer is not complete ({finish}, {len(tokens)} tokens, {len(logps)} "
            f"log-probabilities)"
        )
    return Said(tokens, logps, finish), versions
