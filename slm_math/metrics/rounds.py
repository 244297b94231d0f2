"""What agents did on the way to their answers: rounds, verdicts, programs. Counted from records
(`rollout.record`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from slm_math.agents.judging import reviewed

FORMAL = ("box", "tag")  # forms that prompts ask for


def drafts(row: Mapping[str, Any]) -> list[bool]:
    """Whether the answer after each round was right, in order; a draft without an answer leaves the
    one before it.

    Drafts of workflows side by side are not rounds.
    """
    marks: list[bool] = []
    for event in row["events"]:
        if event.get("note") == "draft" and not event.get("branch"):
            marks.append(marks[-1] if event["text"] is None and marks else event["correct"])
    return marks


def rounds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of records with drafts: how answers changed from round to round; {} where there are none.

    `rounds` is the mean number. Shares, which add up to 1: `first_right` (the first draft was right
    and so is the answer), `improved` (the answer only), `degraded` (the first draft only), `failed`
    (neither). `round_r/accuracy`: accuracy if all had stopped after round r at the latest;
    `after_r/accuracy`, `after_r/share`: accuracy of, and share of, those that ended after exactly r
    rounds.
    """
    marked = [some for row in rows if (some := drafts(row))]
    if not marked:
        return {}
    n = len(marked)
    ended = Counter(map(len, marked))
    shares = {f"after_{r}/share": ended[r] / n for r in range(1, max(ended) + 1)}
    return {"rounds": sum(map(len, marked)) / n} | means(round_marks(rows)) | shares


def judgements(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """(problem id, role, what it said, whether that answer was right) of every verdict."""
    found = []
    for row in rows:
        notes = ((e["note"], e.get("branch", ()), e) for e in row["events"] if e["kind"] == "note")
        said = [(v.get("role", ""), v["text"], draft["correct"]) for draft, v in reviewed(notes)]
        found += [(row["id"], *what) for what in said]
    return found


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter[tuple[str, bool]]]:
    """By role, how often it said what (CORRECT, INCORRECT, UNCLEAR) about an answer that was right
    (True) or not.
    """
    found: dict[str, Counter[tuple[str, bool]]] = {}
    for _, role, said, right in judgements(rows):
        found.setdefault(role, Counter())[said, right] += 1
    return found


def confusion(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`verdicts` as metrics: `verdict_correct/right`, ... are counts; `verifier_accuracy` is the
    share of verdicts that are CORRECT on right and INCORRECT on wrong answers (UNCLEAR is neither).
    Of several roles that judge, each has its name in front (`checker/verdict_correct/right`). {}
    where there are none.
    """
    words = ("CORRECT", "INCORRECT", "UNCLEAR")
    values: dict[str, float] = {}
    by_role = verdicts(rows)
    for role, found in by_role.items():
        front = f"{role}/" if len(by_role) > 1 else ""
        for word in words:
            for right in (True, False):
                values[f"{front}verdict_{word.lower()}/{'right' if right else 'wrong'}"] = found[
                    word, right
                ]
    return values | means(verdict_marks(rows))


def votes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, bool]]:
    """(share of the votes that the winner got, whether it was right) of every vote of a whole
    agent.
    """
    return [
        (event["value"], row["correct"])
        for row in rows
        for event in row["events"]
        if event.get("note") == "vote" and not event.get("branch") and event["text"] is not None
    ]


def coded(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Programs by sample, {} where no reply has one: shares of samples with a program in a reply
    (`code_written`), with one that ran (`code_run`), whose last one succeeded (`code_succeeded`),
    and the accuracy of these (`code_succeeded_accuracy`).
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
    return values | (
        {"code_succeeded_accuracy": sum(r["correct"] for r in ended) / len(ended)} if ended else {}
    )


def agent_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """All of the above that apply, and `oracle`: any draft, candidate or the answer is right;
    `lost`: replies that were no rounds, per sample."""
    values = rounds(rows) | confusion(rows) | coded(rows)
    graded = [
        [e["correct"] for e in row["events"] if e.get("note") in ("draft", "candidate")]
        for row in rows
    ]
    if any(graded):
        values["oracle"] = sum(
            any(marks) or row["correct"] for marks, row in zip(graded, rows)
        ) / len(rows)
    lost = sum(event.get("note") == "lost" for row in rows for event in row["events"])
    return values | {"lost": lost / max(len(rows), 1)}


Marks: TypeAlias = dict[str, list[tuple[str, float]]]


def marks(rows: Sequence[Mapping[str, Any]]) -> Marks:
    """(problem id, mark) of the shares that people compare, for intervals; a figure of this name is
    their mean.
    """
    return sample_marks(rows) | round_marks(rows) | verdict_marks(rows)


def means(found: Marks) -> dict[str, float]:
    """The means of marks, where there are some."""
    return {
        name: sum(mark for _, mark in given) / len(given) for name, given in found.items() if given
    }


def sample_marks(rows: Sequence[Mapping[str, Any]]) -> Marks:
    """Of every sample."""
    every = {
        "strict": [row["correct"] and row.get("method") in FORMAL for row in rows],
        "lenient": [row.get("lenient", row["correct"]) for row in rows],
        "boxed": [row.get("method") in FORMAL for row in rows],
        "hedged": [row.get("hedged", False) for row in rows],
        "no_answer": [row["answer"] is None for row in rows],
        "truncated": [any(e.get("finish") == "length" for e in row["events"]) for row in rows],
    }
    return {
        name: [(row["id"], float(mark)) for row, mark in zip(rows, some)]
        for name, some in every.items()
    }


def round_marks(rows: Sequence[Mapping[str, Any]]) -> Marks:
    """Of samples with drafts, see `rounds`."""
    drafted = [(row["id"], some, row["correct"]) for row in rows if (some := drafts(row))]
    kinds = {
        (True, True): "first_right",
        (False, True): "improved",
        (True, False): "degraded",
        (False, False): "failed",
    }
    found: Marks = {}
    for kind, name in kinds.items() if drafted else ():
        found[name] = [(id, float((some[0], right) == kind)) for id, some, right in drafted]
    for r in range(1, max((len(some) for _, some, _ in drafted), default=0) + 1):
        found[f"round_{r}/accuracy"] = [
            (id, float(s[r - 1] if len(s) > r else right)) for id, s, right in drafted
        ]
        found[f"after_{r}/accuracy"] = [
            (id, float(right)) for id, some, right in drafted if len(some) == r
        ]
    return found


def verdict_marks(rows: Sequence[Mapping[str, Any]]) -> Marks:
    """Of verdicts: whether they are CORRECT on right and INCORRECT on wrong answers."""
    judged = judgements(rows)
    several = len({role for _, role, _, _ in judged}) > 1
    found: Marks = {}
    for id, role, said, right in judged:
        name = f"{role}/verifier_accuracy" if several else "verifier_accuracy"
        found.setdefault(name, []).append(
            (id, float((said, right) in (("CORRECT", True), ("INCORRECT", False))))
        )
    return found
