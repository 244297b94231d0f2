"""What a claim says of test problems among training problems: a report, read strictly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Any

from slm_math.claims.archive import parsed
from slm_math.data.overlap import KINDS
from slm_math.evaluation.plain import plain

_COUNTS = ("training_problems", "test_problems", "near_exact")


def overlap_figures(data: bytes, ids: Set[str]) -> dict[str, int]:
    """How many of the problems with these ids are among training problems, by what `slm-math
    overlap --out` wrote.

    No training problem is in a claim, so that nobody can find the matches again; all that is
    counted is counted again. Raises ValueError for values of another type, and for counts that are
    not those of the findings.
    """
    found = parsed(data)
    findings = found.get("findings")
    if not isinstance(findings, list) or not all(map(_is_finding, findings)):
        raise ValueError("overlap.json has no findings, or others than slm-math overlap writes")
    near = {each["test"] for each in findings if each["near_exact"]}
    kinds = Counter(each["kind"] for each in findings)
    counts = {name: _count(name, found.get(name)) for name in _COUNTS}
    counted = {"near_exact": len(near), **{kind: kinds[kind] for kind in KINDS if kind in found}}
    for name, number in counted.items():
        if _count(name, found.get(name)) != number:
            raise ValueError(f"overlap.json counts {found[name]} problems {name}, and has {number}")
    tests = {each["test"] for each in findings}
    if not len(tests) == len(findings) <= counts["test_problems"]:
        raise ValueError(
            f"overlap.json has {len(findings)} findings of {len(tests)} problems, and counts "
            f"{counts['test_problems']}"
        )
    return {
        "training_problems": counts["training_problems"],
        "test_problems": counts["test_problems"],
        "matches": len(tests & ids),
        "near_exact": len(near & ids),
    }


def _is_finding(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("test"), str)
        and isinstance(value.get("train"), str)
        and value.get("kind") in KINDS
        and isinstance(value.get("near_exact"), bool)
    )


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        shown = plain(repr(value), 40)
        raise ValueError(f"overlap.json says {name}: {shown}, which is not a count")
    return value
