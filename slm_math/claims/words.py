"""What a claim says in words: its statement, and the page that tells a stranger how to check it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.outcomes import FLIPS
from slm_math.evaluation.plain import plain

_README = """# A claim about language models in mathematics

{statement}

## How to check it

    pip install .    # in a clone of slm-math
    slm-math claim --check THIS_FILE.zip

No model, no GPU, no network and no PyTorch are needed. The command grades every sample again from
the texts in this file, runs the agents of slm-math again on the recorded replies, and computes
every figure above again. It exits with 0 if nothing differs, and with 1 if anything does: one line
for each verdict, byte or figure. It needs grader {grader}; if yours is another version, the first
line says so.

## What is in this file

- `claim.json`: the statement, and all figures with their intervals, tests and hashes
- `runs/N/records.jsonl.gz`: every sample of run N, with prompts, replies, programs and verdicts
- `runs/N/manifest.json`: agent, model, data, decoding, seed, versions and machine of run N
- `runs/N/controls/NAME/`: the same for its controls and its unseen twins, where there are any
- `runs/N/overlap.json`: test problems among training problems, where somebody looked for them: a
  report, since no training problem is in this file

## What no check can find out

That the replies are those of the model that the manifest names. Who doubts it runs the model
again: the manifest has everything that this needs.
"""


def readme(claim: Mapping[str, Any]) -> str:
    """The text of README.md."""
    lines = "\n\n".join(_as_code(line) for line in claim["statement"])
    return _README.format(statement=lines, grader=plain(claim["grader"], 200))


def _as_code(line: str) -> str:
    """A line as a code block of Markdown, in which neither HTML nor links of names have effect."""
    return textwrap.fill(
        line, 98, initial_indent=" " * 4, subsequent_indent=" " * 6, break_on_hyphens=False
    )


def statement(claim: Mapping[str, Any]) -> list[str]:
    """The statement of a claim, a line for each run, comparison and control."""
    data = claim["data"]
    named = "/".join(as_word(data[key]) for key in ("source", "split") if data[key])
    confirmed = "" if data["confirmed"] else ", which records alone cannot confirm"
    return [
        f"{data['problems']} problems{_clusters(claim)} of {named or 'an unnamed source'} "
        f"(data hash {plain(data['hash'])}{confirmed}), graded by version {plain(claim['grader'])}",
        *(line for run in claim["runs"] for line in _run_lines(run)),
        *(line for one in claim["comparisons"] for line in _comparison_lines(one, claim)),
        *_flips(claim),
        *_seed_lines(claim),
        *_absences(claim["runs"]),
    ]


def _run_lines(run: Mapping[str, Any]) -> Iterator[str]:
    each = run["samples_each"]
    samples = "" if each == 1 else f", {each} samples each"
    if each is None:
        samples = f", the mean over {run['problems']} problems with different numbers of samples"
    bad = [f"{run[key]} {key}" for key in ("broken", "skipped", "undecided") if run[key]]
    counted = f"; counted as wrong: {', '.join(bad)}" if bad else ""
    batches = {None: "", 0: " before training"}.get(
        run["batches"], f" after {run['batches']} batches of training"
    )
    yield (
        f"{name(run)}{batches}: {_percent(run, 'accuracy')} % right [{_percent(run, 'low')}, "
        f"{_percent(run, 'high')}], {run['correct']} of {run['samples']}{samples}{counted}"
    )
    if "tool" in run:
        shape = "" if run["tool"] == "completions" else f", of the shape {plain(run['tool'], 200)}"
        stated = "each answer is the one that its reply states"
        if run["last_number"]:
            stated += ", or else the last number in it"
        yield f"{name(run)}: saved completions{shape}; {stated}"
    if run["not_run_again"] is not None:
        answers = run["answers_that_stand_nowhere"]
        where = "in no reply and in no output of a program"
        unstated = f"; {answers} of them stand {where}" if answers else ""
        yield (
            f"{name(run)}: its answers are taken as recorded, since "
            f"{plain(run['not_run_again'], 200)}{unstated}"
        )
    if run["worked_examples"]:
        yield (
            f"{name(run)}: {run['worked_examples']} worked examples stand before each problem, "
            "whose texts are not in its manifest and were not compared"
        )
    for control, one in run["controls"].items():
        theirs, ours = (100 * share for share in one["accuracy"])
        what = (
            "the same with blank images"
            if control == "blind"
            else "trained without what there is to learn from"
        )
        yield (
            f"{name(run)}, control {plain(control)} ({what}): {ours:.1f} % right, the control "
            f"{theirs:.1f} %, {_test(one)}, n = {one['problems']}"
        )
    if run["twins"] is not None:
        one = run["twins"]
        theirs, ours = (100 * share for share in one["accuracy"])
        without = f", {one['without_twin']} without a twin" if one["without_twin"] else ""
        yield (
            f"{name(run)}, unseen twins of its problems: {ours:.1f} % right, on twins {theirs:.1f} "
            f"%, memorization gap {_test(one)}, n = {one['problems']}{without}"
        )
    if run["overlap"] is not None:
        one = run["overlap"]
        yield (
            f"{name(run)}, overlap: {one['near_exact']} of {run['problems']} problems are nearly "
            f"those of {one['training_problems']} training problems, {one['matches']} share 13 "
            f"words in a row (a report on {one['test_problems']} test problems, which no check can "
            "compute again)"
        )


def _comparison_lines(one: Mapping[str, Any], claim: Mapping[str, Any]) -> Iterator[str]:
    number = len(claim["comparisons"])
    adjusted = f", Holm over {number} {shown_p(one['p_adjusted'])}" if number > 1 else ""
    yield (
        f"{as_word(one['b'])} against {as_word(one['a'])}: {_test(one)}{adjusted}, "
        f"{len(one['gained'])} gained, {len(one['lost'])} lost, n = {one['problems']}; {_seen(one)}"
    )


def _flips(claim: Mapping[str, Any]) -> list[str]:
    """What gained and lost count, where they do not count samples."""
    several = any(run["samples"] > run["problems"] for run in claim["runs"])
    return [FLIPS] if several and claim["comparisons"] else []


def _clusters(claim: Mapping[str, Any]) -> str:
    cluster, units = (claim["runs"][0][key] for key in ("cluster", "units"))
    if cluster is None:
        return ""
    return (
        f" in {units} clusters by {as_word(cluster)}, which are the units of intervals and tests,"
    )


def _seed_lines(claim: Mapping[str, Any]) -> Iterator[str]:
    one = claim["over_seeds"]
    if one is None:
        return
    half = len(one["a"])
    method, baseline = (list(map(as_word, one[side])) for side in "ba")
    yield (
        f"the method ({', '.join(method)}) against its baseline ({', '.join(baseline)}), {half} "
        f"seeds, n = {one['problems']}: the mean difference is "
        f"{shown_difference(one['difference'], *one['over_both'])} points for other seeds and "
        "problems"
    )
    p = shown_p(one["p"])
    for words, ends in (
        ("for other seeds on these problems", one["over_seeds"]),
        ("for these weights on other problems", one["over_problems"]),
    ):
        yield f"{words}: {shown_difference(one['difference'], *ends)} points"
    yield f"t-test over seeds: p {'' if p.startswith('<') else '= '}{p}"


def _seen(one: Mapping[str, Any]) -> str:
    if one["detectable"] is None:
        return "it could see no difference"
    return f"it could see differences of at least {100 * one['detectable']:.1f} points (80 % power)"


def _test(one: Mapping[str, Any]) -> str:
    p = shown_p(one["p"])
    difference = shown_difference(one["difference"], one["low"], one["high"])
    return f"{difference} points, {one['test']} p {'' if p.startswith('<') else '= '}{p}"


def _absences(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the claim does not have."""
    absent = {
        "no control": [run for run in runs if not run["controls"] and run["batches"] != 0],
        "no control, since it is of a time before training, as its manifest says": [
            run for run in runs if not run["controls"] and run["batches"] == 0
        ],
        "no unseen twins": [run for run in runs if run["twins"] is None],
        "nobody looked for the problems among training data": [
            run for run in runs if run["overlap"] is None
        ],
    }
    for words, without in absent.items():
        if without:
            yield f"{words}: {', '.join(map(name, without))}"


def name(run: Mapping[str, Any]) -> str:
    return as_word(run["name"])


def as_word(value: str) -> str:
    """A name among words: in quotes if it could be taken for some of them."""
    text = plain(value, 200)
    return text if re.fullmatch(r"[\w./+@=~-]+( \(run \d+\))?", text) else repr(text)


def _percent(run: Mapping[str, Any], key: str) -> str:
    return f"{100 * run[key]:.1f}"
