"""The only module that runs the network, for training and for the transformers engine.

Axes: B sequences, T tokens of the longest, L tokens in the cache and T new ones, M loss tokens, V
tokens of the vocabulary.

An image is one placeholder among the tokens, and many positions in the network and its cache.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from slm_math.policy.caches import DecodingCache, OwnCaches
from slm_math.policy.compiling import decoding_code, training_code
from slm_math.policy.heads import frugal
from slm_math.policy.packing import Packed, unused_mask
from slm_math.policy.sight import NEVER, Sight, sight_of
from slm_math.policy.slots import SlotCache
from slm_math.policy.stepping import step, steps_alone
from slm_math.policy.transfer import put
from slm_math.types import Image

TEXT_ONLY = "these sequences have images, but the model takes text only"


@dataclass(frozen=True)
class Inputs:
    """The network's inputs.

    Args:
        ids: (B, T) token ids; an image is one placeholder.
        positions: (B, T) the position of each token in its sequence, from 0.
        mask: (B, L) 0 at padding, otherwise 1; None if causal attention never reaches padding.
        images: the images of each sequence in the order of their placeholders; () if there are
            none.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor | None = None
    images: tuple[tuple[Image, ...], ...] = ()

    @classmethod
    def of_rows(cls, ids: Tensor, images: tuple[tuple[Image, ...], ...] = ()) -> Inputs:
        """Sequences (B, T) padded on the right, where causal attention needs no mask."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return cls(ids, positions, images=images)

    def to(self, device: torch.device | str) -> Inputs:
        """The inputs on a device."""
        mask = None if self.mask is None else put(self.mask, device)
        return Inputs(put(self.ids, device), put(self.positions, device), mask, self.images)


def hidden_states(model: Any, inputs: Inputs | Packed) -> Tensor:
    """The decoder's last hidden states (B, T, H), for training and scoring; those of a placeholder
    are those of the last position of its image. Of packed rows (1, W, H).
    """
    base = inner(model)
    with training_code(base):
        if isinstance(inputs, Packed):
            return _packed_states(model, inputs)
        if any(inputs.images):
            return _seeing_states(model, inputs)
        decoder = base.get_decoder()
        options = {"position_ids": inputs.positions, "use_cache": False}
        return decoder(input_ids=inputs.ids, **_accepted(decoder, options)).last_hidden_state


def _packed_states(model: Any, inputs: Packed) -> Tensor:
    """`hidden_states` of packed rows. Raises ValueError for a model whose attention does not know
    of packings (see `architectures.packs`).
    """
    base = inner(model)
    decoder = base.get_decoder()
    read: dict[str, Any] = {"input_ids": inputs.ids}
    if any(inputs.images):
        read = _sight(model).embedded(base, inputs.ids, inputs.images)
    inputs.packing.calls.clear()
    states = decoder(
        position_ids=inputs.positions,
        attention_mask=unused_mask(inputs.ids.device),
        packing=inputs.packing,
        **_accepted(decoder, {"use_cache": False}),
        **read,
    ).last_hidden_state
    layers = base.config.get_text_config(decoder=True).num_hidden_layers
    if len(inputs.packing.calls) < layers:
        raise ValueError(
            f"only {len(inputs.packing.calls)} of {layers} layers of the model "
            f"({base.config.model_type}) attend to packed rows"
        )
    return states


def _seeing_states(model: Any, inputs: Inputs) -> Tensor:
    """`hidden_states` of sequences of which some have images."""
    sight, base = _sight(model), inner(model)
    seen = sight.seen(inputs.ids.tolist(), inputs.images)
    states = base.get_decoder()(
        position_ids=seen.positions.to(base.device),
        use_cache=False,
        **sight.embedded(base, seen.ids.to(base.device), inputs.images),
    ).last_hidden_state
    index = seen.index.to(base.device)[..., None].expand(-1, -1, states.shape[-1])
    return states.gather(1, index)


def _sight(model: Any) -> Sight:
    """The eyes of a model. Raises ValueError for a model without."""
    sight = sight_of(model)
    if sight is None:
        raise ValueError(TEXT_ONLY)
    return sight


def next_logits(
    model: Any,
    ids: Tensor,
    lengths: Tensor,
    cache: DecodingCache | SlotCache,
    images: tuple[tuple[Image, ...], ...] = (),
    lags: Tensor | None = None,
) -> Tensor:
    """The logits (B, V) after the last token of each sequence, for decoding.

    Args:
        model: the model.
        ids: (B, T) the tokens that the cache does not hold yet, padded on the left.
        lengths: (B,) the number of tokens of each sequence, and of positions in the cache.
        cache: what is remembered of the earlier tokens; the new ones are added to it.
        images: the images of each sequence if `ids` holds the prompts, otherwise ().
        lags: (B,) what images before `ids` add to the positions of later tokens (`Extent.lag`);
            None without such images.
    """
    if any(images):
        assert not isinstance(cache, SlotCache)
        return _first_logits(model, ids, lengths=lengths, cache=cache, images=images)
    if isinstance(cache, OwnCaches):
        return _unpadded_logits(model, ids.cpu(), lengths=lengths.cpu(), cache=cache)
    if isinstance(cache, SlotCache):
        return barred(model, cache.step(ids, lengths))
    before, base = cache.length, inner(model)
    inputs = _decoding_inputs(model.device, ids, lengths=lengths, before=before, lags=lags)
    if before and ids.shape[1] == 1 and steps_alone(base):
        hidden = None if inputs.mask is None else inputs.mask == 0
        return barred(model, step(base, inputs.ids, inputs.positions, hidden=hidden, cache=cache))
    options = {"attention_mask": inputs.mask, "position_ids": inputs.positions}
    return _last_logits(model, inputs.ids, cache, options)


def _first_logits(
    model: Any,
    ids: Tensor,
    lengths: Tensor,
    cache: DecodingCache,
    images: tuple[tuple[Image, ...], ...],
) -> Tensor:
    """`next_logits` of prompts of which some have images."""
    sight, base = _sight(model), inner(model)
    prompts = [row[ids.shape[1] - n :] for row, n in zip(ids.tolist(), lengths.tolist())]
    seen = sight.seen(prompts, images)
    width = seen.ids.shape[1]
    # padding moves to the left
    turned = torch.arange(width) - (width - seen.lengths[:, None])
    mask = (turned >= 0).long()
    turned = turned.clamp(min=0)
    positions = seen.positions.gather(-1, turned.expand_as(seen.positions))
    expanded = seen.ids.gather(1, turned) * mask
    decoder = base.get_decoder()
    with decoding_code(base):
        states = decoder(
            attention_mask=mask.to(base.device),
            position_ids=(positions * mask).to(base.device),
            use_cache=True,
            **sight.embedded(base, expanded.to(base.device), images),
            **{str(cache_argument(type(decoder))): cache},
        ).last_hidden_state
    return language_head(model)(states[:, -1])


def _unpadded_logits(model: Any, ids: Tensor, lengths: Tensor, cache: OwnCaches) -> Tensor:
    """`next_logits` with a forward pass for each group of rows of one length, which need neither
    padding nor mask.
    """
    parts, order = [], []
    for rows, own in cache.groups(lengths):
        new = ids[rows][:, -int(lengths[rows[0]]) :]
        positions = lengths[rows][:, None] - new.shape[1] + torch.arange(new.shape[1])
        inputs = Inputs(new.to(model.device), positions.to(model.device))
        parts.append(_last_logits(model, inputs.ids, own, {"position_ids": inputs.positions}))
        order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort().to(model.device)]


def _last_logits(model: Any, ids: Tensor, cache: Any, options: dict[str, Any]) -> Tensor:
    """The logits (B, V) after the last of the tokens `ids` (B, T), which the cache receives."""
    base = inner(model)
    options = options | {"use_cache": True, "logits_to_keep": 1}
    argument = {str(cache_argument(type(base))): cache}
    with decoding_code(base):
        logits = model(input_ids=ids, **_accepted(base, options), **argument).logits[:, -1]
    return barred(model, logits)


def barred(model: Any, logits: Tensor) -> Tensor:
    """logits (..., V), changed in place: without tokens that a model with eyes must never sample.

    Engine and trainer both leave them out, so that they agree on the others' probabilities.
    """
    sight = sight_of(model)
    if sight is not None:
        logits.index_fill_(-1, put(torch.tensor(sight.banned), logits.device), NEVER)
    return logits


def _decoding_inputs(
    device: torch.device,
    ids: Tensor,
    lengths: Tensor,
    before: int,
    lags: Tensor | None,
) -> Inputs:
    """The network's inputs for the new tokens of left-padded sequences.

    `before` is the number of positions in the cache; see `next_logits` for `lags`.
    """
    width = before + ids.shape[1]
    # (B, L): position in its sequence, negative at padding
    place = torch.arange(width, device=lengths.device) - (width - lengths[:, None])
    positions = place[:, -ids.shape[1] :].clamp(min=0)
    if lags is not None:
        positions = positions + lags[:, None]
    mask = (place >= 0).long()
    whole = bool(mask.all()) and ids.shape[1] == 1
    return Inputs(
        ids=ids.to(device),
        positions=positions.to(device),
        mask=None if whole else mask.to(device),
    )


@functools.cache
def _arguments(architecture: type) -> frozenset[str]:
    return frozenset(inspect.signature(architecture.forward).parameters)  # type: ignore[attr-defined]


def _accepted(module: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a network's forward pass names; not all have positions, for example."""
    names = _arguments(type(module))
    return {name: value for name, value in options.items() if name in names}


