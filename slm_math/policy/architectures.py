"""Which models can be trained and decoded: by their config, before anything is loaded, and by what
they compute, once they are.

Both ask for what the project relies on, not for names: a new architecture works if it is a causal
language model whose decoder, cache and head can be used apart.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slm_math.policy.batches import Reading
from slm_math.policy.caches import RowCache, attends_only, new_cache
from slm_math.policy.forward import (
    Inputs,
    barred,
    cache_argument,
    hidden_states,
    inner,
    language_head,
    next_logits,
)
from slm_math.policy.packing import Sequences, pack
from slm_math.policy.sight import Sight, has_eyes, sight_of
from slm_math.policy.views import drawing
from slm_math.types import Image

INSTEAD = "take a causal decoder such as those of docs/models.md"
LAYERS = {"full_attention", "sliding_attention"}  # those that packed rows can be attended to in
CLOSE = 1e-2  # nats; rounding in 32 bits explains a hundredth of it, a wrong scale far more
LENGTHS = (7, 4, 7)  # tokens of the sequences that are computed in several ways


def check_architecture(path: str, config: Any) -> None:
    """Raises ValueError if a model's config says that the model cannot be trained or decoded."""
    reason = refusal(config)
    if reason is not None:
        raise ValueError(f"model {path} ({config.model_type}) {reason}: {INSTEAD}")


def refusal(config: Any) -> str | None:
    """Why a model with this config cannot be trained or decoded; None if it may work."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_MASKED_LM_MAPPING as MASKED

    if config.is_encoder_decoder:
        return "is an encoder-decoder, and this project takes one sequence that goes on"
    if type(config) not in CAUSAL and not has_eyes(config):
        return "has no causal language model in transformers"
    if type(config) in MASKED and not getattr(config, "is_decoder", False):
        return "reads text in both directions and cannot go on with it"
    architecture = architecture_of(config)
    state = "keeps what it has read in a form of its own, from which rows cannot be taken"
    if cache_argument(architecture) is None or hasattr(architecture, "_setup_cache"):
        return state
    return None if architecture._supports_default_dynamic_cache() else state


def own_attention(config: Any, attention: str) -> str:
    """The attention implementation that a model is loaded with: eager in place of sdpa, which is
    the default, if its architecture has none.
    """
    supported = architecture_of(config)._supports_sdpa
    return "eager" if attention == "sdpa" and not supported else attention


def architecture_of(config: Any) -> Any:
    """The class of a model with this config, which `refusal` must not refuse."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CAUSAL
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as SEEING

    return (SEEING if has_eyes(config) else CAUSAL)[type(config)]


def packs(model: Any) -> bool:
    """Whether rows are packed for a model: it takes positions, and attends by transformers' sdpa in
    each layer, to all tokens before or to a window of them. Others read padded rows, and so does
    one that `check_computation` has found to compute packed ones wrongly.
    """
    base = inner(model)
    config = base.config.get_text_config(decoder=True)
    decoder = base.get_decoder()
    options = inspect.signature(decoder.forward).parameters
    return (
        getattr(base, "packs", True)
        and decoder.config._attn_implementation == "sdpa"
        and type(decoder)._supports_attention_backend
        and attends_only(config)
        and LAYERS.issuperset(getattr(config, "layer_types", None) or ())
        and "position_ids" in options
        and any(option.kind is option.VAR_KEYWORD for option in options.values())
    )


def reading_of(model: Any) -> Reading:
    """How a model reads rows."""
    return Reading(sight_of(model), packs(model))


@torch.no_grad()
def settle_packing(model: Any, exact: bool) -> None:
    """Lets a model read padded rows if it cannot read packed ones: if layers do not attend to them,
    and if `exact` also if two rows, of which one begins as the other, are not computed as each by
    itself. The weights must be of 32 bits at least for that.
    """
    if not packs(model):
        return
    ids = torch.cat([*_sequences(model)] * 2 if exact else _sequences(model)[1:2])
    own = ids.cpu().numpy()
    rows = [own, np.append(own[:-4], own[:3])] if exact else [own]
    counted = np.arange(len(own))
    made = pack(Sequences(rows, [counted[: len(row)] for row in rows], [()] * len(rows)))
    try:
        states = hidden_states(model, made.to(ids.device))[0]
    except Exception:  # whatever an architecture raises that cannot do this
        inner(model).packs = False
        return
    if exact:
        head = language_head(model)
        logits = [head(states[torch.from_numpy(where)]) for where in made.places]
        plain = [
            barred(model, model(input_ids=ids.new_tensor(row)[None]).logits[0]) for row in rows
        ]
        inner(model).packs = _gap(logits, plain) <= CLOSE


@torch.no_grad()
def check_computation(path: str, model: Any) -> None:
    """Raises ValueError unless training and decoding compute what a plain forward pass of each
    sequence does, on a few short ones. The weights must be of 32 bits at least.
    """
    training = model.training
    model.eval()
    kind = model.config.model_type
    try:
        wrong = _differences(model)
    except Exception as error:  # whatever an architecture raises that cannot do this
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"model {path} ({kind}) cannot be trained and decoded here ({reason}): {INSTEAD}"
        ) from error
    finally:
        model.train(training)
    if wrong is None:
        raise ValueError(
            f"model {path} ({kind}) computes logits that are no numbers (NaN or infinite) in "
            f"{str(model.dtype).removeprefix('torch.')}: its weights are damaged, so copy or "
            "download it again"
        )
    if wrong:
        found = ", ".join(f"{what} by {gap:.2g} nats" for what, gap in wrong.items())
        raise ValueError(
            f"model {path} ({kind}) computes other log-probabilities here than in a plain forward "
            f"pass of one sequence ({found}), with attention "
            f"{model.config._attn_implementation}: {INSTEAD}"
        )


