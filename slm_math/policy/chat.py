"""Turns chats into token ids with the model's template; sampled replies keep their token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_math.answers.thoughts import closed_at_end, opening_of
from slm_math.images import chat_images, image_hash
from slm_math.policy.dialogue import Frame, Span, Turn, Written, continuation, rows, thought_through
from slm_math.policy.dialogue_shapes import DialogueShapes
from slm_math.policy.rendering import Renderer
from slm_math.policy.templates import check_template, check_variables, in_parts, template_text
from slm_math.policy.tokens import Encoder
from slm_math.types import Chat, Image, Part, Reply, Text

if TYPE_CHECKING:  # it needs torch, and chats do not
    from slm_math.policy.sight import Sight

BLIND = "this problem has images, but the model takes text only: docs/vision.md has others"
_QUESTION, _MARK = {"role": "user", "content": "x"}, "a-b-c"


class ChatFormat:
    """Renders chats with a chat template and encodes them; never re-tokenizes a sampled reply.
    Every template is told that today is `TODAY`.

    Some templates open a thought in the generation prompt (`<think>`). What an assistant's message
    then repeats of it is left out after the prompt.

    `template`: "chatml", "plain" or the path of a Jinja file; by default the tokenizer's own.
    `variables` are for the template (`enable_thinking`). `sight`: the model's eyes. Raises
    ValueError if there is no template, if it has no generation prompt or does not use a variable,
    or if the tokenizer has no end-of-sequence token, or does not encode the end of a turn as one.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        sight: Sight | None = None,
    ) -> None:
        self.sight = sight
        self.tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)
        self._name = tokenizer.name_or_path or "this model"
        self._source = (
            f"chat template {template}" if template else f"the chat template of {self._name}"
        )
        # whether the model reads images; each is one placeholder in the prompt
        self.images = sight is not None
        if template is not None:
            check_template(template, variables)
            tokenizer.chat_template = template_text(template, self._encoder.beginning())
        if not tokenizer.chat_template:
            raise ValueError(
                f"the tokenizer of {self._name} has no chat template: "
                "set policy.chat_template to chatml, plain or the path of a Jinja file"
            )
        if tokenizer.eos_token_id is None:
            raise ValueError(f"the tokenizer of {self._name} has no end-of-sequence token")
        check_variables(tokenizer, variables or {}, self._source)
        self._template = Renderer(tokenizer, variables or {}, self._source, sight)
        self._check_generation_prompt()
        special = self._encoder.special | ({sight.placeholder} if sight else set())
        self._special = sorted(special, key=len, reverse=True)
        self.end_text, self._frame = self._end_of_turn()
        if self.end_text not in self._special:
            self._special.append(self.end_text)
        if self.tokens(self.end_text) != [self.end_id]:
            raise ValueError(
                f"the tokenizer of {self._name} does not encode the end of a turn, "
                f"{self.end_text}, as one token: remove split_special_tokens from "
                "tokenizer_config.json"
            )
        self._shapes = DialogueShapes(self._written_alone, self._special)
        # turns of dialogues that had no thoughts, where the prompt opens one: it is closed at once
        self.closed_thoughts = 0

    def _check_generation_prompt(self) -> None:
        """Raises ValueError if the template has no generation prompt: the model would then continue
        the user's message.
        """
        bare, prompt = self._template([_QUESTION], False), self._template([_QUESTION], True)
        whole = self._template([_QUESTION, {"role": "assistant", "content": _MARK}], False)
        header = whole[len(bare) :].partition(_MARK)[0] if whole.startswith(bare) else ""
        if prompt == bare and header.strip():
            raise ValueError(
                f"the chat template of {self._name} has no generation prompt: with "
                f"add_generation_prompt it must end in {header!r}; set policy.chat_template to "
                "chatml, plain or the path of a Jinja file"
            )

    def _end_of_turn(self) -> tuple[str, Frame]:
        """The token that the template writes after an assistant message (if it writes none, the
        tokenizer's end-of-sequence token), and what it writes around the message.
        """
        whole = self._template([_QUESTION, {"role": "assistant", "content": _MARK}], False)
        before = self._template([_QUESTION], True)
        rest = whole.rpartition(_MARK)[2]
        after = rest.lstrip()
        # base models may not mark this token as special
        known = {*self._special, *self.tokenizer.get_added_vocab()}
        written = max(filter(after.startswith, known), key=len, default="")
        if not whole.startswith(before):
            return written or self.tokenizer.eos_token, Frame()
        blanks = rest[: len(rest) - len(after)] if written else ""
        lead = whole[len(before) :].partition(_MARK)[0]
        return written or self.tokenizer.eos_token, Frame(lead, blanks, written)

    @property
    def end_id(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(self.end_text)

    def neutral(self, text: str) -> str:
        """`text` with special tokens broken up: no problem or tool output can end a turn."""
        return self._neutral(text, frozenset())

    def _neutral(self, text: str, spared: frozenset[str]) -> str:
        for token in self._special:
            if token in text and token not in spared:
                text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    def _content(self, parts: Sequence[Part], role: str = "assistant") -> str:
        """The text of a message's parts; only what the assistant wrote may hold marks of thoughts
        that are special tokens.
        """
        text = ""
        for part in parts:
            if isinstance(part, Image):
                raise ValueError(BLIND)
            own = role == "assistant" and not (isinstance(part, Text) and not part.learn)
            text += self._neutral(part.text, self._encoder.thoughts if own else frozenset())
        return text

    def _messages(self, chat: Chat) -> list[dict[str, Any]]:
        """The chat as templates expect it: texts, or lists of parts for messages with images."""
        messages: list[dict[str, Any]] = []
        for message in chat:
            content: Any
            if self.images and any(isinstance(part, Image) for part in message.content):
                content = [
                    {"type": "image"}
                    if isinstance(part, Image)
                    else {"type": "text", "text": self.neutral(part.text)}
                    for part in message.content
                ]
            else:
                content = self._content(message.content, message.role)
            messages.append({"role": message.role, "content": content})
        return messages

    def plain_messages(self, chat: Chat) -> list[dict[str, Any]]:
        """The messages of a chat without images as a caller of the template gives them to it."""
        messages = self._messages(chat)
        if self._template.in_parts:
            messages = [each | {"content": in_parts(each["content"])} for each in messages]
        return messages

    @property
    def template_options(self) -> tuple[dict[str, Any], str]:
        """The variables of the template, and what stands before it (see `dated`)."""
        return self._template.variables, self._template.before

    def render(self, chat: Chat, resume: bool = False) -> str:
        """The chat as text, up to where the assistant starts or (with `resume`) continues its
        message.
        """
        if resume:
            before = self._before(chat, len(chat) - 1)
            return before + continuation(before, self._content(chat[-1].content))
        return self._template(self._messages(chat), bool(chat) and chat[-1].role != "assistant")

    def _before(self, chat: Chat, index: int) -> str:
        """The text before assistant message `index`."""
        return self._template(self._messages(chat[:index]), True)

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text."""
        return self._encoder.encode(text)

    def first_ids(self, text: str) -> set[int]:
        """The tokens with which a reply may begin that begins with `text`."""
        return self._encoder.first_ids(text)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without the end-of-turn token."""
        return self._encoder.decode(tokens)

    def reply_text(self, prompt: Sequence[int], tokens: Sequence[int], resume: bool) -> str:
        """The text of a reply to a prompt. It begins with the opening of a thought, or the empty
        thought, with which the prompt ends; a reply that continues a message does not.
        """
        text = self.text(tokens)
        if resume or not text:
            return text
        end = self.tokenizer.decode(list(prompt[-64:]))
        opening = opening_of(end)
        return (opening.text if opening else closed_at_end(end)) + text

    def ends(self, *configs: Any) -> frozenset[int]:
        """All token ids that end a turn, of the tokenizer, the template and a model's configs."""
        tokens = {self.tokenizer.eos_token_id, self.end_id}
        for config in configs:
            named = getattr(config, "eos_token_id", None)
            tokens |= set(named) if isinstance(named, list) else {named}
        return frozenset(tokens - {None})

    def encode(self, chat: Chat, resume: bool = False) -> list[int]:
        """The prompt's token ids, see `prompt`."""
        return self.prompt(chat, resume)[0]

    def prompt(self, chat: Chat, resume: bool = False) -> tuple[list[int], str]:
        """The prompt's token ids, and a digest of its text and images.

        The token ids of the last sampled reply and of its prompt are kept unchanged. If that reply
        was not sampled after the same prompt (because the template rewrites history, or the agent
        moved the reply to another chat), the whole prompt is encoded, and training gets a separate
        row for it.
        """
        text = self.render(chat, resume)
        return self._spliced(chat, text, resume), digest(text, chat_images(chat))

    def _spliced(self, chat: Chat, text: str, resume: bool) -> list[int]:
        for index in range(len(chat) - 1, -1, -1):
            sampled = [
                k
                for k, part in enumerate(chat[index].content)
                if isinstance(part, Reply) and part.token_ids
            ]
            if sampled:
                rest = self._after(chat, index, sampled[-1], text)
                if rest is None:
                    break
                reply = chat[index].content[sampled[-1]]
                assert isinstance(reply, Reply)
                ids = reply.token_ids
                if reply.finish == "stop" and self.end_id == ids[-1]:
                    if resume and index == len(chat) - 1:  # the turn continues
                        ids = ids[:-1]
                    rest = rest.removeprefix(self.end_text)
                before = text[: len(text) - len(rest)]
                return [*reply.prompt_ids, *ids, *self._encoder.continued(before, rest)]
        return self.tokens(text)

    def _after(self, chat: Chat, index: int, part: int, text: str) -> str | None:
        """The rest of `text` after the reply that is part `part` of message `index`; None if the
        reply was not sampled after the text before it.
        """
        parts = chat[index].content
        before = self._before(chat, index)
        head, whole = (
            before + continuation(before, self._content(parts[:n])) for n in (part, part + 1)
        )
        images = chat_images((*chat[:index], replace(chat[index], content=parts[:part])))
        sampled = parts[part]
        assert isinstance(sampled, Reply)
        if sampled.prompt not in ("", digest(head, images)):
            return None
        reply = whole[len(head) :]
        for written in (reply, reply.strip()):  # many templates strip messages
            if text.startswith(head + written):
                return text[len(head) + len(written) :]
        return None

    def dialogue(
        self, chat: Chat, prompt_weight: float = 0.0
    ) -> list[tuple[list[int], list[float]]]:
        """Rows of a worked dialogue, each as token ids and their loss weights; see `written`."""
        return [self.row(each) for each in self.written(chat, prompt_weight)]

    def row(self, written: Written) -> tuple[list[int], list[float]]:
        """The token ids of a row of a dialogue, and their loss weights."""
        return written.encoded(self._encoder, (self.end_text, self.end_id))

    def written(self, chat: Chat, prompt_weight: float = 0.0) -> list[Written]:
        """Rows of a worked dialogue that are not encoded yet.

        The weight is 1 for assistant turns and their end token, 0 for spans injected into them
        (tool output) and for turns in which nothing is learned, and `prompt_weight` elsewhere. A
        dialogue is one row, or one row per assistant turn if the template rewrites history. Rows in
        which nothing is learned are left out. If the generation prompt opens a thought, solutions
        do not open it again, and those without thoughts close it first.

        Raises ValueError for a solution with a thought that never ends, and if nothing is learned.
        """
        made, closed = None, self.closed_thoughts
        if self._template.writes_contents_alone:
            made = self._shapes.written(chat, prompt_weight)
            self.closed_thoughts = closed  # shapes are learned from dialogues of nobody
        return self._written_alone(chat, prompt_weight) if made is None else made

    def _written_alone(self, chat: Chat, prompt_weight: float) -> list[Written]:
        """Rows of a dialogue, without regard to others."""
        learned = [any(map(_is_learned, message.content)) for message in chat]
        # a turn in which nothing is learned was written by an assistant, too: its thoughts stay
        shown = chat
        if not all(learned):
            shown = tuple(
                message if learn else replace(message, content=_own_text(message.content))
                for message, learn in zip(chat, learned, strict=True)
            )
        messages: list[Any] = self._messages(shown)
        turns = [
            self._turn(shown, n, messages, learned[n])
            for n, message in enumerate(chat)
            if message.role == "assistant"
        ]
        made = rows(turns, self.end_text, prompt_weight)
        made = [each for each in made if each.ends_learned or any(self.row(each)[1])]
        if not made:
            raise ValueError("nothing in it is trained on")
        return made

    def _turn(self, chat: Chat, index: int, messages: list[dict[str, Any]], learn: bool) -> Turn:
        before = self._template(messages[:index], True)
        parts = [Span(self._content((part,)), _is_learned(part)) for part in chat[index].content]
        spans = thought_through(before, parts, self._frame.lead)
        closed = len(spans) > len(parts)
        self.closed_thoughts += closed and learn
        frame = replace(self._frame, lead="") if closed else self._frame
        whole = self._template(messages[: index + 1], False)
        return Turn(before, frame.around(before, spans, whole), learn)


def _is_learned(part: Part) -> bool:
    return not isinstance(part, Text) or part.learn


def _own_text(parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(Text(part.text) if isinstance(part, Text) else part for part in parts)


def digest(text: str, images: Sequence[Image] = ()) -> str:
    """A hash of a prompt's text and of the content of its images, whatever their names are."""
    # hashes of the parts: no text can look like a text with an image
    hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    for image in images:
        seen = hashlib.blake2b(image_hash(image.source).encode(), digest_size=8)
        hashed = hashlib.blake2b(hashed.digest() + seen.digest(), digest_size=8, person=b"image")
    return hashed.hexdigest()
