"""`slm-math generate-cot`: worked solutions of teacher models, each with its receipt."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.evaluation.preparing import add_local, check_serving, chosen_problems
from slm_math.images import as_path
from slm_math.ranges import check_whole
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.synthesis.accept import Accept
from slm_math.synthesis.cost import Budget, Price, Spending, check_priced
from slm_math.synthesis.tries import Tries, Try

if TYPE_CHECKING:
    from slm_math.evaluation.evaluate import Plan
    from slm_math.records.record import Record
    from slm_math.rollout.executors import Executors
    from slm_math.synthesis.cot import Rows
    from slm_math.synthesis.journal import Journal


def generate_cot(
    agent: Agent,
    source: Source,
    plan: list[Try],
    accept: Accept,
    out: str,
    engines: dict[str, Engine] | None = None,
    model: str | dict[str, str] | None = None,
    split: Split = "train",
    limit: int | None = None,
    shuffle: int | None = None,
    where: dict[str, Any] | None = None,
    prices: dict[str, Price] | None = None,
    budget: Budget = Budget(),
    estimate: int = 0,
    inference: Inference = Inference(),
    dtype: str = "auto",
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    torch_threads: int | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
    seed: int = 0,
) -> None:
    """Tries an agent on problems until a solution is accepted, and writes the accepted ones as a
    CoT data set. Run the same command to resume: nothing that was answered is asked again.

    The exit status is 1 if an endpoint failed problems, which the same command tries again.

    Args:
        agent: what is tried: any agent.
        source: the data set.
        plan: the tries, in order, each with a role, and optionally a temperature and an effort.
        accept: which solution is kept: Right, CodeVerified, Above or Majority.
        out: output folder: rows.jsonl has the accepted rows, summary.json the statistics, tries/
            the transcripts of all tries and the rejected rows, journal/ all answered requests.
        engines: role -> engine; "default" serves all other roles.
        model: model folder, adapter folder or hub id that serves every role without an engine of
            its own (self-distillation), or an adapter of one base for each role.
        split: train, validation or test.
        limit: at most this many problems, the same ones every time.
        shuffle: seed of a random order of the problems; limit then keeps the first ones.
        where: only problems with these tags, for example {level: [4, 5]}.
        prices: role -> price in USD per million tokens; "default" is that of all other roles.
        budget: what all sessions together may spend; no new request is sent then.
        estimate: the first problems of the run end before the others begin, and a line says what
            the whole run will take.
        inference: how the engines sample where neither the agent nor the plan says.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 otherwise.
        chat_template: chatml, plain or a Jinja file, instead of the template of the tokenizer.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        torch_threads: CPU threads of torch; by default the number of free cores.
        sandbox: runs the programs of agents and of CodeVerified; by default one with the default
            limits.
        seed: of the sampling.
    """
    from slm_math.evaluation.evaluate import Plan
    from slm_math.records.files import configuration
    from slm_math.rollout.executors import Executors
    from slm_math.synthesis.cot import Rows
    from slm_math.synthesis.journal import Journal

    prices = prices or {}
    roles = Tries(agent, plan, accept, ()).roles
    serving: dict[str, Engine] = dict(engines or {})
    models = check_serving(roles, model, serving, inference)
    _check_efforts(plan, inference, serving)
    _check_prices(roles, prices, budget)
    check_whole("estimate", estimate, low=0)
    tasks = chosen_problems(
        source, split, where=where, shuffle=shuffle, limit=limit, graded=accept.needs_gold
    )
    cascade = Tries(agent, plan, accept, tasks)
    folder = Path(out)
    about = {"source": source.name, "split": split, "configuration": configuration.get()}
    with ExitStack() as held:
        if cascade.uses_python:  # before a model is loaded
            sandbox = sandbox or Sandbox()
            held.callback(sandbox.close)
            sandbox.start()
        journal = Journal(folder / "journal" / "requests.jsonl", prices, budget)
        held.callback(journal.close)
        held.callback(lambda: [engine.close() for engine in serving.values()])
        add_local(
            serving,
            roles,
            models,
            inference=inference,
            dtype=dtype,
            template=(chat_template, chat_template_kwargs),
            torch_threads=torch_threads,
        )
        before = {role: journal.before(engine, role) for role, engine in serving.items()}
        rows = Rows(
            plan=cascade.plan,
            accept=accept,
            index={task.problem.id: index for index, task in enumerate(tasks)},
            price=journal.price,
            models={role: model_name(serving.get(role) or serving["default"]) for role in roles},
            images={t.problem.id: [as_path(i.source) for i in t.problem.images] for t in tasks},
        )
        failed = _generate(
            Plan(cascade, tasks, seed=seed, pilot=min(estimate, len(tasks))),
            Executors(before, inference.by_role(), sandbox, inference.deterministic),
            folder / "tries",
            about=about,
            rows=rows,
            journal=journal,
            title=f"{source.name}/{split}",
            window=_window(serving.values(), budget),
        )
    if failed:
        sys.exit(1)


def _generate(
    plan: Plan,
    executors: Executors,
    folder: Path,
    about: Mapping[str, Any],
    rows: Rows,
    journal: Journal,
    title: str,
    window: int,
) -> int:
    """Runs a cascade; writes and prints what it made, also if it is interrupted. Returns how many
    problems an endpoint failed.
    """
    from slm_math.evaluation.evaluate import Output, evaluate
    from slm_math.records.files import write_json
    from slm_math.synthesis.cot import RowFiles
    from slm_math.synthesis.progress import CascadeProgress
    from slm_math.synthesis.statistics import statistics

    console, spending = Console(), journal.spending
    files = RowFiles(folder.parent, rows)
    output = Output(folder, about=about, set_aside=_goes_on(folder, plan, executors))
    records: Sequence[Record] = ()
    failed = 0
    pilot = [task.problem.id for task in plan.tasks[: plan.pilot]]
    progress = CascadeProgress(console, title, rows.spent, spending=spending, pilot=pilot)

    def finished(some: Sequence[Record], total: int) -> None:
        nonlocal records
        records = some
        files.append(some)
        progress(some, total)

    try:
        with progress:
            records = evaluate(plan, executors, output, progress=finished, window=window).records
    finally:
        if records:
            numbers = statistics(files.write(records)) | {"partial": len(records) < len(plan.tasks)}
            write_json(folder.parent / "summary.json", numbers | {"spent": vars(spending.total)})
            _print_results(console, title, numbers, spending)
            failed = numbers["failed"]
    return failed


def _goes_on(folder: Path, plan: Plan, executors: Executors) -> bool:
    """Whether a folder holds the same run with fewer problems: its records are made again then,
    among those of the others, from the journal.
    """
    from slm_math.records.files import (
        differences,
        plain_identity,
        read_manifest,
        read_records,
    )

    old = read_manifest(folder).get("identity")
    new = plain_identity(plan.identity(executors))
    if old is None or not set(differences(plain_identity(old), new)) <= {"data", "problems"}:
        return False
    ids = {task.problem.id for task in plan.tasks}
    return ids.issuperset(record.id for record in read_records(folder / "records.jsonl"))


def _print_results(
    console: Console, title: str, numbers: Mapping[str, Any], spending: Spending
) -> None:
    from slm_math.evaluation.plain import print_line
    from slm_math.synthesis.statistics import datasets_table, lines

    console.print(datasets_table(title + (" (partial)" if numbers["partial"] else ""), numbers))
    for line in lines(numbers):
        print_line(console, line)
    spent = spending.total
    print_line(
        console,
        f"spent: {spent.requests:,} requests, {spent.prompt_tokens:,} tokens of prompts and "
        f"{spent.completion_tokens:,} of replies, {spent.usd:.4g} USD",
    )


def _window(engines: Iterable[Engine], budget: Budget) -> int:
    """How many problems are under way at once: with a budget only as many as the engines can serve,
    because requests that wait in an engine are sent although the budget was spent meanwhile.
    """
    from slm_math.rollout.collect import Draws

    if budget == Budget():
        return Draws.window
    places = (
        getattr(each, "concurrency", getattr(each, "slots", None)) or Draws.window
        for each in engines
    )
    return min(sum(places), Draws.window)


def model_name(engine: Engine) -> str:
    """The model of an engine, where a server does not name the one that answers."""
    identity = engine.identity()
    name = identity.get("model") or identity.get("path") or identity["engine"]
    return name if isinstance(name, str) else ", ".join(map(str, dict(name).values()))


def _check_efforts(
    plan: Sequence[Try], inference: Inference, engines: Mapping[str, Engine]
) -> None:
    """Raises ValueError for an effort of a role whose engine takes none."""
    for each in plan:
        effort = each.effort or inference.sampling_of(each.role).effort
        engine = engines.get(each.role) or engines.get("default")
        if effort and not (engine is not None and engine.takes_effort):
            raise ValueError(
                f"plan: effort {effort!r} of role {each.role!r}: only chat endpoints take an "
                f"effort; remove it, or serve this role with --engines.{each.role} OpenAIEngine"
            )


def _check_prices(roles: Sequence[str], prices: Mapping[str, Price], budget: Budget) -> None:
    """Raises ValueError for prices of unknown roles, and for a budget in USD without prices."""
    unknown = sorted(set(prices) - set(roles) - {"default"})
    if unknown:
        raise ValueError(f"prices names {', '.join(unknown)}; the roles are {', '.join(roles)}")
    check_priced(budget, prices, roles)
