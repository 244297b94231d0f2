"""What makes the numbers of an evaluation mean something else than they seem to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from slm_math.records.record import Record
from slm_math.records.seeing import unseen


def summary_warnings(records: Sequence[Record], uses_python: bool = False) -> tuple[str, ...]:
    """A line for every such thing.

    `uses_python`: the agent can run programs. That none ran is worth a line, because a server may
    have cut off what the agent waits for.
    """
    lines = []
    answered = [record for record in records if record.turns and record.error is None]
    if uses_python and answered and not any(record.runs for record in answered):
        written = sum(any(turn.program for turn in record.turns) for record in answered)
        lines.append(
            f"no program ran in any of {len(answered)} samples, although this agent can run "
            f"programs: "
            + (
                f"in {written} of them the model wrote one. Check whether the server cuts stop "
                "strings off"
                if written
                else "the model wrote none"
            )
        )
    skipped = [record for record in records if record.skipped]
    if skipped:
        problems = len({record.id for record in skipped})
        reason, _ = Counter(record.error for record in skipped).most_common(1)[0]
        lines.append(
            f"{problems} of {len({record.id for record in records})} problems do not fit into the "
            f"model's context: they were skipped, and count as incorrect ({reason})"
        )
    return (*lines, *map(str, unseen(records)))
