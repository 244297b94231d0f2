"""The seam between the scheduler and whatever generates text: submit, poll, cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slm_math.types import Chat, Reply, Sampling


@dataclass(frozen=True)
class Request:
    """One generation to make. `key` is all that its randomness depends on (seed, step, problem, sample, turn).

    `support` asks for `Reply.kept`, which training on truncated samples needs.
    """

    chat: Chat
    sampling: Sampling
    resume: bool = False
    key: tuple[int | str, ...] = ()
    support: bool = False


class EngineError(RuntimeError):
    """A request that could not be answered; it ends its workflow, never the run."""


class ContextFull(EngineError):
    """A prompt that leaves no room for a reply. After its first turn, a workflow sees an empty, truncated one."""


class Engine:
    """Answers generation requests. One `poll` makes progress and returns what finished.

    `trainable` tells whether replies carry token ids and log-probabilities, which a trained role needs; `computes` that
    progress is made in `poll` itself, and not elsewhere meanwhile.
    """

    trainable: bool = False
    computes: bool = False
    name: str = "engine"

    def submit(self, request: Request) -> int:
        """Queue a request; returns its ticket."""
        raise NotImplementedError

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        """What has finished; waits (or computes, a step at least) for at most `timeout` seconds if nothing has."""
        raise NotImplementedError

    def cancel(self, ticket: int) -> None:
        """Forget a request; its result is never returned."""
        raise NotImplementedError

    @property
    def busy(self) -> int:
        """The number of requests under way."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What makes its answers what they are (model, address, precision), for manifests; never a secret."""
        return {"engine": type(self).__name__}

    def usage(self) -> dict[str, int]:
        """What it did so far: `steps` of decoding, `tokens` sampled in these (the first of a reply comes from its
        prefill), `prefills`, its `slots`; {} where nobody knows."""
        return {}

    def refuse_training(self, role: str) -> str | None:
        """One line saying why this engine cannot serve a trained role, or None when it can."""
        if self.trainable:
            return None
        return f"{self.name} returns no token ids and log-probabilities: it cannot serve the trained role {role!r}"

    def close(self) -> None:
        """Give back what the engine holds."""
