"""From traces to training rows, and from rows to tensors. Tensors begin here.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch.
"""

from __future__ import annotations

from slm_math.data.rows import Row
from slm_math.types import Trace


def trace_rows(trace: Trace, role: str) -> list[Row]:
    """The rows of one role in a trace: turns whose prompt extends prompt + reply of an earlier turn
    share a row.

    Equality is checked on token ids, so what is trained on is exactly what was sampled. Tool output
    and user turns are context. A turn at another temperature starts a row of its own. Empty replies
    (no token) and greedy turns (no samples of the policy) make no row.
    """
    rows: list[Row] = []
    cut = any(turn.reply.finish == "length" for turn in trace.turns if turn.request.role == role)
    for turn in trace.turns:
        reply = turn.reply
        if turn.request.role != role or not reply.token_ids:
            continue
        # by the agent's wish; a reply's own temperature is 1 then
        if turn.request.temperature == 0:
            continue
        prompt = list(reply.prompt_ids)
        row = next(
            (
                row
                for row in reversed(rows)
                if row.temperature == reply.temperature and prompt[: len(row.ids)] == row.ids
            ),
            None,
        )
        if row is None:
            row = Row([], [], temperature=reply.temperature, role=role, cut=cut)
            rows.append(row)
        context = len(prompt) - len(row.ids)
        sampled = len(reply.token_ids)
        row.ids += [*prompt[len(row.ids) :], *reply.token_ids]
        row.mask += [0.0] * context + [1.0] * sampled
        row.logps += [0.0] * context + list(reply.logprobs or [float("nan")] * sampled)
        row.kept += [b""] * context + list(reply.support or [b""] * sampled)
    return rows
