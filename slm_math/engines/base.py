"""The seam between the scheduler and whatever generates text: submit, poll, cancel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from slm_math.types import Chat, Reply, Sampling


@dataclass(frozen=True)
class Request:
    """One generation to make. `key` is all that its randomness depends on (seed, step, problem,
    sample, turn).

    `support` asks for `Reply.support`, which training needs where top-p, top-k or min-p restrict
    sampling. `role` is the role that asks: an engine with several adapters uses that role's.
    """

    chat: Chat
    sampling: Sampling
    resume: bool = False
    key: tuple[int | str, ...] = ()
    support: bool = False
    role: str = ""


def seed_of(key: tuple[int | str, ...]) -> int:
    """A seed of 31 bits for engines that draw numbers of their own."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4]) >> 1


class EngineError(RuntimeError):
    """A request that could not be answered; it ends its workflow, never the run."""


class ContextFull(EngineError):
    """A prompt that leaves no room for a reply. After its first turn, a workflow sees an empty,
    truncated one.
    """


@dataclass(frozen=True)
class Weights:
    """What an engine with a copy of its own needs to become the policy.

    `tensors` yields (name, tensor) pairs, named as in a checkpoint, anew at every call: all
    weights, or nothing where only adapters are trained. `adapters`: role -> a folder with its LoRA
    adapter.
    """

    tensors: Callable[[], Iterable[tuple[str, Any]]] = tuple
    adapters: Mapping[str, Path] = field(default_factory=dict)


# gets what answers a request at once, with weights that were just sent; raises EngineError where
# they did not arrive
Verify: TypeAlias = Callable[[Callable[["Request"], Reply]], None]


def unverified(answer: Callable[[Request], Reply]) -> None:
    """Believes that they arrived."""


class Engine:
    """Answers generation requests. One `poll` makes progress and returns what finished.

    `returns_logprobs`: replies carry token ids and log-probabilities, which a trained role needs.
    `runs_in_poll`: the engine makes progress inside `poll` only, not on a thread or a server.
    """

    returns_logprobs: bool = False
    runs_in_poll: bool = False
    name: str = "engine"

    def submit(self, request: Request) -> int:
        """Queue a request; returns its ticket."""
        raise NotImplementedError

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        """What has finished; waits (or computes, a step at least) for at most `timeout` seconds if
        nothing has.
        """
        raise NotImplementedError

    def cancel(self, ticket: int) -> None:
        """Forget a request; its result is never returned."""
        raise NotImplementedError

    @property
    def busy(self) -> int:
        """The number of requests under way."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What makes its answers what they are (model, address, precision), for manifests; never a
        secret.
        """
        return {"engine": type(self).__name__}

    def usage(self) -> dict[str, int]:
        """What it did so far: `steps` of decoding, `tokens` sampled in these (the first of a reply
        comes from its prefill), `prefills`, its `slots`; {} where nobody knows."""
        return {}

    def update(self, version: int, weights: Weights | None = None) -> None:
        """Answer with the policy's weights as they are at `version` from now on, for all of its
        roles.

        Nothing may be under way. `weights` are None for an engine that decodes with the trainer's
        own. Raises EngineError when they do not arrive.
        """
        raise NotImplementedError(f"{self.name} serves a model whose weights cannot be changed")

    def release(self) -> None:
        """Give back what only decoding needs (caches, memory of a GPU); the next `update` takes it
        again.
        """

    def refuse_training(self, role: str) -> str | None:
        """One line saying why this engine cannot serve a trained role, or None when it can."""
        if self.returns_logprobs:
            return None
        return (
            f"{self.name} returns no token ids and log-probabilities: it cannot serve the trained "
            f"role {role!r}"
        )

    def close(self) -> None:
        """Give back what the engine holds."""
