"""`slm-math solve`: any agent on one problem, or a chat."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rich.console import Console

from slm_math.agents import Agent, SingleShot
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.images import check_image
from slm_math.ranges import check_whole
from slm_math.records.encoding import json_line
from slm_math.records.record import Record
from slm_math.rollout.collect import Draws, job_of, trace_of
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Scheduler
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.solving.conversation import converse
from slm_math.solving.executors import Serving
from slm_math.solving.screen import Screen
from slm_math.solving.transcripts import record_of
from slm_math.stopping import Stopped, say
from slm_math.types import Image, Problem, Sampling

MOST_CHARACTERS = 1 << 20  # of a problem on standard input


def solve(
    problem: str = "",
    agent: Agent | None = None,
    model: str | dict[str, str] | None = None,
    engines: dict[str, Engine] | None = None,
    gold: str = "",
    image: list[str] | None = None,
    samples: int = 1,
    seed: int = 0,
    interactive: bool = False,
    json: bool = False,
    inference: Inference = Inference(sampling=Sampling(temperature=0.0)),
    dtype: str = "auto",
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    torch_threads: int | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
) -> None:
    """Runs an agent on one problem and shows all that happens: `slm-math solve "2 + 2?" --model M
    --agent SolverVerifier`.

    The exit status is 0 if the agent found an answer, otherwise 1.

    Args:
        problem: the problem; - reads it from standard input.
        agent: the agent; by default SingleShot.
        model: model folder, adapter folder or hub id that serves every role without an engine of
            its own; or an adapter of one base for each role, {solver: A, verifier: B}, or the
            folder of an export of several roles.
        engines: role -> engine; "default" serves all roles without a model or engine of their own.
        gold: the right answer, for a verdict; no model sees it.
        image: an image of the problem: one file, or several.
        samples: workflows, side by side.
        seed: of the sampling.
        interactive: chat instead: each line is a message, and earlier messages stay known.
        json: print the record of each sample as one line of JSON, and nothing else.
        inference: how the model is sampled: engine, requests at once, decoding settings.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 otherwise.
        chat_template: chatml, plain or a Jinja file, instead of the template of the tokenizer.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        torch_threads: CPU threads of torch; by default the number of free cores.
        sandbox: runs the programs of agents; by default one with the default limits.
    """
    agent = agent or SingleShot()
    check_whole("samples", samples)
    if interactive and (json or gold or samples > 1 or type(agent) is not SingleShot):
        raise ValueError(
            "--interactive is a chat with one model: remove --json, --gold, --samples and --agent "
            "(only SingleShot chats)"
        )
    asked = _asked(problem, image or [], interactive)
    serving = Serving(
        model=model,
        engines=engines,
        inference=inference,
        dtype=dtype,
        template=(chat_template, chat_template_kwargs),
        torch_threads=torch_threads,
        sandbox=sandbox,
    )
    try:
        with serving.executors(agent, asked) as executors:
            if isinstance(agent, SingleShot) and interactive:
                converse(agent, asked, executors, seed)
                return
            records = _solved(agent, asked, executors, gold=gold, draws=(samples, seed), json=json)
    except KeyboardInterrupt as error:
        stop = Stopped.of(error)
        say(f"{stop.how}.")
        stop.reported = True
        raise stop from None
    if all(record.answer is None for record in records):
        sys.exit(1)


def _asked(problem: str, images: Sequence[str], interactive: bool) -> Problem:
    """The problem of the command line. Raises ValueError if there is none."""
    text = problem
    if problem == "-" and not interactive:
        text = sys.stdin.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"the problem on standard input has over {MOST_CHARACTERS} characters")
    if not text.strip() and not interactive:
        raise ValueError('there is no problem: slm-math solve "What is 2 + 2?" --model MODEL')
    for source in images:
        check_image(source)
    return Problem("solve", text.strip(), images=tuple(map(Image, images)))


def _solved(
    agent: Agent,
    problem: Problem,
    executors: Executors,
    gold: str,
    draws: tuple[int, int],
    json: bool,
) -> list[Record]:
    """The records of some samples (their number, their seed), which are shown as they come."""
    samples, seed = draws
    if samples > 1 and executors.defaults("default").temperature == 0:
        say(
            "note: inference.sampling.temperature is 0, so all samples are equal unless the agent "
            "sets a temperature"
        )
    console = Console()
    screen = Screen(console, labels=samples > 1)
    scheduler = Scheduler(executors, audience=None if json else screen)
    key = Draws(key=("solve", seed))
    jobs = (job_of(agent, problem, sample, draws=key) for sample in range(samples))
    records: list[Record] = []
    with screen, closing(scheduler.run(jobs)) as finished:
        for result in finished:
            screen.ended(result.job)
            record = record_of(trace_of(result), gold)
            records.append(record)
            if json:
                sys.stdout.write(json_line(record).decode())
            else:
                _conclude(screen, record, labels=samples > 1)
    return records


def _conclude(screen: Screen, record: Record, labels: bool) -> None:
    """Prints what came of a sample."""
    label = f"sample {record.sample + 1}: " if labels else ""
    screen.line("")
    if record.error is not None:
        screen.line(f"{label}error: {record.error}", "bold red")
    answer = "none" if record.answer is None else record.answer
    screen.line(f"{label}answer: {answer}", "bold")
    if record.has_verdict:
        verdict = "right" if record.correct else f"wrong ({record.reason})"
        style = "bold green" if record.correct else "bold red"
        screen.line(f"{label}verdict: {verdict}; the gold is {record.gold}", style)
    counts = {"reply": len(record.turns), "token": record.tokens, "program": len(record.runs)}
    facts = [_counted(number, word) for word, number in counts.items() if number]
    screen.line(label + ", ".join([*facts, f"{record.seconds:.1f} s"]), "dim")


def _counted(number: int, word: str) -> str:
    plural = "replies" if word == "reply" else f"{word}s"
    return f"{number} {word if number == 1 else plural}"
