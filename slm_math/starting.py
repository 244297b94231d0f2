"""What a training command does before its first step, said as it happens: imports, data and models
take seconds, or minutes.
"""

from __future__ import annotations

from slm_math.stopping import say

_command = ""  # that is starting in this process; "" if none is


def start(command: str) -> None:
    """The command begins; what follows is said of it."""
    global _command
    _command = command


def starting(what: str) -> None:
    """Says on stderr what is done now, if a command is starting."""
    if _command:
        say(f"{_command}: {what}")


def ended() -> None:
    """The command has ended: what follows in this process is not said."""
    start("")
