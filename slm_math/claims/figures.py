"""What a claim says, computed from its runs and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from slm_math.claims.archive import CLAIM, README, json_bytes, sha256
from slm_math.claims.frozen import FrozenRun
from slm_math.claims.labels import TWINS, check_control
from slm_math.claims.overlap import overlap_figures
from slm_math.claims.regrade import SavedCompletions, stands_nowhere
from slm_math.claims.replay import Replayed, replayed
from slm_math.claims.words import readme, statement
from slm_math.evaluation.clusters import by_cluster
from slm_math.evaluation.compare import Comparison, compare
from slm_math.evaluation.pairing import paired
from slm_math.evaluation.seeds import compare_seeds, pairs_of
from slm_math.evaluation.twins import memorization_gap
from slm_math.foreign.shapes import NAMES
from slm_math.grading.recording import SAVED
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import summarize
from slm_math.records.files import recorded_data_hash
from slm_math.records.record import Record

FORMAT = 5  # of claim files
DIGITS = 9  # significant ones of a figure: those that no machine computes otherwise


@dataclass(frozen=True)
class Design:
    """What the comparisons of a claim are about.

    Args:
        cluster: a tag of the problems, or "images": those with the same value are one unit of
            intervals and tests; None for the default (see `by_cluster`).
        over: "seeds" for whether a method is better: the first half of the runs are those of the
            baseline with different seeds, the second half those of the method.
    """

    cluster: str | None = None
    over: Literal["seeds"] | None = None

    @classmethod
    def of(cls, data: Any) -> Design:
        """The design that a claim says it has. Raises ValueError for what is none."""
        if not isinstance(data, dict) or set(data) != {"cluster", "over"}:
            raise ValueError("claim.json.design: it is none")
        cluster, over = data["cluster"], data["over"]
        if not (cluster is None or isinstance(cluster, str)) or over not in (None, "seeds"):
            raise ValueError("claim.json.design: its values are none of a claim")
        return cls(cluster, over)

    def samples(self, run: FrozenRun) -> Samples:
        """The samples of a run, with the units of this design."""
        samples = Samples.of(run.records)
        return samples if self.cluster is None else by_cluster(samples, self.cluster)


def claim_members(runs: Sequence[FrozenRun], design: Design = Design()) -> dict[str, bytes]:
    """All members of the claim of these runs."""
    members = {
        name: data
        for place, run in enumerate(runs, 1)
        for name, data in run.members(f"runs/{place}/")
    }
    return members | described(runs, design, members)


def described(
    runs: Sequence[FrozenRun], design: Design, members: Mapping[str, bytes]
) -> dict[str, bytes]:
    """claim.json and README.md of runs, whose files are `members`."""
    claim = claim_of(runs, design, members)
    return {CLAIM: json_bytes(claim), README: readme(claim).encode()}


def claim_of(
    runs: Sequence[FrozenRun], design: Design, members: Mapping[str, bytes]
) -> dict[str, Any]:
    """The content of claim.json.

    Raises ValueError if the runs have other problems, or were graded by several versions, and for a
    design that does not fit them.
    """
    samples = [design.samples(run) for run in runs]
    for run in runs:
        _check_manifest(run)
    by_name = {run.name: own for run, own in zip(runs, samples, strict=True)}
    if any("tool" in run.identity for run in runs):
        by_name = _of_same_problems(runs, by_name)
    comparisons: list[Comparison] = []
    if len(runs) > 1 and design.over is None:
        comparisons = compare(by_name)
    figures = {
        "format": FORMAT,
        "design": asdict(design),
        "grader": _one(runs, "grader"),
        "data": _data(runs),
        "runs": [_run(run, own, design) for run, own in zip(runs, samples, strict=True)],
        "comparisons": list(map(asdict, comparisons)),
        "over_seeds": None if design.over is None else _over_seeds(runs, by_name),
        "files": {
            name: {"sha256": sha256(data), "bytes": len(data)}
            for name, data in sorted(members.items())
            if name not in (CLAIM, README)
        },
    }
    rounded = _rounded(figures)
    return {"statement": statement(rounded), **rounded}


def _of_same_problems(runs: Sequence[FrozenRun], by_name: dict[str, Samples]) -> dict[str, Samples]:
    """The samples of runs of which some are saved completions, under the ids of the first: tools
    may call the same problems otherwise. Raises ValueError for other shapes than those known, for
    answers that were taken from replies by two rules, and for runs that are not of the same
    problems.
    """
    rules = {run.name: run.identity.get("last_number") for run in runs if "tool" in run.identity}
    for run in runs:
        if "tool" in run.identity and run.identity["tool"] not in (SAVED, *NAMES):
            raise ValueError(f"{run.name}: its manifest names no shape of saved completions")
    if set(rules.values()) == {True, False}:
        lenient = ", ".join(name for name, rule in rules.items() if rule)
        raise ValueError(
            f"the last number of a reply counts as its answer in {lenient}, and not in the others: "
            "grade all with --last_number true, or all without it"
        )
    if set(rules.values()) - {True, False}:
        raise ValueError("identity.last_number of saved completions is true or false")
    if len(runs) == 1:
        return by_name
    found, notes = paired(by_name)
    if any(len(found[name].records) != len(by_name[name].records) for name in by_name):
        raise ValueError(f"the runs are not of the same problems: {'; '.join(notes)}")
    return found


def _check_manifest(run: FrozenRun) -> None:
    """Raises ValueError unless the manifest of a run is that of its records."""
    manifest, identity = run.about, run.identity
    n, problems = len(run.records), len({id for id, _ in run.keys})
    says = {
        "partial": (manifest.get("partial"), False),
        "identity.problems": (identity.get("problems"), problems),
        "records": (manifest.get("records", n), n),
    }
    each = _samples_each(run)
    if "tool" in identity:  # some problems of saved completions may have more samples than others
        says["identity.rows"] = identity.get("rows"), n
        each = max(Counter(id for id, _ in run.keys).values())
    says["identity.samples"] = identity.get("samples"), each
    for name, (stated, true) in says.items():
        if stated != true or type(stated) is not type(true):  # 1.0 and True are equal to 1
            raise ValueError(
                f"{run.name}: its manifest says {name}: {stated!r:.40}, and its records {true!r}"
            )


def _samples_each(run: FrozenRun) -> int | None:
    """How many samples every problem of a run has; None if some have more than others. Raises
    ValueError unless those of each are numbered from 0 on.
    """
    counts = Counter[str]()
    for id, sample in run.keys:
        if sample != counts[id]:
            raise ValueError(
                f"{run.name}: problem {id!r:.60} has a sample {sample}, and should have "
                f"{counts[id]}"
            )
        counts[id] += 1
    sizes = set(counts.values())
    return sizes.pop() if len(sizes) == 1 else None


def _one(runs: Sequence[FrozenRun], name: str) -> str:
    """What the identities of all runs, and their environments, have in common."""
    found = {
        run.name: {str(run.identity.get(name)), str(run.about.get("environment", {}).get(name))}
        for run in runs
    }
    values = set().union(*found.values())
    if len(values) > 1:
        raise ValueError(
            f"runs of several versions of the {name} ({', '.join(sorted(values))}) cannot be one "
            "claim: evaluate again with one version"
        )
    return values.pop()


def _data(runs: Sequence[FrozenRun]) -> dict[str, Any]:
    """Which problems the runs are of. Raises ValueError if they are others than the manifests say.

    Records do not know the order of the problems, on which the hash of an evaluation depends: a
    manifest without another hash by ids is only confirmed if the order is that of the ids.
    """
    first = runs[0]
    about = first.about.get("about", {})
    return {
        "source": about.get("source"),
        "split": about.get("split"),
        "problems": len({id for id, _ in first.keys}),
        # the one that is confirmed, where there is one
        "hash": about.get("data_by_id") or first.identity.get("data"),
        "confirmed": all(map(confirms_data, runs)),
    }


def confirms_data(run: FrozenRun) -> bool:
    """Whether the manifest of a run shows that the problems, with their reference answers, are
    those that were evaluated. Raises ValueError if it shows that they are others.
    """
    problems = first_of_each(run)
    stated = run.about.get("about", {}).get("data_by_id")
    if stated is None:
        return recorded_data_hash(problems) == run.identity.get("data")
    if stated != recorded_data_hash(sorted(problems, key=lambda record: record.id)):
        raise ValueError(
            f"{run.name}: its problems or reference answers are not those of its manifest "
            f"(about.data_by_id: {stated!r:.40})"
        )
    return True


def first_of_each(run: FrozenRun) -> list[Record]:
    """The first record of each problem, in the order of ids, without its events."""
    firsts: dict[str, Record] = {}
    for record in run.records:
        if record.id not in firsts:
            firsts[record.id] = replace(record, events=())
    return list(firsts.values())


def agent_of(run: FrozenRun) -> Replayed | SavedCompletions | str:
    """The agent of a run, or why it cannot be run again; of saved completions what grades them."""
    if "tool" in run.identity:
        return SavedCompletions(run.identity.get("last_number") is True)
    description = run.identity.get("agent")
    return replayed(description if isinstance(description, dict) else {})


def _over_seeds(runs: Sequence[FrozenRun], samples: Mapping[str, Samples]) -> dict[str, Any]:
    """The method against its baseline, over pairs of runs by seed."""
    pairs = pairs_of(samples, {run.name: run.identity.get("seed") for run in runs})
    return asdict(compare_seeds(pairs))


def _run(run: FrozenRun, samples: Samples, design: Design) -> dict[str, Any]:
    summary = summarize(samples, tags=False)
    identity, agent = run.identity, agent_of(run)
    return {
        "name": run.name,
        **({key: identity[key] for key in ("tool", "last_number")} if "tool" in identity else {}),
        "agent": run.agent,
        "batches": run.setting("batches"),
        "problems": summary.problems,
        "cluster": samples.cluster,
        "units": len(set(samples.units.tolist())),
        "samples": summary.n,
        "samples_each": _samples_each(run),
        "correct": int(samples.total(lambda one: one.correct)),
        "accuracy": summary.accuracy,
        "low": summary.low,
        "high": summary.high,
        "broken": summary.errors,
        "skipped": int(summary.metrics["skipped"]),
        "undecided": int(summary.metrics["undecided"]),
        "not_run_again": agent if isinstance(agent, str) else None,
        "worked_examples": agent.shown // 2 if isinstance(agent, Replayed) else 0,
        "answers_that_stand_nowhere": sum(map(stands_nowhere, run.records)),
        "seed": identity.get("seed"),
        "engines": identity.get("engines"),
        "data": identity.get("data"),
        "controls": {
            name: _control(run, name, samples, design) for name in run.controls if name != TWINS
        },
        "twins": _twins(run, samples, design) if TWINS in run.controls else None,
        "overlap": None if run.overlap is None else _overlap(run, run.overlap),
    }


def _control(run: FrozenRun, name: str, samples: Samples, design: Design) -> dict[str, Any]:
    """A run against a control, which is its baseline, on the problems of the control."""
    own = design.samples(_checked(run, name))
    both = samples.where(samples.also_in(own))
    [found] = compare({"control": own, "run": both})
    others = len(set(samples.problems.tolist())) - found.problems
    return {"not_in_control": others, **asdict(found)}


def _twins(run: FrozenRun, samples: Samples, design: Design) -> dict[str, Any]:
    """The memorization gap of a run: its problems against their twins."""
    gap = memorization_gap(samples, _checked(run, TWINS).records, design.cluster)
    return {"without_twin": gap.untwinned, **asdict(gap.comparison)}


def _checked(run: FrozenRun, name: str) -> FrozenRun:
    """A control of a run, if its manifest says that it is one, of its records."""
    control = run.controls[name]
    check_control(run.about, control.about, name, of=run.name)
    _check_manifest(control)
    confirms_data(control)
    return control


def _overlap(run: FrozenRun, data: bytes) -> dict[str, int]:
    """What is reported of the problems of a run among training problems. Raises ValueError."""
    try:
        return overlap_figures(data, {id for id, _ in run.keys})
    except ValueError as error:
        raise ValueError(f"{run.name}: {error}") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
