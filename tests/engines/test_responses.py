"""Responses are read within bounds of size and time, whichever client asks."""

import math
import time
from typing import Any

import pytest
from engines.endpoint import ChatServer

from slm_math.engines.base import EngineError
from slm_math.engines.http import Response
from slm_math.engines.responses import count, retry_after
from slm_math.engines.vllm_control import ServerUnavailable, VLLMServer


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("86400", 86400),
        ("inf", math.inf),
        ("-3", 0),
        ("nan", 0),
        ("soon", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("", 0),
    ],
)
def test_what_a_server_may_ask_for_is_read(header, seconds):
    assert retry_after(Response(429, headers={"Retry-After": header})) == seconds


def test_a_control_route_without_end_is_not_read_to_it():
    def endless():
        while True:
            yield b"[" * 2**16

    server = ChatServer(lambda *_: (200, endless(), {}))
    with pytest.raises(EngineError, match="larger than 16 MiB"):
        VLLMServer(server.url, "").response("POST", "/pause", {}, 60)
    assert server.sent < 64 * 2**20
    server.shutdown()


def test_a_control_route_that_answers_byte_by_byte_is_given_up():
    def slowly():
        while True:
            time.sleep(0.05)
            yield b" "

    server = ChatServer(lambda *_: (200, slowly(), {}))
    with pytest.raises(ServerUnavailable, match=r"did not end within 0\.3 s"):
        VLLMServer(server.url, "").response("POST", "/pause", {}, 0.3)
    server.shutdown()


@pytest.mark.parametrize("value", [10**30, -1, True, 1.5, "7", None])
def test_what_cannot_be_a_number_of_tokens_is_unknown(value: Any) -> None:
    assert count({"completion_tokens": value}, "completion_tokens") == 0
