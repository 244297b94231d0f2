"""`slm-math ablate`: what a critique, a program or a vote changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slm_math.ablation.arms import Reruns
from slm_math.ablation.rerun import NamedTurn
from slm_math.ablation.worth import Worth, worth
from slm_math.agents import Agent
from slm_math.data.attempts import problem_of
from slm_math.evaluation.command import evaluate
from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.live import Live
from slm_math.evaluation.plain import cell, plain, print_line
from slm_math.evaluation.preparing import add_local, check_serving
from slm_math.evaluation.runs import FinishedEvaluation, named_folders, read_finished
from slm_math.evaluation.shots import with_shots
from slm_math.parsing import command_parser
from slm_math.ranges import check_whole
from slm_math.records.files import differences, plain_identity, write_json
from slm_math.rollout.scheduler import Executors
from slm_math.sandbox import Sandbox
from slm_math.types import Task

LEFT_OUT, AGAIN = "left out", "drawn again"


def ablate(run: str, turn: str, draws: int = 4, out: str | None = None) -> None:
    """Says what a turn of an agent was worth: runs an evaluation again without it, and with other
    draws of it. What came before it is taken from the records, and so is every later reply whose
    prompt is the recorded one.

    Writes both arms as evaluations, which `results`, `compare` and `report` read. Run the same
    command to resume it.

    Args:
        run: an agent's folder of `slm-math eval` (with records.jsonl). Model, engines and decoding
            are those of its manifest, in the same working folder.
        turn: a role and which of its replies: verifier (the first one), verifier:2, verifier:all;
            or program, program:2, program:all.
        draws: other draws of the turn for each workflow; 0 only leaves it out.
        out: output folder; by default <run>/ablate/<turn>.
    """
    check_whole("draws", draws, low=0)
    named = NamedTurn.of(turn)
    evaluation = _named(run)
    used = _settings(evaluation)
    folder = Path(out) if out else evaluation.folder / "ablate" / named.name.replace(":", "-")
    console = Console()
    agent = _agent(evaluation, used)
    reruns = Reruns.of(evaluation, agent, named)
    serving, sandbox = dict(used["engines"] or {}), None
    models = check_serving(agent.roles, used["model"], serving, used["inference"])
    try:
        if agent.uses_python:
            sandbox = used["sandbox"] or Sandbox()
            sandbox.start()
        add_local(
            serving,
            agent.roles,
            models,
            inference=used["inference"],
            dtype=used["dtype"],
            template=(used["chat_template"], used["chat_template_kwargs"]),
            torch_threads=used["torch_threads"],
        )
        inference = used["inference"]
        executors = Executors(serving, inference.by_role(), sandbox, inference.deterministic)
        check_same(evaluation, executors)
        found, notes = run_arms(reruns, executors, folder, draws, console=console)
    finally:
        if sandbox is not None:
            sandbox.close()
        for engine in serving.values():
            engine.close()
    show(evaluation, named, found, console)
    for note in notes:
        print_line(console, note)
    write_found(folder, found)
    print_line(console, f"transcripts: {folder}/<arm>/records.jsonl")


def _named(run: str) -> FinishedEvaluation:
    """The evaluation of a folder. Raises ValueError unless it is one agent's."""
    folders = named_folders(run)
    if len(folders) > 1:
        names = ", ".join(folders)
        raise ValueError(f"{run} holds the evaluations of {names}: name one of them, {run}/AGENT")
    [folder] = folders.values()
    return read_finished(run, folder)


def _settings(run: FinishedEvaluation) -> Mapping[str, Any]:
    """The options of the command that made an evaluation. Raises ValueError if none did."""
    made = run.manifest.get("about", {}).get("configuration")
    if not isinstance(made, dict) or "agents" not in made:
        raise ValueError(
            f"{run.folder}/manifest.json holds no configuration of `slm-math eval`, which says how "
            "to run its agent again: evaluate with that command (of a training run, its export)"
        )
    parser = command_parser(evaluate, "eval")
    return vars(parser.instantiate_classes(parser.parse_object(made)))


