"""What makes the numbers of an evaluation mean something else than they seem to."""

from __future__ import annotations

import numpy as np

from slm_math.metrics.arrays import as_column
from slm_math.metrics.columns import Samples
from slm_math.records.seeing import unseen


def summary_warnings(samples: Samples, uses_python: bool = False) -> tuple[str, ...]:
    """A line for every such thing.

    `uses_python`: the agent can run programs. That none ran is worth a line, because a server may
    have cut off what the agent waits for.
    """
    lines = []
    answered = [
        (one, n) for one, n in samples.counted() if one.spoke and not one.broken and not one.skipped
    ]
    if uses_python and answered and not any(one.ran for one, _ in answered):
        written = sum(n for one, n in answered if one.wrote)
        lines.append(
            f"no program ran in any of {sum(n for _, n in answered)} samples, although this agent "
            f"can run programs: "
            + (
                f"in {written} of them the model wrote one. Check whether the server cuts stop "
                "strings off"
                if written
                else "the model wrote none"
            )
        )
    skipped = samples.fact(lambda one: one.skipped) > 0
    if skipped.any():
        problems = len(np.unique(samples.problems[skipped]))
        reason, _ = samples.error_counts(lambda one: one.skipped).most_common(1)[0]
        lines.append(
            f"{problems} of {len(np.unique(samples.problems))} problems do not fit into the "
            f"model's context: they were skipped, and count as incorrect ({reason})"
        )
    found = unseen((one.seen, n) for one, n in samples.counted())
    return (*lines, *map(str, found))


def same_texts(samples: Samples) -> int:
    """How many units have the text of another one: they are one problem under several ids."""
    asked = as_column(samples.tables.asked)[samples.problems]
    own = np.unique(np.stack([asked, samples.units.astype(np.int64)], axis=1)[asked != 0], axis=0)
    return len(own) - len(np.unique(own[:, 0]))


def same_texts_line(again: int, problems: int) -> list[str]:
    """A line on problems with the text of another one, if there are any."""
    if not again:
        return []
    return [
        f"{again:,} of {problems:,} problems have another id and the same text as one before: they "
        "count as independent, so that intervals are too narrow; let samples of one problem share "
        "its id, or leave the ids out"
    ]
