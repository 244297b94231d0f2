"""Which replies an agent can use, and the answers that they state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slm_math.answers import extract
from slm_math.types import AnswerType, Generate, Note, Reply, Workflow

RETRY_TEMPERATURE = 0.7  # a second try at temperature 0 would only repeat the first


def stated_answer(text: str, answer_type: AnswerType = "math") -> str | None:
    """The final answer that a reply to a problem of that answer type states, or None."""
    return extract(text, answer_type=answer_type).value


def why_unusable(reply: Reply, is_complete: Callable[[str], object]) -> str | None:
    """Why a reply is unusable ("empty", "truncated"); None if it is usable.

    A reply that hit the length limit is usable if `is_complete` finds what the agent needs in it.
    """
    if not reply.text.strip():
        return "empty"
    return None if reply.finish == "stop" or is_complete(reply.text) else "truncated"


def usable_reply(
    request: Generate, is_complete: Callable[[str], object] = bool, retries: int = 1
) -> Workflow[Reply | None]:
    """Asks until a reply is usable, or returns None after `retries` more tries.

    Each unusable reply is noted (kind "lost"). Retries sample at a temperature above 0.

    Args:
        is_complete: whether the text of a reply that hit the length limit has what the agent needs.
    """
    for attempt in range(retries + 1):
        retry = replace(request, temperature=max(RETRY_TEMPERATURE, request.temperature or 0.0))
        [reply] = yield [retry if attempt else request]
        reason = why_unusable(reply, is_complete)
        if reason is None:
            return reply
        yield [Note("lost", reason, role=request.role)]
    return None


def is_usable(reply: Reply, is_complete: Callable[[str], object] = stated_answer) -> Workflow[bool]:
    """Whether the solver's reply is usable; notes it if not. For agents that ask only once."""
    reason = why_unusable(reply, is_complete)
    if reason is not None:
        yield [Note("lost", reason, role="solver")]
    return reason is None


def note_draft(
    reply: Reply,
    is_complete: Callable[[str], object] = stated_answer,
    answer_type: AnswerType = "math",
) -> Workflow[str | None]:
    """Notes the answer of a usable reply as a draft, and an unusable reply as such. Returns the
    answer that the reply states.
    """
    answer = stated_answer(reply.text, answer_type)
    if (yield from is_usable(reply, is_complete)):
        yield [Note("draft", answer)]
    return answer