def cache_argument(architecture: type) -> str | None:
    """The name of a model's argument for the cache, None if it has none: transformers 5.24 renames
    `past_key_values` and `cache_params`, and 5.40 drops the old names.
    """
    names = _arguments(architecture)
    return next((n for n in ("cache", "past_key_values", "cache_params") if n in names), None)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model as it is evaluated, for a while."""
    trained = [module for module in model.modules() if module.training] if model.training else []
    try:
        for module in trained:  # not as attributes, which a module looks through
            vars(module)["training"] = False
        yield
    finally:
        for module in trained:
            vars(module)["training"] = True
        # weights that autocast cast without gradients must not be reused in training
        torch.clear_autocast_cache()


def inner(model: Any) -> Any:
    """The transformers model without peft's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_head(model: Any) -> Any:
    """A function from hidden states (M, H) to logits (M, V).

    It is the model's own forward pass with these states in place of the decoder's, since many
    architectures scale or cap what they hand to the head or what comes out of it.
    """
    base = inner(model)
    decoder, head = base.get_decoder(), base.get_output_embeddings()

    def logits(hidden: Tensor) -> Tensor:
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with ExitStack() as changed:
            states = _Given(last_hidden_state=hidden[None])
            changed.enter_context(_replaced(decoder, lambda *args, **kwargs: states))
            if torch.is_grad_enabled() and (product := frugal(head)) is not None:
                changed.enter_context(_replaced(head, product))
            given = base(input_ids=ids, **_accepted(base, {"use_cache": False})).logits[0]
        return barred(base, given)

    return logits


class _Given(BaseModelOutput):
    """A decoder's output with its hidden states only; whatever else is asked for is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """The module with another forward pass."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
