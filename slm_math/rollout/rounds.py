"""What agents did on the way to their answers: rounds, verdicts, programs. Counted from records (`rollout.record`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.agents.judging import reviewed


def drafts(row: Mapping[str, Any]) -> list[bool]:
    """Whether the answer after each round was right, in order; a draft without an answer leaves the one before it.

    Drafts of workflows side by side are not rounds.
    """
    marks: list[bool] = []
    for event in row["events"]:
        if event.get("note") == "draft" and not event.get("branch"):
            marks.append(marks[-1] if event["text"] is None and marks else event["correct"])
    return marks


def rounds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of records with drafts: how answers changed from round to round; {} where there are none.

    `rounds` is the mean number. Shares, which add up to 1: `first_right` (the first draft was right and so is the
    answer), `improved` (the answer only), `degraded` (the first draft only), `failed` (neither). `round_r/accuracy`:
    accuracy if all had stopped after round r at the latest; `after_r/accuracy`, `after_r/share`: accuracy of, and share
    of, those that ended after exactly r rounds.
    """
    marked = [(drafts(row), row["correct"]) for row in rows]
    marked = [(marks, right) for marks, right in marked if marks]
    if not marked:
        return {}
    n = len(marked)
    values = {
        "rounds": sum(len(marks) for marks, _ in marked) / n,
        "first_right": sum(marks[0] and right for marks, right in marked) / n,
        "improved": sum(right and not marks[0] for marks, right in marked) / n,
        "degraded": sum(marks[0] and not right for marks, right in marked) / n,
        "failed": sum(not marks[0] and not right for marks, right in marked) / n,
    }
    most = max(len(marks) for marks, _ in marked)
    for r in range(1, most + 1):
        ended = [right for marks, right in marked if len(marks) == r]
        stopped = [marks[r - 1] if len(marks) > r else right for marks, right in marked]
        values[f"round_{r}/accuracy"] = sum(stopped) / n
        values[f"after_{r}/share"] = len(ended) / n
        if ended:
            values[f"after_{r}/accuracy"] = sum(ended) / len(ended)
    return values


def verdicts(rows: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, bool]]:
    """How often a verifier said what (CORRECT, INCORRECT, UNCLEAR) about an answer that was right (True) or not."""
    found: Counter[tuple[str, bool]] = Counter()
    for row in rows:
        notes = ((e["note"], e.get("branch", ()), e) for e in row["events"] if e["kind"] == "note")
        found.update((verdict["text"], draft["correct"]) for draft, verdict in reviewed(notes))
    return found


def confusion(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`verdicts` as metrics: `verdict_correct/right`, ... are counts; `verifier_accuracy` is the share of verdicts that
    are CORRECT on right and INCORRECT on wrong answers (UNCLEAR is neither). {} where there are none.
    """
    found = verdicts(rows)
    if not found:
        return {}
    words = ("CORRECT", "INCORRECT", "UNCLEAR")
    values: dict[str, float] = {
        f"verdict_{word.lower()}/{'right' if right else 'wrong'}": found[word, right]
        for word in words
        for right in (True, False)
    }
    values["verifier_accuracy"] = (found["CORRECT", True] + found["INCORRECT", False]) / found.total()
    return values


def votes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, bool]]:
    """(share of the votes that the winner got, whether it was right) of every vote of a whole agent."""
    return [
        (event["value"], row["correct"])
        for row in rows
        for event in row["events"]
        if event.get("note") == "vote" and not event.get("branch") and event["text"] is not None
    ]


def coded(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Programs by sample, {} where no reply has one: shares of samples with a program in a reply (`code_written`),
    with one that ran (`code_run`), whose last one succeeded (`code_succeeded`), and the accuracy of these
    (`code_succeeded_accuracy`).
    """
    written = [row for row in rows if any(event.get("program") for event in row["events"])]
    if not written:
        return {}
    ran = [(row, [e["ok"] for e in row["events"] if e["kind"] == "run"]) for row in rows]
    ended = [row for row, runs in ran if runs and runs[-1]]
    values = {
        "code_written": len(written) / len(rows),
        "code_run": sum(bool(runs) for _, runs in ran) / len(rows),
        "code_succeeded": len(ended) / len(rows),
    }
    return values | ({"code_succeeded_accuracy": sum(r["correct"] for r in ended) / len(ended)} if ended else {})


def agent_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """All of the above that apply, and `oracle`: any draft, candidate or the answer is right; `lost`: replies that were
    no rounds, per sample."""
    values = rounds(rows) | confusion(rows) | coded(rows)
    graded = [[e["correct"] for e in row["events"] if e.get("note") in ("draft", "candidate")] for row in rows]
    if any(graded):
        values["oracle"] = sum(any(marks) or row["correct"] for marks, row in zip(graded, rows)) / len(rows)
    lost = sum(event.get("note") == "lost" for row in rows for event in row["events"])
    return values | ({"lost": lost / len(rows)} if lost else {})
