"""Find where a turn ends: the tokens of chat templates, and the channels of a reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

Span = tuple[int, int]

# Tokens that end a turn or begin another, in the chat templates of many model families. A chat
# model may run past the end of its turn; the text after it does not answer the problem. Each
# alternative begins with one character, so that the search skips to such characters.
_PIPED = (
    r"(?i:im[_:](?:end|start|sep|user|assistant|system|middle)"
    r"|end(?!_of_(?:thought|box))(?:_?of_?[a-z_]+)?|(?:start|end)_header_id|header_(?:start|end)"
    r"|start_of_role|role_end|eo[admst](?:_id)?|(?:start|end)_of_turn_token|end_(?:response|text)"
    r"|(?:hy_)?(?:user|assistant|system|human|bot|chatbot|prompter)(?:_(?:token|start|end)|prompt)?"
    r"|separator|sep|pad|return|observation|extra_\d+|reserved_[a-z_]*\d+)\|>"
)
_WIDE = r"[｜|](?:(?:end|begin)▁of▁sentence|User|Assistant|hy_[A-Z]\w{2,12})[｜|][>›]"
TURN_END = re.compile(
    rf"<(?:\|{_PIPED}|{_WIDE}|/s>|(?:end|start)_of_turn>|(?:end|beginning)_of_sentence>"
    r"|(?:eo[adhms]|bos|pad|sep)>|EOS_TOKEN>|(?:extra_id|SPECIAL|TOKENS_UNUSED)_\d+>"
    r"|reserved_(?:token_)?\d+>|seed:[eb]os>|role>|_(?:user|bot|end|system)>|用户>|turn\|>|\|turn>)"
    rf"|‹{_WIDE}"
    r"|\[(?:/?INST|\|(?i:endofturn|user|human|assistant|ai|system)\||EOS|EOT"
    r"|(?:UNUSED_TOKEN_|unused)\d+)\]|\[e~\[|\]~b\]"
)
# The tokens with which a turn of the model itself begins.
_OPENING = re.compile(
    r"\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>)\s*)?"
    r"(?:<\|(?:im_start|start_of_role|header_start|start_header_id)\|>assistant"
    r"(?:<\|(?:end_of_role|header_end|end_header_id)\|>)?"
    r"|<\|im_assistant\|>assistant<\|im_middle\|>|<start_of_turn>model|<extra_id_1>Assistant"
    r"|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|\[\|[Aa]ssistant\|\]"
    r"|<\|(?:assistant|Bot|hy_Assistant)\|>:?|[<‹][｜|]Assistant[｜|][>›])?"
)

# Models with channels think in "analysis", call tools in "commentary" and answer in "final".
_CHANNEL = re.compile(r"<\|channel\|>\s*(?:analysis|commentary|final)")
_FINAL = re.compile(
    r"<\|channel\|>\s*final\b[^<\n]{0,40}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>"
)
_CHANNEL_END = re.compile(rf"{TURN_END.pattern}|<\|(?:start|call|channel)\|>")
_LEAVES = re.compile(r"<\|return\|>|<\|start\|>\s*user")
# The same without its special tokens, as decoders print it: "analysisLet me ...assistantfinal5". A
# text that mentions these words, with blanks or quotes around them, has no channels.
_BARE_START = re.compile(r"\s*(?:analysis(?=[\w\\$*\"'`(\[{])|commentary(?= to=|[\w\\$*]))")
_BARE_FINAL = re.compile(
    r"(?<![ \t\"'`(“‘])assistantfinal(?![\"')”’]|`(?!``))(?: ?(?:json|<\|message\|>))?"
)
_BARE_END = re.compile(r"(?<![ \t\"'`(“‘])assistant(?:analysis|commentary)")


def may_hold(text: str, words: Iterable[str]) -> bool:
    """Whether a text may hold one of some words, given in lower case, in whatever case. Far faster
    than a pattern that ignores case; letters beyond ASCII may be cases of any.
    """
    return not text.isascii() or any(map(text.lower().__contains__, words))


def turn(text: str) -> Span:
    """The span of the model's own turn."""
    start, end = 0, len(text)
    if "<" in text or "[" in text or "]" in text or (not text.isascii() and "‹" in text):
        opening = _OPENING.match(text)
        start = opening.end() if opening and opening.group().strip() else 0
        later = TURN_END.search(text, start)
        end = later.start() if later else end
    return start, end


def final_channel(text: str) -> Span | None:
    """The span of the last final channel of a reply, empty without one.

    None if the reply has no channels.
    """
    if "<|channel|>" in text and _CHANNEL.search(text):
        first = _FINAL.search(text)
        if first is None:
            return len(text), len(text)
        leaves = _LEAVES.search(text, first.end())
        end = leaves.start() if leaves else len(text)
        start = max(final.end() for final in _FINAL.finditer(text, first.start(), end))
        over = _CHANNEL_END.search(text, start, end)
        return start, over.start() if over else end
    if "assistant" not in text and not _BARE_START.match(text):
        return None
    finals = list(_BARE_FINAL.finditer(text)) if "final" in text else []
    if not finals:
        return (len(text), len(text)) if _BARE_START.match(text) else None
    start = finals[-1].end()
    over = _BARE_END.search(text, start) or TURN_END.search(text, start)
    return start, over.start() if over else len(text)
