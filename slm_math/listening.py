"""Where a server listens, and under which names: other machines may reach it only if it asks for a
key.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit


def address_of(host: str, port: int, key: str, unprotected: str) -> tuple[Any, tuple[Any, ...]]:
    """The family and the address of a socket that listens on `host`:`port` (0 for any free port).

    The name is resolved once, so that the checked address is the one that is bound. Raises
    ValueError for an impossible port, and for an address that other machines can reach if the `key`
    is "": `unprotected` says what to do then. Raises OSError for a host that does not exist.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")
    addresses = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, address = addresses[0][0], cast(Any, addresses[0][4])
    if not key and not ipaddress.ip_address(address[0]).is_loopback:
        raise ValueError(f"refusing to listen on {host or address[0]} without {unprotected}")
    return family, address


def names_this_machine(hosts: Sequence[str]) -> bool:
    """Whether the Host headers of a request are one, which is localhost or a loopback address, at
    any port, as a tunnel may have another. A server without a key refuses other names: a web page
    elsewhere may have let them resolve to this machine.
    """
    with suppress(ValueError):
        [host] = hosts
        name = urlsplit(f"//{host}").hostname
        return name == "localhost" or ipaddress.ip_address(name or "").is_loopback
    return False


def url_of(address: Any) -> str:
    """How clients of this machine reach the address of a socket."""
    host, port = address[:2]
    host = host.decode() if isinstance(host, bytes | bytearray) else str(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
