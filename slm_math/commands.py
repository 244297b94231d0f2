"""Our own commands. A command's signature is its options and its config file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.engines.base import Engine
from slm_math.types import Sampling


def evaluate(
    agents: dict[str, Agent],
    source: Source,
    out: str,
    policy: str | None = None,
    engines: dict[str, Engine] | None = None,
    split: Split = "test",
    limit: int | None = None,
    samples: int = 1,
    sampling: Sampling = Sampling(temperature=0.0),
    by: str | None = None,
    dtype: str = "auto",
    slots: int = 64,
    chat_template: str | None = None,
    torch_threads: int | None = None,
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
        samples: workflows per problem.
        sampling: decoding defaults; agents may override them per request.
        by: also break the results down by this tag of the problems (level, subject, kind).
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 without.
        slots: requests that the local model decodes at once.
        chat_template: chatml, plain or a Jinja file, for a tokenizer that has none.
        torch_threads: CPU threads of torch.
        seed: of the sampling.
    """
    from slm_math.data.modules import take
    from slm_math.engines.loading import check_path
    from slm_math.evaluation.evaluate import evaluate as run
    from slm_math.evaluation.metrics import by_tag
    from slm_math.evaluation.records import read_records
    from slm_math.evaluation.table import Live, results_table
    from slm_math.sandbox import Sandbox

    if not agents:
        raise ValueError("eval needs at least one agent under agents:")
    roles = {role for agent in agents.values() for role in agent.roles}
    serving: dict[str, Engine] = dict(engines or {})
    if policy is None and "default" not in serving and roles - set(serving):
        raise ValueError(f"nothing serves {', '.join(sorted(roles - set(serving)))}: give --policy or --engines")
    if policy is not None:
        check_path(policy)
    tasks = take(source.tasks(split), limit)
    if not tasks:
        raise ValueError(f"{source.name} has no problems in its {split} split")
    if policy is not None:
        serving.setdefault("default", _local(policy, dtype, slots, chat_template, torch_threads))
    console = Console()
    missing = Sandbox.unavailable()
    rows = {}
    sandbox = None
    try:
        for name, agent in agents.items():
            if agent.uses_python and missing:
                console.print(f"{name} is skipped: {missing}", markup=False)
                continue
            if agent.uses_python and sandbox is None:
                sandbox = Sandbox()
            with Live(console, name) as live:
                rows[name] = run(
                    agent, tasks, serving, {"default": sampling}, Path(out) / name, sandbox, samples, seed,
                    watch=live.watch,
                )  # fmt: skip
    finally:
        if sandbox is not None:
            sandbox.close()
        for engine in serving.values():
            engine.close()
    console.print(results_table(f"{source.name}/{split}", rows))
    for name in rows:
        errors = Counter(row["error"] for row in read_records(Path(out) / name / "records.jsonl") if row["error"])
        for error, count in errors.most_common(1):
            console.print(f"{name}: {errors.total()} broke, {count} of them with: {error}", markup=False)
            console.print("a rerun of the same command tries those again", markup=False)
    if by:
        for name in rows:
            parts = by_tag(read_records(Path(out) / name / "records.jsonl"), by)
            console.print(results_table(f"{name} by {by}", parts))
    console.print(f"transcripts: {out}/<agent>/records.jsonl", markup=False)
    if rows and all(summary.errors == summary.n for summary in rows.values()):
        sys.exit(1)


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
    file: str,
    completion: str | None = None,
    gold: str | None = None,
    out: str | None = None,
    last_number: bool = False,
) -> None:
    """Scores saved completions, one JSON object a line, and writes the verdicts beside them.

    Args:
        file: JSONL with a completion and a reference answer a row.
        completion: field of the completion; by default the first of completion, response, output, prediction, solution.
        gold: field of the reference; by default the first of answer, gold, ground_truth; a rationale's answer is found.
        out: where verdicts go; by default `<file>` with the ending `.graded.jsonl`.
        last_number: accept the last number of a reply that states no answer.
    """
    from slm_math.answers import gold_answer, grade
    from slm_math.evaluation.metrics import wilson

    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{file} does not exist")
    target = Path(out) if out else path.with_suffix(".graded.jsonl")
    right = n = 0
    new = target.with_name(target.name + ".new")
    try:
        with path.open(encoding="utf-8") as source, new.open("w", encoding="utf-8") as sink:
            for number, line in enumerate(source, 1):
                if not line.strip():
                    continue
                where = f"{file}, line {number}"
                row = _object(line, where)
                text = _field(row, completion, ("completion", "response", "output", "prediction", "solution"), where)
                reference = _field(row, gold, ("answer", "gold", "ground_truth"), where)
                verdict = grade(text, gold_answer(reference), last_number=last_number)
                right += verdict.correct
                n += 1
                sink.write(json.dumps({"line": number} | vars(verdict), ensure_ascii=False) + "\n")
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    low, high = wilson(right, n)
    share = f"{100 * right / max(n, 1):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    print(f"{right} of {n} right: {share}; verdicts: {target}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object")
    return row


def _field(row: Mapping[str, Any], name: str | None, known: Sequence[str], where: str) -> str:
    """A text or number of a row, as text."""
    for candidate in (name,) if name else known:
        if candidate in row:
            value = row[candidate]
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise ValueError(f"{where}: field {candidate!r} is neither text nor a number")
            return str(value)
    raise ValueError(f"{where}: field {name or ' or '.join(known)} is missing")


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
