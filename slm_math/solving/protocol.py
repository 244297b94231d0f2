"""Chat completions as OpenAI defines them, of an agent: requests to problems, traces to answers."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slm_math.images import ImageError, check_image
from slm_math.records.encoding import to_json
from slm_math.solving.transcripts import record_of
from slm_math.types import Image, Problem, Trace

# what would change the reply, and an agent cannot do
REFUSED = ("tools", "functions", "logprobs", "top_logprobs", "response_format", "audio")
# settings of sampling, which are the agent's own: a client may name them, within what they can be
SAMPLING = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}
LENGTHS = ("max_tokens", "max_completion_tokens")
NONE = "I found no answer."


class Refusal(Exception):
    """A request is refused, with an HTTP status, a message, and OpenAI's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": None, "code": self.code}
        return {"error": error}


@dataclass(frozen=True)
class Question:
    """What a request asks for: `n` workflows on a problem.

    `seed` is that of the sampling, None for one that no other request has. `usage`: a stream ends
    with the counts of tokens. `transcript`: the answer comes with all that happened.
    """

    problem: Problem
    n: int = 1
    seed: int | None = None
    stream: bool = False
    usage: bool = False
    transcript: bool = False


def read_question(body: bytes, model: str, most: int) -> Question:
    """The question in the body of a request to the model of this name, for at most `most` answers.

    Raises Refusal.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(data, dict):
        raise Refusal(400, "the body is no JSON object")
    if data.get("model") != model:
        asked = f"{data.get('model')!r:.100}"
        raise Refusal(404, f"there is no model {asked}, only {model}", "model_not_found")
    for name in REFUSED:
        if data.get(name) not in (None, False, [], {"type": "text"}):  # False is 0, too
            raise Refusal(400, f"{name}: an agent has no such thing; leave it out")
    for name, (low, high) in SAMPLING.items():
        _check_number(data, name, low, high)
    for name in LENGTHS:
        _whole(data, name, 1, (1 << 31) - 1)
    options = data.get("stream_options")
    return Question(
        problem=_problem(data.get("messages")),
        n=_whole(data, "n", 1, most),
        seed=None if data.get("seed") is None else _whole(data, "seed", -(1 << 63), 1 << 63),
        stream=_flag(data, "stream"),
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        transcript=_flag(data, "slm_math"),
    )


def _whole(data: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = data.get(name)
    value = 1 if value is None else value
    if type(value) is not int or not low <= value <= high:
        raise Refusal(400, f"{name} is a whole number from {low} to {high}, not {value!r:.40}")
    return value


def _check_number(data: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = data.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and low <= value <= high):  # NaN is in no range
        raise Refusal(400, f"{name} is a number from {low:g} to {high:g}, not {value!r:.40}")


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(400, f"{name} is true or false, not {value!r:.40}")
    return value is True


def _problem(messages: Any) -> Problem:
    """The problem in the messages: the only one of a user, beside instructions, which agents have
    of their own.
    """
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages is a list of at least one message")
    if not all(isinstance(message, dict) for message in messages):
        raise Refusal(400, "each message is an object with a role and a content")
    asked = [each for each in messages if each.get("role") not in ("system", "developer")]
    if len(asked) != 1 or asked[0].get("role") != "user" or asked[0] is not messages[-1]:
        raise Refusal(
            400,
            "an agent solves one problem, without a conversation: send one message of the user, "
            f"the problem, not {len(asked)} messages of user and assistant",
        )
    content = asked[0].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Refusal(400, "the content of a message is a text, or a list of parts")
    text = "\n".join(_text(part) for part in parts if part.get("type") == "text").strip()
    images = tuple(_image(part) for part in parts if part.get("type") != "text")
    if not text:
        raise Refusal(400, "the problem has no text")
    return Problem("request", text, images=images)


def _text(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise Refusal(400, "the text of a part is a text")
    try:
        text.encode()
    except UnicodeEncodeError:  # which no tokenizer takes
        raise Refusal(400, "the text of a message holds half of a surrogate pair") from None
    return text


def _image(part: Mapping[str, Any]) -> Image:
    """An image, which comes with the request: nobody makes this process read files or addresses."""
    address = part.get("image_url")
    source = address.get("url") if isinstance(address, dict) else address
    if part.get("type") != "image_url" or not isinstance(source, str):
        raise Refusal(400, f"a part is a text or an image_url, not {part.get('type')!r:.40}")
    if not source.startswith("data:image/"):
        raise Refusal(400, "the url of an image is a data URL: data:image/png;base64,...")
    try:
        check_image(source)
    except ImageError as error:
        raise Refusal(400, str(error)) from None
    return Image(source)


def check_trace(trace: Trace) -> None:
    """Raises Refusal for a workflow that broke."""
    if trace.skipped:
        error = f"the problem exceeds the model's context length: {trace.error}"
        raise Refusal(400, error, "context_length_exceeded")
    if trace.error is not None:
        raise Refusal(502, f"the agent could not go on: {trace.error}")


def content(trace: Trace) -> str:
    """The answer as a sentence: extractors look for a box, people read it."""
    return NONE if trace.answer is None else f"The final answer is $\\boxed{{{trace.answer}}}$."


def finish_reason(trace: Trace) -> str:
    truncated = any(turn.reply.finish == "length" for turn in trace.turns[-1:])
    return "length" if trace.answer is None and truncated else "stop"


def usage(traces: Sequence[Trace]) -> dict[str, int]:
    """The tokens of all requests that the agent made."""
    turns = [turn for trace in traces for turn in trace.turns]
    asked = sum(turn.reply.prompt_tokens for turn in turns)
    sampled = sum(turn.reply.tokens for turn in turns)
    counts = {"prompt_tokens": asked, "completion_tokens": sampled}
    return counts | {"total_tokens": asked + sampled}


def transcripts(traces: Sequence[Trace]) -> dict[str, Any]:
    """What happened, as records of evaluations hold it: of one workflow, or a list of several."""
    names = ("answer", "method", "seconds", "events")
    rows = [to_json(record_of(trace)) for trace in traces]
    made = [{name: row[name] for name in names} for row in rows]
    return {"slm_math": made[0] if len(made) == 1 else made}


class Completion:
    """One chat completion of a model, whole or as the chunks of a stream."""

    def __init__(self, model: str, question: Question) -> None:
        self.question = question
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._about = {"created": int(time.time()), "model": model}

    def whole(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The body of a response that is not streamed."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": content(trace)},
                "logprobs": None,
                "finish_reason": finish_reason(trace),
            }
            for index, trace in enumerate(traces)
        ]
        body = self._body("chat.completion", choices) | {"usage": usage(traces)}
        return body | (transcripts(traces) if self.question.transcript else {})

    def first(self) -> list[dict[str, Any]]:
        """The chunks that come before there is an answer."""
        delta = {"role": "assistant", "content": ""}
        return [self._chunk(index, delta) for index in range(self.question.n)]

    def last(self, traces: Sequence[Trace]) -> list[dict[str, Any]]:
        """The chunks with the answers; the very last one may have counts and the transcript."""
        chunks: list[dict[str, Any]] = []
        for index, trace in enumerate(traces):
            chunks.append(self._chunk(index, {"content": content(trace)}))
            chunks.append(self._chunk(index, {}, finish_reason(trace)))
        if self.question.usage:
            chunks.append(self._body("chat.completion.chunk", []) | {"usage": usage(traces)})
        if self.question.transcript:
            chunks[-1] |= transcripts(traces)
        return chunks

    def _chunk(
        self, index: int, delta: dict[str, Any], reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, **self._about, "choices": choices}