def _differences(model: Any) -> dict[str, float] | None:
    """The differences in nats by what is computed, where rounding does not explain them; None if
    the model computes no numbers at all.
    """
    rows = _sequences(model)
    plain = [barred(model, model(input_ids=row[None]).logits[0]) for row in rows]
    if not all(torch.isfinite(logits.log_softmax(-1)).all() for logits in plain):
        return None
    settle_packing(model, exact=True)
    gaps = {
        "training": _gap(_as_trained(model, rows), plain),
        "decoding": _gap(_as_decoded(model, rows), [logits[-2:] for logits in plain]),
    }
    sight = sight_of(model)
    if sight is not None:
        gaps["what an image shows"] = _gap(*_as_seen(model, sight, [*rows[0], *rows[1]]))
    return {kind: gap for kind, gap in gaps.items() if not gap <= CLOSE}


def _sequences(model: Any) -> list[Tensor]:
    """Sequences of ordinary tokens."""
    size = model.get_input_embeddings().weight.shape[0]
    total = sum(LENGTHS)
    ids = (torch.arange(1, total + 1, device=model.device) * size) // (total + 2)
    return list(ids.split(LENGTHS))


def _as_trained(model: Any, rows: list[Tensor]) -> list[Tensor]:
    """The logits of each sequence in a batch padded on the right."""
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    hidden = hidden_states(model, Inputs.of_rows(ids))
    head = language_head(model)
    return [head(states[: len(row)]) for states, row in zip(hidden, rows)]


def _as_decoded(model: Any, rows: list[Tensor]) -> list[Tensor]:
    """The logits of the last two tokens of each sequence, from prompts that are read at two times,
    the last of them in two parts, and rows that change places and come later.
    """
    prompts = [row[:-1] for row in rows]
    cache, later = new_cache(model), new_cache(model)
    first = _read(model, prompts[:2], cache)
    half = len(prompts[2]) // 2
    _read(model, [prompts[2][:half]], later)
    if isinstance(later, RowCache):
        later = new_cache(model, [(later.row(0, half), half)])
    else:  # a state is that of a whole prompt
        half, later = 0, new_cache(model)
    last = _read(model, [prompts[2]], later, known=half)
    cache.keep(torch.tensor([1, 0], device=model.device))
    cache.join(later)
    order = [1, 0, 2]
    new = torch.stack([rows[n][-1:] for n in order]).cpu()
    lengths = torch.tensor([len(rows[n]) for n in order])
    then = next_logits(model, new, lengths=lengths, cache=cache)
    before = torch.cat([first, last])
    return [torch.stack([before[n], then[order.index(n)]]) for n in range(len(rows))]


def _read(model: Any, prompts: list[Tensor], cache: Any, known: int = 0) -> Tensor:
    """The logits after prompts, of which the cache has the first so many tokens."""
    lengths = torch.tensor(list(map(len, prompts)))
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in zip(ids, prompts):
        row[len(row) - len(prompt) :] = prompt
    return next_logits(model, ids[:, known:], lengths=lengths, cache=cache)


def _as_seen(model: Any, sight: Sight, ordinary: list[Tensor]) -> tuple[list[Tensor], ...]:
    """The logits of a sequence with an image as it is trained, and of its last two tokens as they
    are decoded; and those of the model's own forward pass.
    """
    images = ((Image(drawing()),),)
    ids = [int(id) for id in ordinary if id not in sight.banned]
    ids = torch.tensor([[*ids[:3], sight.placeholder_id, *ids[3:]]], device=model.device)
    seen = sight.seen(ids.tolist(), images)
    inputs = sight.view.inputs([sight.look(images[0][0])], seen.ids)
    moved = {name: value.to(model.device) for name, value in inputs.items()}
    whole = model(input_ids=seen.ids.to(model.device), **moved).logits[0]
    plain = barred(model, whole)[seen.index[0].to(model.device)]
    trained = language_head(model)(hidden_states(model, Inputs.of_rows(ids, images))[0])
    cache = new_cache(model)
    start = ids[:, :-1].cpu()
    read = next_logits(model, start, torch.tensor([start.shape[1]]), cache=cache, images=images)
    lags = torch.tensor([sight.extent(images[0]).lag])
    then = next_logits(model, ids[:, -1:].cpu(), seen.lengths, cache=cache, lags=lags)
    return [trained, torch.cat([read, then])], [plain, plain[-2:]]


def _gap(logits: list[Tensor], plain: list[Tensor]) -> float:
    """The largest difference of log-probabilities in nats, weighed by what is likely."""
    worst = 0.0
    for own, want in zip(logits, plain):
        own, want = own.float().log_softmax(-1), want.float().log_softmax(-1)
        gap = ((own - want).abs() * want.exp()).sum(-1).max().item()
        worst = gap if not gap <= worst else worst
    return worst
