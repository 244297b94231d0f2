"""A model behind an HTTP server: the project's own engine answers chat requests."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slm_math.engines.base import Request, seed_of
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.types import Message, Reply, Sampling, Text


class Served:
    """A script for `ChatServer`: the model of a folder, which decodes all requests together.

    Args:
        folder: the model.
        keys: the keys of the requests that may come. A request brings the seed that the client
            made of its key, and is decoded with the key itself, as a local engine decodes it.
    """

    def __init__(self, folder: Path, keys: Iterable[tuple[int | str, ...]]) -> None:
        self.folder = folder
        self.engine = CheckpointEngine(str(folder), dtype="float32", slots=8)
        self.keys: Mapping[int, tuple[int | str, ...]] = {seed_of(key): key for key in keys}
        self.used: dict[int, dict[str, int]] = {}  # seed -> tokens of its last reply
        self._lock = threading.Lock()
        self._done: dict[int, Any] = {}

    def __call__(self, number: int, body: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict]:
        reply = self._answer(self._request(body))
        usage = {
            "prompt_tokens": len(reply.prompt_ids),
            "completion_tokens": len(reply.token_ids),
        }
        self.used[body["seed"]] = usage
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish}
        return 200, {"model": body["model"], "choices": [choice], "usage": usage}, {}

    def _request(self, body: Mapping[str, Any]) -> Request:
        chat = tuple(Message(m["role"], (Text(m["content"]),)) for m in body["messages"])
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_new_tokens=body["max_tokens"],
        )
        return Request(chat, sampling, key=self.keys[body["seed"]])

    def _answer(self, request: Request) -> Reply:
        """Every waiting thread makes decoding steps, one at a time."""
        with self._lock:
            ticket = self.engine.submit(request)
        while True:
            with self._lock:
                if ticket in self._done:
                    return self._done.pop(ticket)
                self._done.update(self.engine.poll())
