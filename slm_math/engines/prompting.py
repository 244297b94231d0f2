"""What a request's prompt is in token ids, and how long its reply may be."""

from __future__ import annotations

from slm_math.engines.base import ContextFull, Request
from slm_math.policy.chat import ChatFormat


def fit_prompt(chat: ChatFormat, request: Request, limit: int) -> tuple[tuple[int, ...], str, int]:
    """The prompt's token ids and digest, and the number of tokens that its reply may have in a
    context of `limit` tokens. Raises ContextFull if no token fits.
    """
    ids, digest = chat.prompt(request.chat, request.resume)
    room = min(request.sampling.max_new_tokens, limit - len(ids))
    if room < 1:
        raise ContextFull(f"the prompt has {len(ids)} tokens, the model's context holds {limit}")
    return tuple(ids), digest, room
