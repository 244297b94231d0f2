"""The token ids of a request's prompt, and the token budget of its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slm_math.engines.base import ContextFull, EngineError, Request
from slm_math.images import ImageError, chat_images
from slm_math.policy.chat import ChatFormat
from slm_math.policy.sight import Extent
from slm_math.types import Image


class Fitted(NamedTuple):
    """A prompt that leaves room for a reply.

    Args:
        ids: its token ids; an image is one placeholder.
        digest: of its text and images.
        budget: the most tokens that the reply may have.
        images: its images.
        extent: what they add to the ids.
    """

    ids: tuple[int, ...]
    digest: str
    budget: int
    images: tuple[Image, ...]
    extent: Extent


def fit_prompt(chat: ChatFormat, request: Request, limit: int) -> Fitted:
    """The prompt of a request.

    `limit` is the model's context in tokens. Raises ContextFull if it leaves no room for a reply,
    EngineError for an image that cannot be seen.
    """
    ids, digest = chat.prompt(request.chat, request.resume)
    images = chat_images(request.chat)
    extent = extent_of(chat, images)
    length = len(ids) + extent.extra
    room = min(request.sampling.max_new_tokens, limit - length)
    if room < 1:
        shown = f", {extent.extra} of them for images" if extent.extra else ""
        raise ContextFull(
            f"the prompt has {length} tokens{shown}, the model's context holds {limit}"
        )
    return Fitted(tuple(ids), digest, budget=room, images=images, extent=extent)


def extent_of(chat: ChatFormat, images: Sequence[Image]) -> Extent:
    """What images add to a prompt's token ids. Raises EngineError if one cannot be seen."""
    if chat.sight is None:
        return Extent(0, 0)
    try:
        for image in images:
            chat.sight.look(image)
        return chat.sight.extent(images)
    except ImageError as error:
        raise EngineError(str(error)) from None