def _agent(run: FinishedEvaluation, used: Mapping[str, Any]) -> Agent:
    agents = used["agents"]
    if run.agent not in agents:
        raise ValueError(f"{run.folder}: its command has the agents {', '.join(agents)}")
    shots, source = used["shots"], used["shots_source"] or used["source"]
    problems = {own.id: Task(problem_of(own), own.gold) for own in run.samples.records}
    return with_shots(
        agents[run.agent], shots, source=source, tasks=list(problems.values()), seed=used["seed"]
    )


def check_same(run: FinishedEvaluation, executors: Executors) -> None:
    """Raises ValueError unless the engines and their decoding are those of an evaluation."""
    ours = plain_identity(
        {
            "sampling": {role: vars(values) for role, values in executors.sampling.items()},
            "engines": {role: one.identity() for role, one in sorted(executors.engines.items())},
        }
    )
    for name, own in ours.items():
        changed = differences(run.manifest["identity"].get(name), own, name)
        if changed:
            raise ValueError(
                f"{run.name} was evaluated with another model or decoding ({', '.join(changed)} "
                "differ): a turn can only be drawn again from what drew it"
            )


def run_arms(
    reruns: Reruns, executors: Executors, folder: Path, draws: int, console: Console
) -> tuple[dict[str, Worth], list[str]]:
    """What each arm shows, by its name, and lines on what could not be done."""
    arms, notes = {LEFT_OUT: 0}, []
    if draws and reruns.turn.which is None:
        notes.append(f"{reruns.turn.name} are several turns: they are left out, not drawn again")
    elif draws and reruns.turn.is_program:
        notes.append("a program prints the same again: it is left out, not drawn again")
    elif draws and reruns.is_greedy(executors):
        notes.append(
            f"{reruns.turn.name} is greedy (temperature 0): it is left out, and has no other draw"
        )
    elif draws:
        arms[AGAIN] = draws
    run = reruns.run
    for name, count in arms.items():  # before any of them is written
        reruns.check_folder(place_of(folder, name), count)
    keys = [own.record.key for own in reruns.reached]
    found: dict[str, Worth] = {}
    with Live(console, *arms) as live:
        for name, count in arms.items():
            place = place_of(folder, name)
            samples = reruns.arm(place, executors, count, live.progress(name))
            found[name] = worth(run.name, run.samples, name, samples, reached=keys)
    return found, notes


def place_of(folder: Path, arm: str) -> Path:
    return folder / arm.replace(" ", "-")


def write_found(folder: Path, found: Mapping[str, Worth]) -> None:
    """Writes what arms show. An arm that was made before, and not this time, stays there."""
    path, known = folder / "ablation.json", {}
    with suppress(FileNotFoundError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, known | {name: asdict(one) for name, one in found.items()})


def show(
    run: FinishedEvaluation, turn: NamedTurn, found: Mapping[str, Worth], console: Console
) -> None:
    """Prints what the arms of an ablation show."""
    first = next(iter(found.values()))
    whole = f"{len(run.samples)} workflows ({first.comparison.problems} problems)"
    title = f"{turn.name} of {plain(run.name, 200)}, in {first.n} of {whole}: accuracy in %"
    table = Table(title=cell(title, 300), title_justify="left")
    table.add_column("turn", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("recorded minus it, 95 %", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_row("recorded", f"{100 * first.comparison.accuracy[1]:.1f}", "", "")
    for name, one in found.items():
        own = one.comparison
        share = f"{100 * own.accuracy[0]:.1f}"
        table.add_row(name, share, own.shown_difference(), shown_p(own.p))
    console.print(table)
    for name, one in found.items():
        if one.n < len(run.samples) and name == LEFT_OUT:
            print_line(console, _worth_line(one))
        print_line(console, _changed_line(name, one))


def _worth_line(one: Worth) -> str:
    difference = shown_difference(one.difference, one.low, one.high)
    return (
        f"where there is this turn, it is worth {difference} points, n = {one.n} workflows of "
        f"{one.problems} problems"
    )


def _changed_line(name: str, one: Worth) -> str:
    changed, low, high = (100 * share for share in (one.changed, one.changed_low, one.changed_high))
    wrong = one.reruns - one.right
    return (
        f"{name}, {changed:.1f} % [{low:.1f}, {high:.1f}] of {one.reruns} workflows end otherwise: "
        f"{one.lost} of {one.right} right ones are wrong, {one.gained} of {wrong} wrong ones right"
    )
