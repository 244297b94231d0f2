"""`slm-math compare`: evaluations against the first one, as a table, with the problems that
flipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from slm_math.evaluation.clusters import clustered_runs, units_lines
from slm_math.evaluation.compare import (
    Comparison,
    adjusted,
    compare,
    shown_difference,
    shown_p,
)
from slm_math.evaluation.compare_verdicts import (
    BalancedComparison,
    adjusted_balanced,
    compare_balanced,
)
from slm_math.evaluation.outcomes import flips_lines
from slm_math.evaluation.plain import as_name, cell, encodable, plain, print_line
from slm_math.evaluation.runs import (
    FinishedEvaluation,
    identity_notes,
    load_evaluations,
    unshared,
)
from slm_math.evaluation.seeds_table import show_seeds
from slm_math.grading.opened import evaluations_of
from slm_math.records.files import write_json
from slm_math.records.outputs import check_output


def compare_runs(
    folders: Sequence[str],
    flips: int = 5,
    out: str | None = None,
    over: Literal["seeds"] | None = None,
    cluster: str | None = None,
    filter: str | None = None,
) -> None:
    """Compares evaluations with the first of them, problem by problem: is the difference larger
    than sampling noise?

    Prints every difference of accuracy with its 95 % interval, its p-value (exact McNemar test;
    sign-flip permutation for several samples per problem), also corrected for several comparisons
    (Holm), and the problems that flipped; of verdicts on drafts also that of balanced accuracy,
    with problems as the units. Runs on different problems, unfinished runs and runs that different
    versions graded are rejected.

    Args:
        folders: agents' folders (with records.jsonl), or folders of agents: outputs of `slm-math
            eval`, training runs (their last evaluation), or a folder that holds several of these.
            The first is the baseline; in folders of agents, each agent is compared with the
            baseline's agent of the same name, and in a single one with its first agent. Or files of
            completions, as `grade` reads them: their problems are paired by id, or by their texts.
        flips: how many flipped problems to show in each direction.
        out: JSON file for all results, with every flipped problem.
        over: with "seeds", whether a method is better and not only these weights: the first half
            of the folders are runs of the baseline with different seeds, the second half those of
            the method, in the same order. Prints intervals whose level is the seed.
        cluster: a tag of the problems, or images: problems with the same value, or with the same
            images, are one unit of intervals and tests. By default the instances of a template
            are (tag template), where there are such; "problem" takes each as one.
        filter: of files of lm-eval, the filter whose rows count (strict-match): what it left of the
            replies is graded.
    """
    if flips < 0:
        raise ValueError(f"flips must be 0 or more, got {flips}")
    if out:
        check_output("compare", out, folders)
    console = Console()
    with evaluations_of(folders, console, filter=filter) as paths:
        _compare_runs(paths, flips, out=out, over=over, cluster=cluster, console=console)


def _compare_runs(
    folders: Mapping[str, Path],
    flips: int,
    out: str | None,
    over: str | None,
    cluster: str | None,
    console: Console,
) -> None:
    """As `compare_runs`, of folders by their names."""
    loaded, notes = with_paired(load_evaluations(folders))
    groups = {agent: clustered_runs(group, cluster) for agent, group in loaded.items()}
    if over == "seeds":
        show_seeds(groups, out, console)
        return
    by_agent = {
        agent: compare({name: one.samples for name, one in group.items()})
        for agent, group in groups.items()
    }
    every = iter(adjusted([one for comparisons in by_agent.values() for one in comparisons]))
    by_agent = {agent: [next(every) for _ in some] for agent, some in by_agent.items()}
    balanced = _balanced(groups)
    for agent, comparisons in by_agent.items():
        console.print(comparison_table(agent, comparisons))
        if balanced[agent]:
            console.print(balanced_table(agent, balanced[agent]))
        for note in _notes(groups[agent], notes[agent]):
            print_line(console, plain(note, 2000))
        for comparison in comparisons:
            print_line(console, detectable_line(comparison))
        for comparison in comparisons:
            _show_flips(comparison, groups[agent], flips, console)
    left_out = unshared(folders, groups)
    if left_out:
        agents = plain(", ".join(left_out), 2000)
        print_line(console, f"not compared, because nothing stands against it: {agents}")
    if out:
        data = [
            _to_json(agent, comparison, groups[agent], more)
            for agent, comparisons in by_agent.items()
            for comparison, more in zip_longest(comparisons, balanced[agent])
        ]
        told = [note for agent, group in groups.items() for note in _notes(group, notes[agent])]
        write_json(Path(out), {"comparisons": data, "notes": told, "not_compared": left_out})
        print_line(console, f"written to {out}")


def _notes(group: Mapping[str, FinishedEvaluation], pairing: Sequence[str]) -> list[str]:
    """What is said of the comparisons of a group besides their figures."""
    runs = [one.samples for one in group.values()]
    return [*pairing, *units_lines(runs[0]), *flips_lines(runs), *identity_notes(group)]


def with_paired(
    groups: Mapping[str, Mapping[str, FinishedEvaluation]],
) -> tuple[dict[str, Mapping[str, FinishedEvaluation]], dict[str, list[str]]]:
    """The evaluations, of which those of saved completions are on the same problems as the others
    in their group, and for each group lines on how these were paired.
    """
    result: dict[str, Mapping[str, FinishedEvaluation]] = {}
    notes: dict[str, list[str]] = {}
    for agent, group in groups.items():
        result[agent], notes[agent] = group, []
        if any(one.saved for one in group.values()):
            from slm_math.evaluation.pairing import paired  # which reads texts of problems

            samples, notes[agent] = paired({name: one.samples for name, one in group.items()})
            result[agent] = {
                name: replace(one, samples=samples[name]) for name, one in group.items()
            }
    return result, notes


def comparison_table(agent: str, comparisons: Sequence[Comparison]) -> Table:
    """The comparisons of one agent with their common baseline, in per cent."""
    first = comparisons[0]
    title = (
        f"{agent}: accuracy in %, {first.problems} problems, "
        f"{', '.join({c.test: 0 for c in comparisons})}"
    )
    table = Table(title=cell(title, 200), title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("difference, 95 %", justify="right", no_wrap=True)
    corrected = any(c.p_adjusted != c.p for c in comparisons)
    for name in ("p (Holm)" if corrected else "p", "gained", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(
        as_name(first.a), _accuracy(first.accuracy[0], first.broken[0]), "baseline", "", "", ""
    )
    for c in comparisons:
        p = shown_p(c.p) + (f" ({shown_p(c.p_adjusted)})" if corrected else "")
        shown = (
            _accuracy(c.accuracy[1], c.broken[1]),
            c.shown_difference(),
            p,
            str(len(c.gained)),
            str(len(c.lost)),
        )
        table.add_row(as_name(c.b), *shown)
    return table


def detectable_line(comparison: Comparison) -> str:
    """What a comparison could see, in per cent."""
    one = comparison
    if one.detectable is None:
        return f"{plain(one.b, 200)}: {one.problems} problems could see no difference"
    return (
        f"{plain(one.b, 200)}: this comparison could see differences of at least "
        f"{100 * one.detectable:.1f} points (80 % power, n = {one.problems})"
    )


def _balanced(
    groups: Mapping[str, Mapping[str, FinishedEvaluation]],
) -> dict[str, list[BalancedComparison]]:
    """The comparisons of balanced accuracy by agent, their p corrected for all of them."""
    found = {
        agent: compare_balanced({name: one.samples for name, one in group.items()})
        for agent, group in groups.items()
    }
    every = iter(adjusted_balanced([one for some in found.values() for one in some]))
    return {agent: [next(every) for _ in some] for agent, some in found.items()}


def balanced_table(agent: str, comparisons: Sequence[BalancedComparison]) -> Table:
    """The comparisons of balanced accuracy of one agent with their common baseline, in per cent."""
    first = comparisons[0]
    title = (
        f"{agent}: balanced accuracy in %, {first.drafts} drafts of {first.problems} problems, "
        "permutation by problem"
    )
    table = Table(title=cell(title, 200), title_justify="left")
    table.add_column("run", overflow="fold")
    corrected = any(c.p_adjusted != c.p for c in comparisons)
    headings = ("balanced", "difference, 95 %", "p (Holm)" if corrected else "p")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(as_name(first.a), f"{100 * first.balanced_accuracy[0]:.1f}", "baseline", "")
    for c in comparisons:
        p = shown_p(c.p) + (f" ({shown_p(c.p_adjusted)})" if corrected else "")
        difference = shown_difference(c.difference, c.low, c.high)
        table.add_row(as_name(c.b), f"{100 * c.balanced_accuracy[1]:.1f}", difference, p)
    return table


def _accuracy(share: float, broken: int) -> str:
    return f"{100 * share:.1f}" + (f", {broken} broken" if broken else "")


def _show_flips(
    comparison: Comparison, runs: Mapping[str, FinishedEvaluation], flips: int, console: Console
) -> None:
    """Prints the first problems that flipped, in each direction."""
    a, b = comparison.a, comparison.b
    for word, ids in (("gained", comparison.gained), ("lost", comparison.lost)):
        if not ids[:flips]:
            continue
        title = f"{word} by {b} against {a}: {len(ids)}" + (
            f", the first {flips}" if len(ids) > flips else ""
        )
        table = Table(title=cell(title, 300), title_justify="left")
        for name in ("problem", "gold", "baseline's answer", "answer"):
            table.add_column(name, overflow="fold")
        for flip in _flips(ids[:flips], runs[a], runs[b]):
            answers = (_answers(flip["answers"][name]) for name in (a, b))
            table.add_row(
                cell(flip["id"], 80), cell(flip["gold"]), *(cell(text) for text in answers)
            )
        console.print(table)


def _flips(ids: Sequence[str], *runs: FinishedEvaluation) -> list[dict[str, Any]]:
    """Problems with their reference answer and all answers, by run."""
    places = [run.samples.places_of(ids) for run in runs]
    return [
        {
            "id": id,
            "gold": runs[0].samples.record(places[0][id][-1]).gold,
            "answers": {
                run.name: [run.samples.answer(place) for place in own[id]]
                for run, own in zip(runs, places)
            },
        }
        for id in ids
    ]


def _answers(answers: Sequence[str | None]) -> str:
    """The answers of a problem's samples, the most common first."""
    texts = ["no answer" if answer is None else answer for answer in answers]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(
        f"{count} x {plain(answer, 20)}" for answer, count in Counter(texts).most_common()
    )


def _to_json(
    agent: str,
    comparison: Comparison,
    runs: Mapping[str, FinishedEvaluation],
    balanced: BalancedComparison | None,
) -> dict[str, Any]:
    pair = runs[comparison.a], runs[comparison.b]
    flipped = {word: _flips(getattr(comparison, word), *pair) for word in ("gained", "lost")}
    more = {} if balanced is None else {"balanced": asdict(balanced)}
    return _encodable({"agent": agent, **asdict(comparison), **flipped, **more})


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return encodable(value) if isinstance(value, str) else value
