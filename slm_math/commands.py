"""Our own commands. A command's signature is its options and its config file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.doctor import doctor
from slm_math.engines.base import Engine
from slm_math.evaluation.compare_table import compare_runs
from slm_math.evaluation.overlap_table import overlap_files
from slm_math.report import report
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.sandbox.serve import serve
from slm_math.types import AnswerType, Sampling

__all__ = [
    "compare_runs",
    "doctor",
    "download",
    "evaluate",
    "grade_file",
    "overlap_files",
    "report",
    "results",
    "serve",
]


def evaluate(
    agents: dict[str, Agent],
    source: Source,
    out: str,
    policy: str | None = None,
    engines: dict[str, Engine] | None = None,
    split: Split = "test",
    limit: int | None = None,
    shuffle: int | None = None,
    where: dict[str, Any] | None = None,
    samples: int = 1,
    shots: int = 0,
    shots_source: Source | None = None,
    sampling: Sampling = Sampling(temperature=0.0),
    by: str | None = None,
    dtype: str = "auto",
    slots: int = 64,
    chat_template: str | None = None,
    torch_threads: int | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
    seed: int = 0,
) -> None:
    """Evaluates agents and writes every transcript; a rerun goes on where the last one stopped.

    Args:
        agents: name -> agent.
        source: the problems.
        out: folder; each agent's records go to `<out>/<name>`.
        policy: model folder, adapter folder or hub id that serves every role without an engine of its own.
        engines: role -> engine; "default" serves all other roles.
        split: train, validation or test.
        limit: so many problems, the same ones every time.
        shuffle: seed of an order of the problems, of which limit takes the first.
        where: only problems with these tags, for example {level: [4, 5], subject: Algebra}.
        samples: workflows per problem.
        shots: worked examples in front of the solver's first request, from the training split.
        shots_source: where these come from; by default the source.
        sampling: decoding defaults; agents may override them per request.
        by: also break the results down by this tag of the problems (level, subject, kind).
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 without.
        slots: requests that the local model decodes at once.
        chat_template: chatml, plain or a Jinja file, instead of the tokenizer's own template.
        torch_threads: CPU threads of torch.
        sandbox: runs the agents' programs; one with its default limits when left out.
        seed: of the sampling.
    """
    from slm_math.data.modules import choose
    from slm_math.engines.loading import check_path
    from slm_math.evaluation.evaluate import evaluate as run
    from slm_math.evaluation.records import configuration
    from slm_math.evaluation.shots import with_shots
    from slm_math.evaluation.table import Live

    if not agents:
        raise ValueError("eval needs at least one agent under agents:")
    roles = {role for agent in agents.values() for role in agent.roles}
    serving: dict[str, Engine] = dict(engines or {})
    if policy is None and "default" not in serving and roles - set(serving):
        raise ValueError(f"nothing serves {', '.join(sorted(roles - set(serving)))}: give --policy or --engines")
    unknown = set(serving) - roles - {"default"}
    if unknown:
        raise ValueError(
            f"engines names {', '.join(sorted(unknown))}; the agents' roles are {', '.join(sorted(roles))}"
        )
    if policy is not None:
        check_path(policy)
    tasks = choose(source.tasks(split), where, shuffle, limit)
    if not tasks:
        raise ValueError(f"{source.name} has no problems in its {split} split" + (f" with {where}" if where else ""))
    about = {"source": source.name, "split": split, "configuration": configuration.get()}
    agents = {name: with_shots(agent, shots, shots_source or source, tasks, seed) for name, agent in agents.items()}
    console = Console()
    title = f"{source.name}/{split}"
    rows: dict[str, Any] = {}
    try:
        if any(agent.uses_python for agent in agents.values()):  # before a model is loaded
            sandbox = sandbox or Sandbox()
            sandbox.start()
        if policy is not None and ("default" not in serving and roles - set(serving)):
            serving["default"] = _local(policy, dtype, slots, chat_template, torch_threads)
        with Live(console, *agents) as live:
            for name, agent in agents.items():
                rows[name] = run(
                    agent, tasks, serving, {"default": sampling}, Path(out) / name, sandbox, samples, seed,
                    watch=live.watcher(name), about=about,
                )  # fmt: skip
    except KeyboardInterrupt:
        _tell(
            console, title + " (interrupted)", Path(out), [name for name in agents if (Path(out) / name).is_dir()], by
        )
        raise
    finally:
        if sandbox is not None:
            sandbox.close()
        for engine in serving.values():
            engine.close()
    _tell(console, title, Path(out), list(rows), by)
    if rows and all(summary.errors == summary.n for summary in rows.values()):
        sys.exit(1)


def _tell(console: Console, title: str, out: Path, names: Sequence[str], by: str | None) -> None:
    """What the evaluations in a folder came to."""
    from slm_math.evaluation.metrics import by_tag, summarise
    from slm_math.evaluation.records import expected, read_records
    from slm_math.evaluation.table import decoding_line, program_lines, results_table

    records = {name: read_records(out / name / "records.jsonl") for name in names}
    rows = {name: summarise(found, expected(out / name)) for name, found in records.items()}
    console.print(results_table(title, rows))
    for line in [*program_lines(rows), *filter(None, (decoding_line(name, out / name) for name in names))]:
        console.print(line, markup=False)
    for name, found in records.items():
        errors = Counter(row["error"] for row in found if row["error"])
        for error, count in errors.most_common(1):
            console.print(f"{name}: {errors.total()} broke, {count} of them with: {error}", markup=False)
            console.print("a rerun of the same command tries those again", markup=False)
    if by:
        for name, found in records.items():
            console.print(results_table(f"{name} by {by}", by_tag(found, by)))
    console.print(f"transcripts: {out}/<agent>/records.jsonl", markup=False)


def _local(policy: str, dtype: str, slots: int, template: str | None, threads: int | None) -> Engine:
    import torch

    from slm_math.engines.transformers import CheckpointEngine
    from slm_math.training import free_cores

    torch.set_num_threads(threads or free_cores())
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    return CheckpointEngine(policy, dtype=dtype, slots=slots, chat_template=template)


def results(folders: Sequence[str], by: str | None = None) -> None:
    """Prints the results of finished evaluations side by side: one column a folder, one row an agent.

    Args:
        folders: output folders of `slm-math eval`, or `eval/<epoch>` folders of a training run.
        by: break down by this tag of the problems.
    """
    from slm_math.evaluation.metrics import by_tag, summarise
    from slm_math.evaluation.records import read_records

    console = Console()
    columns: dict[str, dict[str, Any]] = {}
    for folder in folders:
        found = sorted(Path(folder).glob("*/records.jsonl"))
        if not found:
            raise ValueError(f"{folder} holds no evaluation (no */records.jsonl)")
        cells: dict[str, Any] = {}
        for path in found:
            records = list(read_records(path))
            cells[path.parent.name] = summarise(records)
            if by:
                cells |= {f"{path.parent.name}, {value}": s for value, s in by_tag(records, by).items()}
            manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
            if manifest["partial"]:
                console.print(f"{path.parent} is partial", markup=False)
        columns[folder] = cells
    table = Table(title="accuracy in %, 95 % interval", title_justify="left")
    table.add_column("agent")
    for folder in columns:
        table.add_column(folder, justify="right", min_width=26)
    names = list(dict.fromkeys(name for cells in columns.values() for name in cells))
    for name in names:
        table.add_row(name, *(cells[name].shown() if name in cells else "-" for cells in columns.values()))
    console.print(table)


def grade_file(
    file: str | None = None,
    completion: str | None = None,
    gold: str = "",  # texts of --explain, too, where "#### 5" or "null" is no None
    problem: str = "",
    answer_type: AnswerType | None = None,
    choices: str | None = None,
    tolerance: float | str | None = None,
    last_number: bool = False,
    out: str | None = None,
    workers: int | None = None,
    verify: bool = False,
    verdict: str | None = None,
    expect: int | None = None,
    explain: str = "",
) -> None:
    """Scores the saved completions of a file, and writes the verdicts beside it: `slm-math grade FILE.jsonl`.

    Exits with 1 when rows could not be read, or when --verify or --expect found something.

    Args:
        file: completions with their reference answers, one JSON object a line, or the records.jsonl of an evaluation.
            Options name its fields; a path reaches into objects and lists: response.body.choices.0.message.content.
        completion: field of the completion: text, a number, a chat (its last assistant message counts) or a list of
            samples; by default the first of completion, response, output, prediction, solution, messages, conversation.
        gold: field of the reference answer; by default the first of answer, gold, ground_truth. Of a rationale, what
            it states at its end (#### 5, a box, "The answer is 5").
        problem: field of the problem's text; by default the first of problem, question, prompt. An expression copied
            from it is not an answer.
        answer_type: math, mc (a letter) or num (a number up to a tolerance), for all rows; by default what the row's
            field answer_type says, else math.
        choices: field of the choices of mc, a list; by default choices.
        tolerance: of num, for all rows: 0.01 is absolute, 1% relative to the gold; by default what the row's field
            tolerance says, else exact.
        last_number: accept the last number of a completion that states no answer.
        out: where verdicts go; by default FILE with the ending .graded.jsonl.
        workers: processes; by default one for each core, or none beside this one for a small file.
        verify: grade again and compare with the verdicts that are there: in the file beside it (see out), else in a
            field of the rows (see verdict); in evaluation records, their own.
        verdict: field of the rows' own verdict, for verify; correct or is_correct need not be named.
        expect: how many problems there must be.
        explain: a completion whose grading is explained step by step, instead of a file; gold and problem are texts
            then, and choices is a JSON list of texts.
    """
    from slm_math.grading.completions import Fields
    from slm_math.grading.saved import grade_saved
    from slm_math.grading.steps import show_steps
    from slm_math.grading.verify import verify as compare

    console = Console()
    fields = Fields(completion, gold or None, problem or None, answer_type, choices, tolerance, verdict, last_number)
    if bool(file) == bool(explain):
        raise ValueError("give either a file of completions (slm-math grade FILE) or --explain TEXT --gold TEXT")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if verdict is not None and not verify:
        raise ValueError("give --verify with --verdict, which names what to compare with")
    if not file:
        show_steps(explain, fields, console)
        return
    do = compare if verify else grade_saved
    if not do(Path(file), fields, Path(out) if out else None, workers, expect, console):
        sys.exit(1)


def download(config: str | list[str] | None = None, models: str | list[str] | None = None) -> None:
    """Fetches what configs name, resumable, so that everything runs offline afterwards.

    Args:
        config: config file of any command, or a list of them; their models and data sets are fetched.
        models: hub id of a further model, or a list of them.
    """
    from slm_math.data.download import download as fetch

    wanted: list[str] = [models] if isinstance(models, str) else list(models or [])
    sources: list[Source] = []
    for file in [config] if isinstance(config, str) else config or []:
        if not Path(file).is_file():
            raise ValueError(f"config file does not exist: {file}")
        _named_in(yaml.safe_load(Path(file).read_text(encoding="utf-8")), wanted, sources)
    if not wanted and not sources:
        raise ValueError("nothing to fetch: give --config FILE or --models owner/name (several: '[A, B]')")
    if fetch(wanted, sources):
        sys.exit(1)


def _named_in(node: Any, models: list[str], sources: list[Source]) -> None:
    """Collects the models and sources that a config names, wherever they stand in it."""
    if isinstance(node, list):
        for item in node:
            _named_in(item, models, sources)
    if not isinstance(node, dict):
        return
    policy = node.get("policy")
    named = policy.get("path") if isinstance(policy, dict) else policy
    options = node.get("init_args") or {}
    kind = _class(node.get("class_path"))
    if kind is not None and issubclass(kind, Source):
        sources.append(kind(**options))
        return
    if kind is not None and kind.__name__ == "CheckpointEngine":
        named = options.get("path")
    # a path such as runs/x/export is the work of an earlier step, not of a hub
    if isinstance(named, str) and named.count("/") == 1 and not Path(named).parent.is_dir():
        models.append(named)
    for item in node.values():
        _named_in(item, models, sources)


def _class(path: Any) -> type | None:
    """The class behind a `class_path`, None for what is no class of this package."""
    if not isinstance(path, str) or not path.startswith("slm_math."):
        return None
    module, _, name = path.rpartition(".")
    found = getattr(import_module(module), name, None)
    return found if isinstance(found, type) else None
