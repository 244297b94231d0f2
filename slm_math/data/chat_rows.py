"""Chats as rows of JSONL and Parquet files, and back, with marks of what is trained on.

The form that is written, which TRL, axolotl and LLaMA-Factory read (an invented row):

    {"messages": [
        {"role": "user", "content": "What is 15 % of 80?"},
        {"role": "assistant", "content": "It is 15.", "train": false},
        {"role": "user", "content": "Check it."},
        {"role": "assistant", "content": "0.15*80\\n12.0\\nIt is 12.",
         "train_detail": [{"begin_offset": 0, "end_offset": 7, "train": true},
                          {"begin_offset": 8, "end_offset": 12, "train": false},
                          {"begin_offset": 13, "end_offset": 21, "train": true}]}]}

`train` and `train_detail` are axolotl's marks: a whole message, or characters of one, both ends
included. Assistant messages without a mark are trained on. What others write is read, too: `weight`
(OpenAI) and `loss_weight` of 0 or 1, and messages with `from` and `value` (ShareGPT).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from slm_math.data.columns import IMAGES
from slm_math.data.files import FileRow
from slm_math.data.visual_text import PLACEHOLDER
from slm_math.types import Chat, Image, Message, Part, Text

Role = Literal["system", "user", "assistant"]
# what a tool said is context, as the agents' prompts show the output of programs: a user's turn
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "tool": "user",
    "function": "user",
    "observation": "user",
    "ipython": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
}
MARKS = ("train", "weight", "loss_weight")
THOUGHTS = ("reasoning_content", "thinking")


def with_thoughts(thoughts: str, solution: str) -> str:
    """A solution after thoughts in think tags; blank thoughts are none."""
    thoughts = thoughts.strip()
    return f"<think>\n{thoughts}\n</think>\n\n{solution}" if thoughts else solution


def chat_row(chat: Chat, **more: Any) -> dict[str, Any]:
    """A chat as a row, with `more` fields after its messages; `row_chat` is the inverse."""
    shows = any(isinstance(part, Image) for message in chat for part in message.content)
    return {"messages": [_written(message, shows) for message in chat], **more}


def _written(message: Message, parts: bool) -> dict[str, Any]:
    """A message as an object. In a chat with images the content of every message is a list of
    parts, because a column of a table has one type.
    """
    row: dict[str, Any] = {"role": message.role, "content": message.text}
    if parts and message.role == "assistant":
        row["content"] = [{"type": "text", "text": message.text}]
    elif parts:
        row["content"] = [
            {"type": "image", "path": part.source}
            if isinstance(part, Image)
            else {"type": "text", "text": part.text}
            for part in message.content
        ]
    if message.role != "assistant" or all(map(_learned, message.content)):
        return row
    if not any(map(_learned, message.content)):
        return row | {"train": False}
    return row | {"train_detail": _detail(message.content)}


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    """A message as an object whose content is a list of parts."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return message | {"content": parts}


def content_text(message: Mapping[str, Any]) -> str:
    """What a message as an object says, with a line for each image before its text."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"] if part["type"] == "text" else f"[image: {part.get('path', '')}]"
        for part in content
    )


def _learned(part: Part) -> bool:
    return not isinstance(part, Text) or part.learn


def _detail(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """The characters of a message that are trained on or not, as ranges."""
    detail: list[dict[str, Any]] = []
    start = 0
    for learn, spans in itertools.groupby(parts, key=_learned):
        size = sum(len(span.text) for span in spans if not isinstance(span, Image))
        if size:
            detail.append({"begin_offset": start, "end_offset": start + size - 1, "train": learn})
        start += size
    return detail


def row_chat(row: FileRow, field: str = "messages") -> Chat:
    """The chat in a field of a row: a list of messages, each with `role` and `content` (or `from`
    and `value`), and marks of what is trained on.

    A content is text or a list of parts: `text`, and images as paths or URLs, or in the row's field
    `images` (or `image`), in the order of parts without a path and of `<image>` in texts. Outputs
    of tools become turns of the user; `reasoning_content` becomes a thought in think tags.

    Raises ValueError with the place of the row for what cannot be shown to a model or trained on:
    structured tool calls, unknown roles, marks on a user's message, more or fewer images than the
    messages show.
    """
    images = _images(row)
    chat = chat_with_images(row, field, images)
    if left := len(list(images)):
        raise row.error(
            "images", f"has {left} images more than the messages show: name each with <image>"
        )
    return chat


def chat_with_images(row: FileRow, field: str, images: Iterator[Image]) -> Chat:
    """`row_chat` with these images for its placeholders, of which some may be left."""
    messages = row.fields.get(field)
    if not isinstance(messages, list) or not messages:
        wrong = "is missing" if messages is None else "must be a list of messages, and not empty"
        raise row.error(field, wrong)
    try:
        return tuple(
            _numbered(number, message, images) for number, message in enumerate(messages, 1)
        )
    except ValueError as error:
        raise row.error(field, str(error)) from None


def _images(row: FileRow) -> Iterator[Image]:
    """The images of a row that keeps them in a column of their own."""
    named = [name for name in IMAGES if row.fields.get(name)]
    if len(named) > 1:
        raise row.error(named[0], f"and field {named[1]!r} both name images: leave one out")
    sources = [row.fields[name] for name in named][:1]
    if sources and isinstance(sources[0], list):
        sources = sources[0]
    if not all(isinstance(source, str) for source in sources):
        raise row.error(named[0], "must be a path or URL, or a list of these")
    return iter([Image(source) for source in sources])


def _numbered(number: int, message: Any, images: Iterator[Image]) -> Message:
    try:
        return _message(message, images)
    except ValueError as error:
        raise ValueError(f"has a message {number} that {error}") from None


def _message(message: Any, images: Iterator[Image]) -> Message:
    if not isinstance(message, Mapping):
        raise ValueError("is not an object with the fields role and content")
    named = message.get("role", message.get("from"))
    role = ROLES.get(named) if isinstance(named, str) else None
    if role is None:
        raise ValueError(f"has the role {named!r:.40}; known are {', '.join(ROLES)}")
    if message.get("tool_calls") or message.get("function_call"):
        raise ValueError(
            "has structured tool calls: write them into its content, as the model must"
        )
    parts = _parts(message.get("content", message.get("value")), images, role)
    thoughts = next((message[name] for name in THOUGHTS if message.get(name)), "")
    if not isinstance(thoughts, str) or (thoughts and role != "assistant"):
        raise ValueError("has thoughts that are no text of an assistant")
    learn = _mark(message)
    if role != "assistant":
        if learn or message.get("train_detail"):
            raise ValueError(
                f"marks {role} text as trained on: only assistant messages are, remove the mark"
            )
        return Message(role, parts)
    parts = _marked(parts, learn is not False, message.get("train_detail"))
    # offsets of a train_detail count the content alone, so that the mark of the message decides
    opened = with_thoughts(thoughts, "")
    return Message(role, (Text(opened, learn is not False), *parts) if opened else parts)


def _parts(content: Any, images: Iterator[Image], role: Role) -> tuple[Part, ...]:
    """The parts of a content, images where the text or a part names one."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ValueError(f"has a content that is {type(content).__name__}, not text or parts")
    parts: list[Part] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get("text") if kind == "text" else None
        if isinstance(text, str):
            parts += _with_images(text, images, role)
        elif kind in ("image", "image_url"):
            parts.append(_image(part, images))
        else:
            raise ValueError(f"has a part {part!r:.60}, which is neither text nor an image")
    return tuple(parts)


