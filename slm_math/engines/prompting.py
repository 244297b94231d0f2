"""The token ids of a request's prompt, and the token budget of its reply."""

from __future__ import annotations

from slm_math.engines.base import ContextFull, Request
from slm_math.policy.chat import ChatFormat


def fit_prompt(chat: ChatFormat, request: Request, limit: int) -> tuple[tuple[int, ...], str, int]:
    """The prompt's token ids, the prompt's digest, and the most tokens that the reply may have.

    `limit` is the model's context in tokens. Raises ContextFull if it leaves no room for a reply.
    """
    ids, digest = chat.prompt(request.chat, request.resume)
    room = min(request.sampling.max_new_tokens, limit - len(ids))
    if room < 1:
        raise ContextFull(f"the prompt has {len(ids)} tokens, the model's context holds {limit}")
    return tuple(ids), digest, room
