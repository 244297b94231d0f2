"""A chat with a model on the terminal: the single-shot conversation, whose history is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

from rich.console import Console

from slm_math.agents import SingleShot
from slm_math.rollout.executors import Executors
from slm_math.rollout.scheduler import Job, Scheduler
from slm_math.solving.screen import Screen
from slm_math.types import Chat, Generate, Problem, Reply, Workflow, assistant, user

COMMANDS = "/reset begins a new conversation, /exit or Ctrl-D ends"


def converse(agent: SingleShot, problem: Problem, executors: Executors, seed: int) -> None:
    """Answers the messages of standard input, one a line, until /exit or its end.

    The first message of a conversation is asked with the agent's prompt, later ones as they are.

    Args:
        agent: its prompt and decoding settings are used.
        problem: the images of the first message, and its text unless that is "".
        executors: answer the messages.
        seed: of the sampling.
    """
    console = Console()
    screen = Screen(console)
    scheduler = Scheduler(executors, audience=screen)
    chat: Chat = ()
    conversation = 0
    if sys.stdin.isatty():
        screen.line(COMMANDS, "dim")
    for turn, text in enumerate(_messages(problem.text)):
        if text == "/reset":
            chat, conversation = (), conversation + 1
            screen.line("a new conversation begins", "dim")
        elif text.startswith("/") and text[1:].isalpha():
            screen.line(f"there is no {text}: {COMMANDS}")
        else:
            first = not conversation and not chat
            asked = Problem("chat", text, images=problem.images if first else ())
            new = user(text) if chat else asked.ask(agent.prompt)
            job = Job(
                _reply(agent, chat + new),
                owner="the chat",
                about="your message",
                key=("chat", seed, conversation, turn),
                roles=("solver",),
            )
            with screen:
                [done] = scheduler.run([job])
            if done.value is None:
                screen.line(f"no reply: {done.error} (/reset begins again)", "bold red")
            else:
                chat = chat + new + assistant(done.value)


def _reply(agent: SingleShot, chat: Chat) -> Workflow[Reply]:
    [reply] = yield [Generate(chat, temperature=agent.temperature, not_first=agent.not_first)]
    return reply


def _messages(first: str) -> Iterator[str]:
    """The messages that are not empty, until /exit or the end of standard input."""
    if first:
        yield first
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and remembers them
    prompt = "\n> " if sys.stdin.isatty() else ""
    while True:
        try:
            text = input(prompt).strip()
        except EOFError:
            if prompt:
                print()
            return
        if text == "/exit":
            return
        if text:
            yield text
