"""Chat completions that a server sends in pieces, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from slm_math.engines.http import Response

DONE = "[DONE]"


class Streamed:
    """Puts the pieces of one chat completion together, and tells `progress` the text so far.

    A server that does not stream is understood, too.
    """

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        self._progress = progress
        self._rest = b""  # of a line that has not ended
        self._events = 0
        self._ended = False
        self._text = self._thought = ""
        self._choice: dict[str, Any] = {}
        self._about: dict[str, Any] = {}

    def add(self, chunk: bytes) -> None:
        """Takes the next bytes of the response."""
        if self._progress is None:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].decode(errors="replace").strip())

    def _event(self, data: str) -> None:
        self._events += 1
        if data == DONE:
            self._ended = True
            return
        try:
            event = json.loads(data)
            choices = event.get("choices") or [{}]
            choice = dict(choices[0])
            delta = choice.pop("delta", None) or {}
            text = delta.get("content") or ""
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            self._text, self._thought = self._text + text, self._thought + thought
        except (ValueError, LookupError, TypeError, AttributeError):
            self._about["error"] = f"an event of the stream is no chat completion: {data[:200]}"
            return
        if self._progress is not None and (text or thought):
            opened = f"<think>\n{self._thought}"
            self._progress(with_thought(self._text, self._thought) if self._text else opened)
        self._choice |= {name: value for name, value in choice.items() if value is not None}
        self._ended = self._ended or choice.get("finish_reason") is not None
        names = ("usage", "model", "error")
        self._about |= {name: event[name] for name in names if event.get(name)}

    def whole(self, response: Response) -> Response:
        """The response as it would be if the server had not streamed: an error if the stream broke
        off.
        """
        if not self._events:
            return response
        body: dict[str, Any] = dict(self._about)
        if not self._ended:
            body.setdefault("error", "the stream ended before the reply")
        if "error" not in body:
            message = {"content": self._text, "reasoning_content": self._thought}
            body["choices"] = [self._choice | {"message": message}]
        return Response(response.status, json.dumps(body).encode(), response.headers, response.url)


def with_thought(text: str, thought: str) -> str:
    """A reply whose reasoning came separately: it is put into <think> tags before the text."""
    return f"<think>\n{thought}\n</think>\n\n{text}" if thought else text
