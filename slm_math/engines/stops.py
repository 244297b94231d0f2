"""The stop string that ended a reply, which chat servers cut off."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.agents.blocks import blocks

# where vLLM and SGLang report the stop string or the stop token; null at the model's own end
_REPORTS = ("stop_reason", "matched_stop")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*")
_CLOSING_TAG = re.compile(r"\s*(<|\[)/([^<>\[\]/]+)(>|\])\s*")


def restored(text: str, stops: Sequence[str], choice: Mapping[str, Any], before: str = "") -> str:
    """The text of a finished reply with the stop string that ended it, as local engines return it.

    A server that reports what stopped it is believed. For any other server a stop string is put
    back where it closes what the text leaves open, a fenced block or a tag: a model that ends its
    turn there is rarer than one that is stopped. Other stop strings cannot be told from the model's
    own end and stay away.

    Args:
        text: what the server returned.
        stops: the stop strings of the request.
        choice: the choice of the response.
        before: what the reply continues.
    """
    if any(text.endswith(stop) for stop in stops):
        return text  # this server does not cut it off
    # a proxy (LiteLLM) passes the fields of the server behind it on
    places = [choice, choice.get("provider_specific_fields") or {}]
    reported = [place[name] for place in places for name in _REPORTS if name in place]
    if reported:
        return text + next((stop for stop in stops if stop in reported), "")
    return text + next((stop for stop in stops if _closes(stop, before + text)), "")


def _closes(stop: str, text: str) -> bool:
    """Whether a stop string closes what a text leaves open."""
    if fence := _FENCE.fullmatch(stop):
        open_at_end = blocks(text)[-1:]
        return any(not block.closed for block in open_at_end) and fence[1] in text
    if tag := _CLOSING_TAG.fullmatch(stop):
        opening, closing = f"{tag[1]}{tag[2]}{tag[3]}", f"{tag[1]}/{tag[2]}{tag[3]}"
        return text.rfind(opening) > text.rfind(closing)
    return False
