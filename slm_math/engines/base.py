"""The interface between the scheduler and the engines: submit, poll, cancel."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from slm_math.types import Chat, Reply, Sampling


@dataclass(frozen=True)
class Request:
    """One generation request.

    Args:
        chat: the messages to reply to.
        sampling: the decoding settings.
        resume: whether the reply continues the last message, which is an open assistant message.
        key: (seed, step, problem, sample, turn); sampling depends on nothing else.
        support: whether to report `Reply.support`, which training under top-p, top-k or min-p
            needs.
        role: the role that asks; an engine with several adapters uses the adapter of this role.
        progress: called with the text of the reply so far whenever there is more of it, perhaps on
            another thread; by the transformers engine and by chat endpoints.
    """

    chat: Chat
    sampling: Sampling
    resume: bool = False
    key: tuple[int | str, ...] = ()
    support: bool = False
    role: str = ""
    progress: Callable[[str], None] | None = field(default=None, compare=False, repr=False)


def seed_of(key: tuple[int | str, ...]) -> int:
    """A 31-bit seed derived from `key`, for engines that draw their own random numbers."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4]) >> 1


class EngineError(RuntimeError):
    """A request failed. It is raised in the workflow that made the request, and ends this workflow
    unless it goes on without the reply, as a cascade does; it never ends the run.
    """


class ContextFull(EngineError):
    """The prompt leaves no room for a reply in the model's context.

    From the second turn on, the workflow receives an empty reply with finish="length" instead; at
    the first one the problem is skipped.
    """


class ModelError(EngineError):
    """The model itself computes no numbers: `poll` raises it, and the run ends, because no reply of
    this model means anything.
    """


class Unusable(RuntimeError):
    """An endpoint that can answer no request as it is set up: a wrong key, an unknown model, an
    account without money. `poll` raises it, and the run ends: its one line says what to change.
    """


def check_logprobs(logprobs: Iterable[float], model: str, dtype: str = "") -> None:
    """Raises ModelError unless the log-probabilities of sampled tokens are finite.

    A single logit that is NaN or infinite makes those of all tokens NaN.
    """
    if not all(map(math.isfinite, logprobs)):
        kind = f" in {dtype}" if dtype else ""
        raise ModelError(
            f"the model {model} computes logits that are no numbers (NaN or infinite){kind}: its "
            "weights are damaged, or their type is too small for it (try dtype float32); nothing "
            "that it says can be scored"
        )


Part: TypeAlias = Literal["all", "fixed", "rest"]  # of the weights in an update


@dataclass(frozen=True)
class Weights:
    """The policy's weights, for an engine that holds its own copy of the model.

    Args:
        tensors: returns (name, tensor) pairs, named as in a checkpoint, from the start at every
            call: all weights but the fixed ones, or none if only adapters are trained.
        fixed: the same for weights that never change; an engine loads them once.
        adapters: role -> folder with the role's LoRA adapter, which roles may share; None for the
            model without one. All roles that ask are named, or none.
        still: the folders whose adapter never changes; an engine loads them once.
    """

    tensors: Callable[[], Iterable[tuple[str, Any]]] = tuple
    fixed: Callable[[], Iterable[tuple[str, Any]]] = tuple
    adapters: Mapping[str, Path | None] = field(default_factory=dict)
    still: frozenset[Path] = frozenset()

    def parts(self, has_fixed: bool) -> dict[Part, Callable[[], Iterable[tuple[str, Any]]]]:
        """What an engine loads in this order, {} if only adapters are trained: all weights; or
        those that are fixed, unless it has them, and the rest.
        """
        if next(iter(self.tensors()), None) is None:
            return {}
        if next(iter(self.fixed()), None) is None:
            return {"all": self.tensors}
        return {"rest": self.tensors} if has_fixed else {"fixed": self.fixed, "rest": self.tensors}


# Checks an engine after a weight update: receives a function that answers one request with the new
# weights, and raises EngineError if the replies are not the policy's.
Verify: TypeAlias = Callable[[Callable[["Request"], Reply]], None]


def unverified(answer: Callable[[Request], Reply]) -> None:
    """Accepts an update without checking it."""


def refuse_effort(request: Request) -> None:
    """Raises ValueError for an effort, for engines that render the chat themselves."""
    if request.sampling.effort:
        raise ValueError(
            f"effort {request.sampling.effort!r}: only chat endpoints take an effort; use the "
            "chat_template_kwargs of this model, or leave effort out"
        )


class Engine:
    """Answers generation requests. `poll` returns the requests that have finished.

    `returns_logprobs`: replies carry token ids and log-probabilities, which a trained role needs.
    `runs_in_poll`: the engine computes only inside `poll`; other engines make progress elsewhere.
    `takes_effort`: it can ask a model how much to think (`Sampling.effort`).
    `needs_all_ranks`: where several processes train, it starts in all of them at the same time.
    """

    returns_logprobs: bool = False
    runs_in_poll: bool = False
    takes_effort: bool = False
    needs_all_ranks: bool = False
    name: str = "engine"

    def submit(self, request: Request) -> int:
        """Queues a request and returns its ticket."""
        raise NotImplementedError

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        """The (ticket, reply or error) pairs that have finished.

        If none has, waits up to `timeout` seconds; an engine that runs in `poll` makes at least one
        decoding step.
        """
        raise NotImplementedError

    def cancel(self, ticket: int) -> None:
        """Drops a request; its result is never returned."""
        raise NotImplementedError

    @property
    def busy(self) -> int:
        """The number of unfinished requests, including results not yet returned by `poll`."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What determines the replies (model, address, precision), for manifests; no secrets."""
        return {"engine": type(self).__name__}

    def usage(self) -> dict[str, int]:
        """Counts since the start: decoding `steps`, `tokens` sampled in these steps (a reply's
        first token comes from its prefill), `prefills`, and the number of `slots`; {} if unknown.
        """
        return {}

    def update(self, version: int, weights: Weights | None = None) -> None:
        """Makes all later replies, of all roles, use the policy's weights at `version`.

        No request may be unfinished. `weights` is None for an engine that shares the trainer's
        weights. Raises EngineError if the update fails.
        """
        raise NotImplementedError(f"{self.name} serves a model whose weights cannot be changed")

    def release(self) -> None:
        """Frees what only decoding needs (caches, GPU memory) until the next `update`."""

    def refuse_training(self, role: str) -> str | None:
        """Why this engine cannot serve a trained role, in one line; None if it can."""
        if self.returns_logprobs:
            return None
        return (
            f"{self.name} returns no token ids and log-probabilities: it cannot serve the trained "
            f"role {role!r}"
        )

    def close(self) -> None:
        """Frees everything that the engine holds."""


def sampled_by(engines: Iterable[Engine]) -> int | None:
    """The tokens that engines have sampled so far; None if one of them does not say."""
    distinct = {id(engine): engine for engine in engines}.values()
    counts = [engine.usage().get("tokens") for engine in distinct]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


class LocalEngine(Engine):
    """An engine that decodes in this process, up to `slots` requests at once, and counts; None is
    as many as are asked for, as far as the memory goes.
    """

    returns_logprobs = True
    runs_in_poll = True

    slots: int | None
    # decoding steps, tokens sampled in these steps, prefills (see `usage`)
    steps = decoded = prefills = 0

    def usage(self) -> dict[str, int]:
        return {
            "slots": self.slots or 0,
            "steps": self.steps,
            "tokens": self.decoded,
            "prefills": self.prefills,
        }
