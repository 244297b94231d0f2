"""A teacher in the trainer's process: a frozen model, or the policy's own with other adapters.

Axes: N rows, M loss tokens of all rows, H width of the teacher, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.policy.adapter_files import adapter_config, base_in, base_of
from slm_math.policy.adapters import TEACHER
from slm_math.policy.architectures import reading_of
from slm_math.policy.batches import collated, micro_batches, token_counts, token_indices
from slm_math.policy.config import Policy
from slm_math.policy.forward import inner, language_head
from slm_math.policy.loaded import LoadedPolicy, batch_logprobs, loss_states
from slm_math.policy.loading import load_model
from slm_math.policy.role_paths import has_biases, paths_of, same_model
from slm_math.policy.transfer import put

Itself = Literal["now", "reference"]


@dataclass(frozen=True)
class TeacherScores:
    """What a teacher says of the loss tokens.

    Args:
        logprobs: (M,) its log-probability of each token in nats, NaN where it did not score.
        likeliest: (M,) 1 where the token is the likeliest one for the teacher, else 0.
        states: (M, H) its hidden states, from which its head computes whole distributions; None
            where nothing needs them.
    """

    logprobs: Tensor
    likeliest: Tensor
    states: Tensor | None = None

    def __getitem__(self, tokens: Tensor) -> TeacherScores:
        """The scores of some loss tokens, `tokens` (m,) indices into M."""
        states = None if self.states is None else self.states[tokens]
        return TeacherScores(self.logprobs[tokens], self.likeliest[tokens], states)

    @classmethod
    def joined(cls, tokens: int, parts: Sequence[tuple[Tensor, TeacherScores]]) -> TeacherScores:
        """The scores of M = `tokens` loss tokens from those of some: (their indices (m,), what a
        teacher says of them).
        """
        device = parts[0][1].logprobs.device if parts else torch.device("cpu")
        logprobs = torch.full((tokens,), torch.nan, device=device)
        likeliest = torch.zeros(tokens, device=device)
        widths = [part.states.shape[1] for _, part in parts if part.states is not None]
        states = None
        for where, part in parts:
            logprobs[where], likeliest[where] = part.logprobs, part.likeliest
            if part.states is not None:
                if states is None:
                    states = part.states.new_zeros(tokens, max(widths))
                states[where, : part.states.shape[1]] = part.states
        return cls(logprobs, likeliest, states)

    def to(self, device: torch.device) -> TeacherScores:
        states = None if self.states is None else self.states.to(device)
        return TeacherScores(self.logprobs.to(device), self.likeliest.to(device), states)


class LocalTeacher:
    """Computes a teacher's probabilities of rows.

    Args:
        loaded: the policy.
        use: makes the teacher's model the one that computes, for a role.
        model: the teacher's own model; None where it is the policy's.
        offload: the model is in the memory of the CPU except while it computes for a step.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        use: Callable[[str], Any],
        model: Any = None,
        offload: bool = False,
    ) -> None:
        self.loaded = loaded
        self.model = model
        self.offload = offload
        self._use = use
        self._width = 0  # of the hidden states

    @contextmanager
    def use(self, role: str) -> Iterator[Any]:
        """The teacher's model on the policy's device; nothing that it computes has a gradient."""
        if self.model is not None:
            self.model.to(self.loaded.model.device)
        with torch.no_grad(), self._use(role) as model:
            yield model

    def rest(self) -> None:
        """Frees the device's memory, if the teacher is offloaded."""
        if self.offload and self.model is not None:
            self.model.to("cpu")

    def head(self, role: str) -> Callable[[Tensor], Tensor]:
        """A function from hidden states (m, >= H) of the role's teacher to logits (m, V)."""

        def logits(states: Tensor) -> Tensor:
            with self.use(role) as model:
                return language_head(model)(states[:, : self._width])

        return logits

    def scores(
        self,
        rows: Sequence[Row],
        tokens_per_batch: int,
        states: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> TeacherScores:
        """What the teacher says of the M loss tokens of N rows, at the rows' temperature and among
        the tokens that could be sampled; with its hidden states if `states` are wanted.
        """
        device = self.loaded.model.device
        parts = []
        reading = self.loaded.reading if self.model is None else reading_of(self.model)
        chunks = micro_batches(rows, tokens_per_batch, reading)
        batches = collated(rows, chunks, device, reading)
        for number, (chunk, batch) in enumerate(zip(chunks, batches), 1):
            with self.use(batch.role) as model:
                hidden = loss_states(model, batch)
                self._width = hidden.shape[1]
                own, _, hits = batch_logprobs(model, batch, hidden, rows=self._vocabulary)
            part = TeacherScores(own.float(), hits.float(), hidden if states else None)
            parts.append((put(token_indices(rows, chunk), device), part))
            progress(number, len(chunks))
        return TeacherScores.joined(int(token_counts(rows).sum()), parts)

    @property
    def _vocabulary(self) -> int:
        """The rows of the policy's head, any of which may have been sampled."""
        return int(inner(self.loaded.model).config.get_text_config().vocab_size)


def load_teacher(
    policy: Policy,
    loaded: LoadedPolicy,
    path: str,
    dtype: torch.dtype | None = None,
    offload: bool = False,
    name: str = TEACHER,
) -> LocalTeacher:
    """The teacher of a path. The base of a policy with adapters, and another adapter of that base,
    take no second copy of it, unless a dtype asks for one.

    Args:
        policy: the settings of the policy.
        loaded: the policy.
        path: model folder, adapter folder, or hub id.
        dtype: of the teacher's own copy; by default float32.
        offload: see `LocalTeacher`.
        name: of an adapter of the same base, in the policy's model.
    """
    if dtype is None and shares_base(policy, path):
        if base_of(path) is None:
            return LocalTeacher(loaded, lambda role: _with_adapter(loaded, None))
        loaded.add_frozen_adapter(path, name)
        return LocalTeacher(loaded, lambda role: _with_adapter(loaded, name))
    model = load_model(path, dtype or torch.float32, policy.attention)
    model = model.requires_grad_(False).eval()
    model.config.use_cache = False
    return LocalTeacher(loaded, lambda role: _itself(model), model, offload)


def own_teacher(loaded: LoadedPolicy, which: Itself) -> LocalTeacher:
    """The policy as its own teacher: as it is now, or its reference."""
    return LocalTeacher(loaded, loaded.use if which == "now" else loaded.reference)


def shares_base(policy: Policy, path: str) -> bool:
    """Whether a teacher is the frozen base of the policy, or an adapter of it that changes none of
    the base's own weights.
    """
    if policy.path is None or not policy.has_adapters:
        return False
    whole = ("modules_to_save", "trainable_token_indices")
    for each in (*paths_of(policy.path), path):
        if has_biases(each) or any(map((adapter_config(each) or {}).get, whole)):
            return False
    return same_model(base_in(path), policy.base)


@contextmanager
def _itself(model: Any) -> Iterator[Any]:
    yield model


@contextmanager
def _with_adapter(loaded: LoadedPolicy, name: str | None) -> Iterator[Any]:
    with loaded.switched(name):
        yield loaded.model
