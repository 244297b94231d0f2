"""A loaded policy: its trained weights, the adapter of each role, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from slm_math.data.rows import Row
from slm_math.losses.logprobs import Wanted, token_logprobs, tokens_at_once
from slm_math.policy.adapters import COPY, active, adapter_weights, load_adapters, quiet_peft
from slm_math.policy.architectures import reading_of
from slm_math.policy.batches import Batch, Reading, collate
from slm_math.policy.forward import hidden_states, inner, language_head
from slm_math.policy.ranks import most_over_ranks
from slm_math.policy.sharding import like, one_pass, own, shard, whole
from slm_math.policy.sight import Sight, eyes_of, sight_of
from slm_math.policy.transfer import Counted

T = TypeVar("T")


@dataclass
class LoadedPolicy:
    """A loaded policy.

    Args:
        model: the model, with peft's wrapper if it has adapters.
        adapters: trained role -> name of its adapter, which roles may share; {} if all weights are
            trained, for all roles.
        frozen: role that is served and never trained -> name of its adapter, None for the model
            without one.
        reference_model: None, "base" (the model without adapters), "copies" (frozen copies of the
            trained adapters) or a frozen model.
    """

    model: Any
    adapters: dict[str, str]
    frozen: dict[str, str | None] = field(default_factory=dict)
    reference_model: Any = None
    trainable: tuple[str, ...] = field(init=False)
    # a model whose weights are shared out over the ranks, by its id -> its Pass
    passes: dict[int, Any] = field(init=False, default_factory=dict)
    # adapter -> the names of its weights, those of the reference's copies included
    _weights: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        adapters = self.trained_adapters
        for each in self.frozen_adapters:
            self._weights[each] = adapter_weights(self.model, each)
        # all of them are trained, although peft freezes those that are not active
        self._weights |= {each: adapter_weights(self.model, each) for each in adapters}
        if adapters:
            self.model.set_adapter(adapters[0])
        trained = {name for each in adapters for name in self._weights[each]}
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
    def trained_adapters(self) -> list[str]:
        """The names of the adapters that are trained, each once."""
        return list(dict.fromkeys(self.adapters.values()))

    @property
    def frozen_adapters(self) -> list[str]:
        """The names of the adapters that are never trained."""
        return [name for name in self.frozen.values() if name is not None]

    @property
    def all_adapters(self) -> list[str]:
        """The names of the adapters that roles speak with, each once."""
        return [*self.trained_adapters, *self.frozen_adapters]

    @property
    def sight(self) -> Sight | None:
        """The model's eyes, None if it reads text only."""
        return sight_of(self.model)

    @cached_property
    def reading(self) -> Reading:
        """How the model reads rows."""
        return reading_of(self.model)

    @property
    def size(self) -> int:
        """The number of stored weights, trained or not (two 4-bit weights count as one)."""
        return sum(p.numel() for p in self.model.parameters())

    def parameters(self, role: str | None = None) -> list[torch.nn.Parameter]:
        """The trainable parameters; of a role, those of its adapter."""
        named = dict(self.model.named_parameters())
        names = self.trainable
        if role is not None and self.adapters:
            names = self._weights[self.adapters[role]]
        return [named[name] for name in names]

    def weights_of(self, adapter: str) -> tuple[str, ...]:
        """The names of the parameters of an adapter, trained or frozen."""
        return self._weights[adapter]

    def frozen_parameters(self) -> list[torch.nn.Parameter]:
        """The weights of the adapters that are never trained."""
        named = dict(self.model.named_parameters())
        return [named[name] for each in self.frozen_adapters for name in self._weights[each]]

    def groups(self, roles: Sequence[str]) -> dict[str, list[torch.nn.Parameter]]:
        """The trainable parameters of trained roles; those that share weights are one group, named
        after the first of them.
        """
        first: dict[str | None, str] = {}
        for role in roles:
            first.setdefault(self.adapters.get(role), role)
        return {role: self.parameters(role) for role in first.values()}

    def adapter_of(self, role: str) -> str | None:
        """The adapter that a role speaks with, None for the model without one.

        Raises ValueError for a role that is neither trained nor frozen, unless all weights are
        trained.
        """
        if role in self.frozen:
            return self.frozen[role]
        if self.adapters and role not in self.adapters:
            raise ValueError(
                f"no adapter serves role {role!r}; there are {', '.join(self.adapters)}"
                + (f", and frozen {', '.join(self.frozen)}" if self.frozen else "")
            )
        return self.adapters.get(role)

    @contextmanager
    def use(self, role: str) -> Iterator[Any]:
        """The model as a role speaks with it: with its adapter active, or without any."""
        adapter = self.adapter_of(role)
        if len(self.all_adapters) < 2 and adapter in self.trained_adapters:
            yield self.model  # which has no other
        elif self.adapters:
            with self.switched(adapter):
                yield self.model
        else:
            yield self.model

    @contextmanager
    def reference(self, role: str) -> Iterator[Any]:
        """The reference of a role."""
        if self.reference_model == "base":
            with self.switched(None):
                yield self.model
        elif self.reference_model == "copies":
            with self.switched(self.adapters[role] + COPY):
                yield self.model
        elif self.passes:
            yield self.reference_model
        else:
            yield self.reference_model.to(self.model.device)

    def add_frozen_adapter(self, path: str, name: str) -> None:
        """Loads an adapter of the same base beside those of the policy; it is never trained."""
        # as if it were trained, since peft leaves a model with others in eval mode
        load_adapters(self.model, path, [name], trainable=True)
        self.model.set_adapter(self.trained_adapters[0])
        self.model.train()  # adding an adapter may change the mode
        self._restore_requires_grad()

    def copy_adapters(self) -> None:
        """Makes frozen copies of the trained adapters, which become the reference."""
        for adapter in self.trained_adapters:
            with quiet_peft():
                self.model.add_adapter(adapter + COPY, self.model.peft_config[adapter])
            self._weights[adapter + COPY] = adapter_weights(self.model, adapter + COPY)
            self.model.set_adapter(adapter)
        self.reference_model = "copies"
        self.move_reference(1.0)
        self.model.train()  # adding an adapter may change the mode
        self._restore_requires_grad()

    @torch.no_grad()
    def move_reference(self, share: float, roles: Sequence[str] | None = None) -> None:
        """reference += share * (policy - reference), for each weight or factor of an adapter; only
        of the adapters of `roles`, if there are some.
        """
        for of_reference, of_policy in self._reference_pairs(roles):
            own(of_reference).lerp_(own(of_policy).to(of_reference.dtype), share)

    def _reference_pairs(self, roles: Sequence[str] | None = None) -> list[tuple[Tensor, Tensor]]:
        moved = {self.adapters[role] for role in roles or self.adapters if self.adapters}
        named = dict(self.model.named_parameters())
        if self.reference_model == "copies":
            own = self._weights
            pairs = [
                pair
                for each in self.trained_adapters
                if each in moved
                for pair in zip(own[each + COPY], own[each], strict=True)
            ]
            return [(named[of_reference], named[of_policy]) for of_reference, of_policy in pairs]
        trained = set(self.trainable)
        return [(p, named[n]) for n, p in self.reference_model.named_parameters() if n in trained]

    def reference_state(self) -> list[Tensor]:
        """The reference's weights, for a checkpoint."""
        return [whole(weight).detach().clone() for weight, _ in self._reference_pairs()]

    @torch.no_grad()
    def load_reference(self, state: Sequence[Tensor]) -> None:
        for (of_reference, _), saved in zip(self._reference_pairs(), state, strict=True):
            of_reference.copy_(like(saved, of_reference))

    @contextmanager
    def switched(self, adapter: str | None) -> Iterator[None]:
        """Another adapter is active, or none."""
        try:
            with active(self.model, adapter):
                yield
        finally:
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
        self, batch: Batch, reference: bool = False, hits: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability (nats), 0 and argmax hit (if wanted) of the loss tokens, each (M,) fp32,
        of the policy or of its reference.
        """
        grad = torch.no_grad() if reference else nullcontext()
        with grad, self.reference(batch.role) if reference else self.use(batch.role) as model:
            return self.run(model, _logprobs, batch, hits)

    # weights that are shared out over the ranks

    def share_out(self, mesh: DeviceMesh, rounded: bool) -> None:
        """Leaves each rank a slice of the weights of the policy and its reference, but those of
        adapters and eyes; see `sharding.shard`.
        """
        if self.passes:
            return
        _ = self.reading  # tries the model, which must be whole
        for model in (self.model, self.reference_model):
            if isinstance(model, nn.Module):
                named = dict(model.named_parameters())
                kept = {named[name] for names in self._weights.values() for name in names}
                kept |= {weight for eyes in eyes_of(model) for weight in eyes.parameters()}
                root = shard(
                    model,
                    inner(model),
                    mesh,
                    whole=kept,
                    rounded=rounded and model is self.model,
                )
                self.passes[id(model)] = root
        if self.adapters:  # so that every layer gathers its weights in every backward pass
            self.model.enable_input_require_grads()

    def run(self, model: Any, work: Callable[..., T], *arguments: Any) -> T:
        """`work(model, *arguments)` with a model of this policy, whose weights are whole meanwhile.
        Tensors of the result must be in tuples, lists and dictionaries.
        """
        root = self.passes.get(id(model))
        call = partial(work, model, *arguments)
        return call() if root is None else one_pass(root, call)

    def evened(self, batches: Counted[T], idle: Callable[[], None] | None = None) -> Iterator[T]:
        """The micro-batches of this rank, for a pass each. Where weights are shared out, as many
        idle passes follow (`idle` makes one) as the rank with the most micro-batches has more.
        """
        owed = most_over_ranks(len(batches), self.model.device) if self.passes else len(batches)
        yield from batches
        for _ in range(owed - len(batches)):
            (idle or self.idle)()

    def idle(self, reference: bool = False) -> None:
        """A pass that computes nothing, for other ranks that compute something: forward, and, with
        gradients enabled, backward.
        """
        role = next(iter(self.adapters), "")
        row = Row(ids=(0, 0), mask=(0.0, 1.0), role=role)
        batch = collate([row], self.model.device, self.reading)
        without = [weight for weight in self.parameters() if weight.grad is None]
        logprobs = self.logprobs(batch, reference=reference, hits=False)[0]
        if torch.is_grad_enabled() and not reference:
            (0.0 * logprobs).sum().backward()
            for weight in without:
                if self.adapters:  # a gradient of zero would still move what has momentum
                    weight.grad = None


def _logprobs(model: Any, batch: Batch, hits: bool) -> tuple[Tensor, Tensor, Tensor]:
    return batch_logprobs(model, batch, loss_states(model, batch), hits=hits)


def loss_states(model: Any, batch: Batch) -> Tensor:
    """The decoder's hidden states (M, H) at the positions that predict a loss token; it runs on all
    positions, the language-model head only on these.
    """
    return hidden_states(model, batch.inputs).flatten(0, 1).index_select(0, batch.where)


def batch_logprobs(
    model: Any,
    batch: Batch,
    states: Tensor,
    entropy: Wanted = "nothing",
    rows: int = 0,
    hits: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability (nats), entropy (nats) and argmax hit of the loss tokens, each (M,) fp32, of
    a model with the `loss_states` (M, H).

    A head with fewer than `rows` rows gives the tokens that it lacks probability 0. No token is a
    hit unless `hits` are wanted.
    """
    head = language_head(model)
    vocabulary = max(inner(model).config.get_text_config().vocab_size, rows)
    return token_logprobs(
        hidden=states,
        head=(lambda hidden: padded(head(hidden), rows)) if rows else head,
        targets=batch.targets,
        temperature=batch.temperature,
        entropy=entropy,
        support=batch.support,
        chunk=tokens_at_once(vocabulary, states.device),
        hits=hits,
    )


def padded(logits: Tensor, rows: int) -> Tensor:
    """logits (m, V) -> (m, at least `rows`), -inf where there was none."""
    return nn.functional.pad(logits, (0, max(rows - logits.shape[1], 0)), value=-torch.inf)
