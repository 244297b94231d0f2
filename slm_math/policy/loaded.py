"""A loaded policy: its trained weights, the adapter of each role, and the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from slm_math.losses.logprobs import Wanted, token_logprobs
from slm_math.policy.adapters import adapter_weights, load_frozen_adapter, quiet_peft
from slm_math.policy.batches import Batch
from slm_math.policy.forward import hidden_states, language_head

COPY = "_reference"  # suffix of the name of an adapter's frozen copy


@dataclass
class LoadedPolicy:
    """A loaded policy.

    Args:
        model: the model, with peft's wrapper if it has adapters.
        adapters: role -> name of its adapter; {} if all weights are trained, for all roles.
        frozen: the reference: None, "base" (the model without adapters), "copies" (frozen copies of
            the adapters) or a frozen model.
    """

    model: Any
    adapters: dict[str, str]
    frozen: Any = None
    trainable: tuple[str, ...] = field(init=False)
    # adapter -> the names of its weights, those of the reference's copies included
    _weights: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        adapters = list(dict.fromkeys(self.adapters.values()))
        # all of them are trained, although peft freezes those that are not active
        self._weights = {each: adapter_weights(self.model, each) for each in adapters}
        if adapters:
            self.model.set_adapter(adapters[0])
        trained = {name for names in self._weights.values() for name in names}
        self.trainable = tuple(
            name
            for name, parameter in self.model.named_parameters()
            if name in trained or (not adapters and parameter.requires_grad)
        )
        if not self.trainable:
            raise ValueError("the policy has no trainable parameters: check policy.lora.targets")
        if adapters:
            self._restore_requires_grad()

    @property
    def size(self) -> int:
        """The number of stored weights, trained or not (two 4-bit weights count as one)."""
        return sum(p.numel() for p in self.model.parameters())

    def parameters(self, role: str | None = None) -> list[torch.nn.Parameter]:
        """The trainable parameters; only those of the role's adapter if each role has its own."""
        named = dict(self.model.named_parameters())
        names = self.trainable
        if role is not None and len(self.adapters) > 1:
            names = self._weights[self.adapters[role]]
        return [named[name] for name in names]

    @contextmanager
    def use(self, role: str) -> Iterator[Any]:
        """The model with the adapter of `role` active."""
        if len(self.adapters) < 2:
            yield self.model
            return
        with self.switched(self._adapter(role)):
            yield self.model

    def _adapter(self, role: str) -> str:
        """The adapter of a role; the first one for a role that is not trained."""
        return self.adapters.get(role, next(iter(self.adapters.values())))

    @contextmanager
    def reference(self, role: str) -> Iterator[Any]:
        """The reference of a role."""
        if self.frozen == "base":
            with self.without_adapter():
                yield self.model
        elif self.frozen == "copies":
            with self.switched(self._adapter(role) + COPY):
                yield self.model
        else:
            yield self.frozen.to(self.model.device)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The model is its base."""
        try:
            with self.model.disable_adapter():
                yield
        finally:
            self._restore_requires_grad()

    def add_frozen_adapter(self, path: str, name: str) -> None:
        """Loads an adapter of the same base beside those of the policy; it is never trained."""
        load_frozen_adapter(self.model, path, name)
        self.model.set_adapter(next(iter(self.adapters.values())))
        self.model.train()  # adding an adapter may change the mode
        self._restore_requires_grad()

    def copy_adapters(self) -> None:
        """Makes frozen copies of all adapters, which become the reference."""
        for adapter in self.adapters.values():
            with quiet_peft():
                self.model.add_adapter(adapter + COPY, self.model.peft_config[adapter])
            self._weights[adapter + COPY] = adapter_weights(self.model, adapter + COPY)
            self.model.set_adapter(adapter)
        self.frozen = "copies"
        self.move_reference(1.0)
        self.model.train()  # adding an adapter may change the mode
        self._restore_requires_grad()

    @torch.no_grad()
    def move_reference(self, share: float) -> None:
        """reference += share * (policy - reference), for each weight or factor of an adapter."""
        for of_reference, of_policy in self._reference_pairs():
            of_reference.lerp_(of_policy, share)

    def _reference_pairs(self) -> list[tuple[Tensor, Tensor]]:
        named = dict(self.model.named_parameters())
        if self.frozen == "copies":
            own = self._weights
            pairs = [
                pair
                for each in self.adapters.values()
                for pair in zip(own[each + COPY], own[each], strict=True)
            ]
            return [(named[of_reference], named[of_policy]) for of_reference, of_policy in pairs]
        trained = set(self.trainable)
        return [(p, named[n]) for n, p in self.frozen.named_parameters() if n in trained]

    def reference_state(self) -> list[Tensor]:
        """The reference's weights, for a checkpoint."""
        return [of_reference.detach().clone() for of_reference, _ in self._reference_pairs()]

    @torch.no_grad()
    def load_reference(self, state: Sequence[Tensor]) -> None:
        for (of_reference, _), saved in zip(self._reference_pairs(), state, strict=True):
            of_reference.copy_(saved)

    @contextmanager
    def switched(self, adapter: str) -> Iterator[None]:
        """Another adapter is active."""
        before = self.model.active_adapter
        self.model.set_adapter(adapter)
        try:
            yield
        finally:
            self.model.set_adapter(before)
            self._restore_requires_grad()

    def _restore_requires_grad(self) -> None:
        """Makes exactly the trainable parameters require gradients; peft changes this whenever it
        switches adapters.
        """
        trainable = set(self.trainable)
        for name, parameter in self.model.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(name in trainable)

    def logprobs(
        self, batch: Batch, reference: bool = False, entropy: Wanted = "nothing"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability (nats), entropy (nats) and argmax hit of the loss tokens, each (M,) fp32,
        of the policy or of its reference.
        """
        grad = torch.no_grad() if reference else nullcontext()
        with grad, self.reference(batch.role) if reference else self.use(batch.role) as model:
            return batch_logprobs(model, batch, loss_states(model, batch), entropy)


def loss_states(model: Any, batch: Batch) -> Tensor:
    """The decoder's hidden states (M, H) at the positions that predict a loss token; it runs on all
    (N, T) positions, the language-model head only on these.
    """
    return hidden_states(model, batch.inputs).flatten(0, 1)[batch.where]


def batch_logprobs(
    model: Any, batch: Batch, states: Tensor, entropy: Wanted = "nothing", rows: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability (nats), entropy (nats) and argmax hit of the loss tokens, each (M,) fp32, of
    a model with the `loss_states` (M, H).

    A head with fewer than `rows` rows gives the tokens that it lacks probability 0.
    """
    head = language_head(model)
    return token_logprobs(
        hidden=states,
        head=(lambda hidden: padded(head(hidden), rows)) if rows else head,
        targets=batch.targets,
        temperature=batch.temperature,
        entropy=entropy,
        support=batch.support,
    )


def padded(logits: Tensor, rows: int) -> Tensor:
    """logits (m, V) -> (m, at least `rows`), -inf where there was none."""
    return nn.functional.pad(logits, (0, max(rows - logits.shape[1], 0)), value=-torch.inf)
