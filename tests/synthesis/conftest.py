"""A server with a teacher that answers everything."""

from collections.abc import Iterator

import pytest
from engines.endpoint import ChatServer
from synthesis.teacher import answers


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    server = ChatServer(answers)
    yield server
    server.shutdown()
    server.server_close()
