"""`slm-math eval`: agents meet problems, with any model or endpoint for each role."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.engines.base import Engine
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Sampling


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
    engine: Literal["auto", "transformers", "vllm"] = "auto",
    dtype: str = "auto",
    slots: int | None = None,
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
        policy: model folder, adapter folder or hub id that serves every role without an engine of
            its own.
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
        engine: what decodes with `policy`: transformers, vllm, or auto: vLLM where it is installed
            and has a GPU.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 without.
        slots: requests that the policy decodes at once; by default 64, with vLLM 256.
        chat_template: chatml, plain or a Jinja file, instead of the tokenizer's own template.
        torch_threads: CPU threads of torch.
        sandbox: runs the agents' programs; one with its default limits when left out.
        seed: of the sampling.
    """
    from slm_math.data.selection import select_problems
    from slm_math.evaluation.evaluate import Output, Plan, check_names
    from slm_math.evaluation.evaluate import evaluate as run
    from slm_math.evaluation.live import Live
    from slm_math.evaluation.shots import with_shots
    from slm_math.policy.loading import check_path
    from slm_math.records.files import configuration
    from slm_math.rollout.executors import Executors

    if not agents:
        raise ValueError("eval needs at least one agent under agents:")
    check_names(agents, "agent")
    roles = {role for agent in agents.values() for role in agent.roles}
    serving: dict[str, Engine] = dict(engines or {})
    if policy is None and "default" not in serving and roles - set(serving):
        raise ValueError(
            f"nothing serves {', '.join(sorted(roles - set(serving)))}: give --policy or --engines"
        )
    unknown = set(serving) - roles - {"default"}
    if unknown:
        raise ValueError(
            f"engines names {', '.join(sorted(unknown))}; the agents' roles are "
            f"{', '.join(sorted(roles))}"
        )
    for option, value in (("samples", samples), ("limit", limit), ("slots", slots)):
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if policy is not None:
        check_path(policy)
    tasks = select_problems(source.tasks(split), where, shuffle, limit)
    if not tasks:
        raise ValueError(
            f"{source.name} has no problems in its {split} split"
            + (f" with {where}" if where else "")
        )
    if by and not any(by in task.problem.tags for task in tasks):
        raise ValueError(f"no problem of {source.name} has a tag {by}")
    if sampling.temperature == 0 and samples > 1:
        print(
            "samples of an agent that sets no temperature of its own are all alike: "
            "sampling.temperature is 0"
        )
    about = {"source": source.name, "split": split, "configuration": configuration.get()}
    agents = {
        name: with_shots(agent, shots, shots_source or source, tasks, seed)
        for name, agent in agents.items()
    }
    with suppress(ValueError):  # not in the main thread
        # what schedulers send ends it as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    title = f"{source.name}/{split}"
    rows: dict[str, Any] = {}
    try:
        if any(agent.uses_python for agent in agents.values()):  # before a model is loaded
            sandbox = sandbox or Sandbox()
            sandbox.start()
        if policy is not None and ("default" not in serving and roles - set(serving)):
            serving["default"] = _local(policy, engine, dtype, slots, chat_template, torch_threads)
        with Live(console, *agents) as live:
            for name, agent in agents.items():
                rows[name] = run(
                    Plan(agent, tasks, samples, seed),
                    Executors(serving, {"default": sampling}, sandbox),
                    Output(Path(out) / name, about=about),
                    progress=live.progress(name),
                ).summary
    except KeyboardInterrupt:
        begun = [name for name in agents if (Path(out) / name / "records.jsonl").is_file()]
        _tell(console, title + " (interrupted)", Path(out), begun, by)
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
    from slm_math.evaluation.table import decoding_line, metric_lines, program_lines, results_table
    from slm_math.metrics.summary import by_tag, summarize
    from slm_math.records.files import expected_samples, read_records

    records = {name: read_records(out / name / "records.jsonl") for name in names}
    rows = {name: summarize(found, expected_samples(out / name)) for name, found in records.items()}
    console.print(results_table(title, rows))
    for line in [
        *metric_lines(rows),
        *program_lines(rows),
        *filter(None, (decoding_line(name, out / name) for name in names)),
    ]:
        console.print(line, markup=False)
    for name, found in records.items():
        errors = Counter(record.error for record in found if record.error)
        for error, count in errors.most_common(1):
            console.print(
                f"{name}: {errors.total()} broke, {count} of them with: {error}", markup=False
            )
            console.print("a rerun of the same command tries those again", markup=False)
    if by:
        for name, found in records.items():
            console.print(results_table(f"{name} by {by}", by_tag(found, by)))
    console.print(f"transcripts: {out}/<agent>/records.jsonl", markup=False)


def _local(
    policy: str,
    engine: Literal["auto", "transformers", "vllm"],
    dtype: str,
    slots: int | None,
    template: str | None,
    threads: int | None,
) -> Engine:
    import torch

    from slm_math.engines.checkpoint import CheckpointEngine
    from slm_math.engines.vllm import VLLMEngine
    from slm_math.policy.loading import free_cores

    torch.set_num_threads(threads or free_cores())
    kind = choose(engine)
    print(f"engine: {'vLLM, in this process' if kind == 'vllm' else 'transformers'}")
    if kind == "vllm":
        return VLLMEngine(policy, dtype, slots or 256, template)
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    return CheckpointEngine(policy, dtype=dtype, slots=slots or 64, chat_template=template)
