"""The rows that a teacher scores: those of the student, or the same replies after a prompt that
shows the worked solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slm_math.data.rows import Eyes, Row
from slm_math.policy.chat import ChatFormat
from slm_math.prompts import Prompt
from slm_math.rollout.groups import Rollout
from slm_math.types import Chat, Text

SLOTS = "request solution"


def solution_prompt(name: str) -> Prompt:
    """The template that shows a solution. Raises ValueError if it has other slots than {request}
    and {solution}, or lacks one of them.
    """
    prompt = Prompt(name, SLOTS)
    lacking = [slot for slot in prompt.slots if f"{{{slot}}}" not in prompt.template]
    for what, names in (("lacks", lacking), ("has", prompt.unknown_slots)):
        if names:
            raise ValueError(
                f"teacher.solution_prompt: prompt {name!r} {what} the slot {names[0]}; it must "
                "show {request}, what the agent asked, and {solution}, and nothing else"
            )
    return prompt


def with_solution(row: Row, rollout: Rollout, chat: ChatFormat, prompt: Prompt) -> Row | None:
    """The row with the worked solution in its prompt; None for a problem without one.

    The last message of the user in the row's first request becomes `prompt`; whatever follows that
    request in the row, sampled or not, stays token by token, so that the loss tokens are the same.
    Their support stays, too. The agent never sees any of this.
    """
    if not (rollout.task.solution or "").strip():
        return None
    turn = rollout.trace.turns[min(row.turns[t] for t in row.loss_positions)]
    shown = shown_solution(turn.request.chat, prompt, str(rollout.task.solution))
    ids = tuple(chat.encode(shown, turn.request.resume))
    rest = slice(len(turn.reply.prompt_ids), None)
    return replace(
        row,
        ids=ids + row.ids[rest],
        mask=(0.0,) * len(ids) + row.mask[rest],
        logprobs=(0.0,) * len(ids) + row.logprobs[rest],
        support=(b"",) * len(ids) + row.support[rest],
        turns=(-1,) * len(ids) + row.turns[rest],
    )


def shown_solution(chat: Chat, prompt: Prompt, solution: str) -> Chat:
    """The chat with `prompt` in place of its last message of the user; images stay."""
    last = max(n for n, message in enumerate(chat) if message.role == "user")
    message = chat[last]
    images = tuple(part for part in message.content if not isinstance(part, Text))
    asked = "".join(part.text for part in message.content if isinstance(part, Text))
    text = Text(prompt.fill(request=asked, solution=solution))
    return (*chat[:last], replace(message, content=(*images, text)), *chat[last + 1 :])


def fitting(
    rows: Sequence[Row | None], context: int | None, sight: Eyes | None = None
) -> list[Row | None]:
    """The rows, None in place of those that a teacher's context (tokens) does not hold."""
    return [
        row if row is not None and (context is None or row.width(sight) <= context) else None
        for row in rows
    ]
