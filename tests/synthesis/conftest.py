"""A server with a teacher that answers everything."""

from collections.abc import Iterator

import pytest
from engines.endpoint import ChatServer
from synthesis.teacher import answers

from slm_math.synthesis.journal import Journal


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    server = ChatServer(answers)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_journal(tmp_path):
    opened = []

    def start(prices=None, budget=None) -> Journal:
        for journal in opened:
            journal.close()
        opened.append(Journal(tmp_path / "journal.jsonl", prices or {}, budget))
        return opened[-1]

    yield start
    for journal in opened:
        journal.close()
