"""A chat format, and a server for the OpenAI-compatible engine."""

import pytest
import torch
from engines.endpoint import KEY, ChatServer
from tiny import SCRATCH

from slm_math.engines.openai import OpenAIEngine
from slm_math.policy.chat import ChatFormat


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    torch.set_num_threads(1)
    return ChatFormat(SCRATCH.tokenizer())


@pytest.fixture
def serve(monkeypatch):
    """serve(script, **options) -> (server, engine); both end with the test."""
    monkeypatch.setenv("TEST_KEY", KEY)
    opened = []

    def start(script, **options):
        server = ChatServer(script)
        options = {"api_key_env": "TEST_KEY", "backoff": 0.01, "timeout": 120, **options}
        engine = OpenAIEngine(server.url, "some-model", **options)
        opened.extend([engine.close, server.shutdown, server.server_close])
        return server, engine

    yield start
    for end in opened:
        end()
