"""`slm-math eval`: agents meet problems, with any model or endpoint for each role."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.agents import Agent, SingleShot
from slm_math.data.base import Source, Split
from slm_math.engines.base import Engine, sampled_by
from slm_math.engines.settings import Inference
from slm_math.evaluation.preparing import add_local, check_serving, chosen_problems
from slm_math.ranges import as_share, check_whole
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Sampling


def evaluate(
    source: Source,
    out: str,
    agents: dict[str, Agent] | None = None,
    model: str | dict[str, str] | None = None,
    engines: dict[str, Engine] | None = None,
    split: Split = "test",
    limit: int | None = None,
    shuffle: int | None = None,
    where: dict[str, Any] | None = None,
    tags: str | None = None,
    samples: int = 1,
    shots: int = 0,
    shots_source: Source | None = None,
    blank_images: bool = False,
    twins: bool | str = False,
    inference: Inference = Inference(sampling=Sampling(temperature=0.0)),
    by: str | None = None,
    second_opinion: bool = False,
    detect: str | float | None = None,
    dtype: str = "auto",
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    torch_threads: int | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
    seed: int = 0,
) -> None:
    """Evaluates agents and writes every transcript. Run the same command to resume an evaluation.

    The exit status is 1 if a workflow broke (the same command tries it again), or if no problem
    fits into the model's context.

    Args:
        source: the data set.
        out: output folder; the records of each agent go to `<out>/<name>`.
        agents: name -> agent; those of several config files are merged by name. By default
            SingleShot alone, as single_shot: one reply, whose stated answer counts.
        model: model folder, adapter folder or hub id that serves every role without an engine of
            its own; or an adapter of one base for each role, {solver: A, verifier: B}, or the
            folder of an export of several roles.
        engines: role -> engine; "default" serves all roles without a model or engine of their own.
        split: train, validation or test.
        limit: evaluate on at most this many problems, the same ones every time.
        shuffle: seed of a random order of the problems; limit then keeps the first ones.
        where: only problems with these tags, for example {level: [4, 5], subject: Algebra}; of
            measured tags a range, {pass_rate: [0.1, 0.9]}.
        tags: a file of measured tags (`slm-math tag`) for `where`.
        samples: workflows per problem.
        shots: number of worked examples before the solver's first request.
        shots_source: data set whose training split provides these examples; by default the source.
        blank_images: also ask the problems with images with blank ones of the same sizes, into
            `<out>/<name>.blind`, and print what seeing brings.
        twins: also ask unseen twins of the problems, into `<out>/<name>.twins`, and print the
            memorization gap: true for those that the data set has of its own (Arithmetic, Shapes),
            or a file that `slm-math twins` wrote.
        inference: how the model is sampled: engine, requests at once, decoding settings.
        by: also break the results down by this tag of the problems (level, subject, kind).
        second_opinion: also ask math-verify about every answer, and print the accuracy as a range
            of both graders, with the answers on which they do not agree.
        detect: the difference of accuracies that the evaluation shall see (2% or 0.02): says before
            it begins whether the problems suffice (see `slm-math power`).
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 otherwise.
        chat_template: chatml, plain or a Jinja file, instead of the template of the tokenizer.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        torch_threads: CPU threads of torch; by default the number of free cores (of all cores if
            inference.deterministic).
        sandbox: runs the programs of agents; by default one with the default limits.
        seed: of the sampling.
    """
    from slm_math.data.twins import twins_of
    from slm_math.evaluation.blind import arms
    from slm_math.evaluation.evaluate import Output, Plan, check_names
    from slm_math.evaluation.evaluate import evaluate as run
    from slm_math.evaluation.live import Live
    from slm_math.evaluation.power_lines import detect_line
    from slm_math.evaluation.shots import with_shots
    from slm_math.metrics.facts import TEMPLATE
    from slm_math.metrics.summary import Summary
    from slm_math.records.files import configuration
    from slm_math.rollout.collect import check_agents
    from slm_math.rollout.executors import Executors

    if not agents:
        agents = {"single_shot": SingleShot()}
        print("agent: single_shot (SingleShot, one reply); --agents.NAME CLASS names others")
    check_names(agents, "agent")
    roles = {role for agent in agents.values() for role in agent.roles}
    serving: dict[str, Engine] = dict(engines or {})
    models = check_serving(roles, model, serving, inference)
    check_whole("samples", samples)
    tasks = chosen_problems(source, split, where=where, shuffle=shuffle, limit=limit, tags=tags)
    known = sorted({tag for task in tasks for tag in task.problem.tags})
    if by and by not in known:
        has = f"its tags are {', '.join(known)}" if known else "it has no tags"
        raise ValueError(f"no problem of {source.name} has a tag {by}; {has}")
    if inference.sampling.temperature == 0 and samples > 1:
        print(
            "note: inference.sampling.temperature is 0, so all samples of an agent are equal "
            "unless the agent sets a temperature"
        )
    if detect is not None:
        units = {task.problem.tags.get(TEMPLATE, task.problem.id) for task in tasks}
        print(detect_line(as_share("detect", detect), len(tasks), samples, len(units)))
    about = {"source": source.name, "split": split, "configuration": configuration.get()}
    agents = {
        name: with_shots(agent, shots, source=shots_source or source, tasks=tasks, seed=seed)
        for name, agent in agents.items()
    }
    check_agents(agents, tasks)
    asked = arms(tasks, blank_images, twins_of(tasks, source, split, twins))
    runs = [(name + arm, agent, *asked[arm]) for name, agent in agents.items() for arm in asked]
    console = Console()
    title = f"{source.name}/{split}"
    rows: dict[str, Any] = {}
    try:
        if any(agent.uses_python for agent in agents.values()):  # before a model is loaded
            sandbox = sandbox or Sandbox()
            sandbox.start()
        add_local(
            serving,
            roles,
            models,
            inference=inference,
            dtype=dtype,
            template=(chat_template, chat_template_kwargs),
            torch_threads=torch_threads,
        )
        with Live(console, *(name for name, *_ in runs)) as live:
            for name, agent, own_tasks, identity in runs:
                rows[name] = run(
                    Plan(agent, own_tasks, samples, seed),
                    Executors(serving, inference.by_role(), sandbox, inference.deterministic),
                    Output(Path(out) / name, identity, about=about),
                    progress=live.progress(
                        name, len(own_tasks) * samples, partial(sampled_by, serving.values())
                    ),
                ).summary
    except KeyboardInterrupt:
        started = [name for name, *_ in runs if (Path(out) / name / "records.jsonl").is_file()]
        _print_results(console, title + " (interrupted)", out=Path(out), names=started, by=by)
        raise
    finally:
        if sandbox is not None:
            sandbox.close()
        for engine in serving.values():
            engine.close()
    _print_results(console, title, out=Path(out), names=list(rows), by=by)
    if second_opinion:
        from slm_math.evaluation.second_opinions import print_second_opinions

        for name in rows:
            print_second_opinions(Path(out) / name, name, console)
    summaries: list[Summary] = list(rows.values())
    nothing_tried = all(summary.metrics["skipped"] == summary.n for summary in summaries)
    if nothing_tried or any(summary.errors for summary in summaries):
        sys.exit(1)


def _print_results(
    console: Console, title: str, out: Path, names: Sequence[str], by: str | None
) -> None:
    """Prints the results of the evaluations in a folder."""
    from slm_math.evaluation.blind import control_lines
    from slm_math.evaluation.clusters import units_lines
    from slm_math.evaluation.plain import print_line
    from slm_math.evaluation.table import (
        decoding_line,
        results_table,
        summary_lines,
        verdicts_table,
        warning_lines,
    )
    from slm_math.evaluation.twins import gap_lines
    from slm_math.metrics.summary import by_tag, read_summary

    read = {name: read_summary(out / name) for name in names}
    samples = {name: some for name, (some, _) in read.items()}
    rows = {name: summary for name, (_, summary) in read.items()}
    for table in filter(None, (results_table(title, rows), verdicts_table(rows))):
        console.print(table)
    for line in [
        *control_lines({name: out / name for name in names}),
        *gap_lines({name: out / name for name in names}),
        *summary_lines(rows),
        *filter(None, (decoding_line(name, out / name) for name in names)),
        *dict.fromkeys(line for some in samples.values() for line in units_lines(some)),
        *warning_lines(rows),
    ]:
        print_line(console, line)
    for name in names:
        errors = samples[name].error_counts(lambda one: one.broken)
        for error, count in errors.most_common(1):
            print_line(
                console, f"{name}: {errors.total()} workflows failed, {count} of them with: {error}"
            )
            print_line(console, "run the same command to retry them")
    if by:
        for name in names:
            console.print(results_table(f"{name} by {by}", by_tag(samples[name], by)))
    print_line(console, f"transcripts: {out}/<agent>/records.jsonl")
