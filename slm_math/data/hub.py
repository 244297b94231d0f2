"""A Hugging Face hub that cannot be reached."""

from __future__ import annotations

import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

from slm_math.stopping import say

SECONDS = 5.0  # in which the hub must answer


def use_cache_if_away() -> None:
    """Switches the libraries of the hub to their offline mode if nothing answers at its address:
    they would ask for every file again and again for a minute, and then take it from the cache.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and hub_is_away(constants.ENDPOINT):
        say(f"note: {constants.ENDPOINT} cannot be reached: only what was downloaded is used")
        constants.HF_HUB_OFFLINE = True


@cache
def hub_is_away(endpoint: str) -> bool:
    """Whether nothing listens at the address of the hub. Behind a proxy only the proxy knows."""
    address = urlsplit(endpoint)
    if getproxies() or address.hostname is None:
        return False
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), SECONDS).close()
    except OSError:
        return True
    return False