def _with_images(text: str, images: Iterator[Image], role: Role) -> Iterator[Part]:
    """A text whose placeholders stand for the images of the row, in order. What an assistant writes
    where no image is left is text.
    """
    start = 0
    for found in PLACEHOLDER.finditer(text):
        if role != "assistant" and re.search(r"\d", found[0]):
            raise ValueError(f"has {found[0]} in its text: images are named <image>, in order")
        image = next(images, None)
        if image is None and role == "assistant":
            break
        if image is None:
            raise ValueError(
                f"has {found[0]} in its text and no image for it: name one in the row's field "
                "images or image, or take it out of the text"
            )
        if start < found.start():
            yield Text(text[start : found.start()])
        yield image
        start = found.end()
    if start < len(text) or not start:
        yield Text(text[start:])


def _image(part: Mapping[str, Any], images: Iterator[Image]) -> Image:
    source = next(
        (part[key] for key in ("path", "url", "image", "image_url") if part.get(key)), None
    )
    if isinstance(source, Mapping):  # as OpenAI writes it
        source = source.get("url")
    if isinstance(source, str):
        return Image(source)
    image = next(images, None) if source is None else None
    if image is None:
        raise ValueError("has an image without a path or a URL")
    return image


def _mark(message: Mapping[str, Any]) -> bool | None:
    """Whether a message is marked as trained on; None if it has no mark."""
    marks = {name: _is_set(name, message[name]) for name in MARKS if message.get(name) is not None}
    values = set(marks.values())
    if len(values) > 1:
        raise ValueError(f"has marks that contradict each other: {', '.join(marks)}")
    return values.pop() if values else None


def _is_set(name: str, value: Any) -> bool:
    """The value of a mark; a text is none, since "false" would count as true."""
    if not isinstance(value, int | float) or value not in (0, 1):  # True and 1.0 are 1
        raise ValueError(f"has {name} {value!r:.20}, which must be 0 or 1, true or false")
    return bool(value)


def _marked(parts: tuple[Part, ...], learn: bool, detail: Any) -> tuple[Part, ...]:
    """The parts of an assistant message with their marks."""
    if any(isinstance(part, Image) for part in parts):
        raise ValueError("has an image in an assistant message, which a model cannot write")
    text = "".join(part.text for part in parts if isinstance(part, Text))
    if not detail or not learn:
        return (Text(text, learn),)
    marked: list[Part] = []
    done = 0
    for start, end, wanted in sorted(_ranges(detail)):
        if not done <= start < end <= len(text):
            raise ValueError(
                f"has a train_detail with the range {start} to {end - 1}: ranges must not overlap, "
                f"and lie within the {len(text)} characters of the content"
            )
        # characters that no range names are not trained on
        marked += [Text(text[done:start], False), Text(text[start:end], wanted)]
        done = end
    marked.append(Text(text[done:], False))
    return tuple(part for part in marked if isinstance(part, Text) and part.text)


def _ranges(detail: Any) -> Iterator[tuple[int, int, bool]]:
    """The start, the end and the mark of each range of a train_detail."""
    for one in detail if isinstance(detail, list) else [detail]:
        named = one if isinstance(one, Mapping) else {}
        start, last, wanted = (named.get(n) for n in ("begin_offset", "end_offset", "train"))
        if type(start) is not int or type(last) is not int or wanted is None:
            raise ValueError(
                "needs a train_detail that lists objects with begin_offset and end_offset (whole "
                "numbers) and train"
            )
        yield start, last + 1, _is_set("a train_detail whose train is", wanted)
