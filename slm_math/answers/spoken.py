"""The part of a reply that answers: behind its thinking, before the end of its turn and before an
invented question.
"""

from __future__ import annotations

import re

Span = tuple[int, int]

# A chat model may run past its turn; what follows was not said to us.
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|im_sep|endoftext|eot_id|eot|end_of_text|end|eom_id|start_header_id|user|assistant|system|return)\|>"
    r"|</s>|<end_of_turn>|<start_of_turn>|<eos>|<bos>|<pad>|\[/?INST\]"
    r"|[<‹][｜|](?:end▁of▁sentence|User|Assistant|begin▁of▁sentence)[｜|][>›]"
)
_THOUGHT = r"(?:seed:)?(?:think|thinking|thought|reasoning|scratchpad)\s*"
_FINAL = "<|channel|>final<|message|>"  # models with channels say there what counts
_THINKS = re.compile(
    rf"<(?P<close>/)?(?:{_THOUGHT})>|\[(?P<close_2>/)?THINK\]|◁(?P<close_3>/)?think▷"
    r"|<\|(?:begin|(?P<close_4>end))_of_thought\|>|<\|(?:START|(?P<close_5>END))_THINKING\|>",
    re.IGNORECASE,
)
# A base model tends to invent the next question of a list and to answer that too.
_NEXT_QUESTION = re.compile(
    r"^[ \t#*]*(?:"
    r"(?:(?:next |new )?(?:question|problem|exercise)(?P<part> "
    r"\d+)?\**:|q\d*:|human:|user:|\[?instruction\]?:"
    r"|### ?instruction)"
    r"|(?P<after>(?:question|problem|exercise|example) "
    r"\d+\**[.:)]|(?:question|problem|exercise)(?: \d+)?\**[ \t]*$"
    r"|example:|assistant:|(?:user|human|assistant)[ \t]*$))",
    re.IGNORECASE | re.MULTILINE,
)
_HINTS = (
    "uestion",
    "roblem",
    "xercise",
    "xample",
    "nstruction",
    "ser",
    "uman",
    "ssistant",
    "Q",
    "q",
    "QUEST",
    "PROB",
)
_ANSWERED = re.compile(r"\\boxed|\\fbox|####|</answer>|answer is|answer:", re.IGNORECASE)
_MEANS = re.compile(r"[^#*\s]")


def spoken(text: str) -> Span:
    """The part of a reply that answers: after thinking, before the end of the turn and an invented
    question.
    """
    start, end = 0, len(text)
    if _FINAL in text or "<|channel|>analysis" in text:
        start = (text.rfind(_FINAL) + len(_FINAL)) if _FINAL in text else end
        turn = _TURN_END.search(text, start)
        end = turn.start() if turn else end
    elif any(mark in text for mark in "<[◁‹"):
        turn = _TURN_END.search(text)
        end = turn.start() if turn else end
        start, end = _after_thinking(text, end)
    if not any(hint in text for hint in _HINTS):
        return start, end
    questions = list(_NEXT_QUESTION.finditer(text, start, end))
    if questions:
        answered, opening = _ANSWERED.search(text, start, end), _MEANS.search(text, start, end)
        for question in questions:
            # it may be a part of the same problem, unless that is answered
            own = question["part"] or question["after"]
            part = own and not (answered and answered.start() < question.start())
            if opening and opening.start() < question.start() and not part:
                return start, question.start()
    return start, end


def _after_thinking(text: str, end: int) -> Span:
    """Behind the last block of thinking that is closed, up to one that is not."""
    start, opened = 0, None
    for mark in _THINKS.finditer(text, 0, end):
        if any(mark.groups()):
            start, opened = mark.end(), None
        elif opened is None:
            opened = mark.start()
    return start, end if opened is None else opened
