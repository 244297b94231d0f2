"""How a model sees: the only module that knows of pixels.

Token ids have one placeholder for each image everywhere else. Here a placeholder becomes what the
network reads, and images become features, which take its place in the network.

Axes: B sequences, T tokens, W tokens once placeholders are expanded, H width of the decoder.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from slm_math.images import ImageError, check_image, image_hash
from slm_math.policy.views import Grids, Tiles, View
from slm_math.types import Image

# by the model_type of a config
FAMILIES: Mapping[str, type[View]] = {
    "qwen2_vl": Grids,
    "qwen2_5_vl": Grids,
    "qwen3_vl": Grids,
    "idefics3": Tiles,
    "smolvlm": Tiles,
}
NEVER = -1e4  # the logit of a token that is never sampled; exp of it is 0 in every precision
PIXELS, FEATURES = 1 << 29, 1 << 30  # bytes of pixels and of features that are remembered
_MARKS = re.compile(r"<fake_token_around_image>|<global-img>|<row_\d+_col_\d+>")


class Extent(NamedTuple):
    """What images add to a sequence of ids: positions of the network beyond one for each image, and
    how far the positions of later tokens lie beyond their number (usually below: negative).
    """

    extra: int
    lag: int


@dataclass(frozen=True)
class Seen:
    """Sequences with their placeholders expanded.

    Args:
        ids: (B, W).
        positions: (B, W), or (3, B, W): by time, height and width.
        lengths: (B,) tokens of each sequence.
        index: (B, T) where the last position of each unexpanded token is; empty if padded on the
            left.
    """

    ids: Tensor
    positions: Tensor
    lengths: Tensor
    index: Tensor


class Sight:
    """The eyes of a model: its image processor, its placeholder, its remembered images.

    Features are computed once for each distinct image of a pass. Those without gradients are
    remembered until the weights that compute them change, by whatever model shares them.

    Args:
        config: of the model.
        processor: transformers' image processor.
        tokenizer: of the model.
        max_pixels: the most pixels of an image, which is scaled down to them; by default the
            processor's own limit.

    Raises ValueError for a limit that the model cannot keep.
    """

    def __init__(
        self, config: Any, processor: Any, tokenizer: Any, max_pixels: int | None = None
    ) -> None:
        self.view = FAMILIES[config.model_type](config, processor, tokenizer)
        self.max_pixels = max_pixels
        if max_pixels is not None:
            self.view.limit(max_pixels)
        self.placeholder_id: int = config.image_token_id
        self.placeholder: str = tokenizer.convert_ids_to_tokens(self.placeholder_id)
        self.banned = _never_sampled(config, tokenizer)
        self.encoded = 0  # images that went through a tower
        self._shapes: dict[str, tuple[int, int]] = {}
        self._pixels = _Remembered(PIXELS)
        # by tower: the state of its weights, and what they made
        self._features: WeakKeyDictionary[nn.Module, tuple[Any, _Remembered]] = WeakKeyDictionary()

    def __deepcopy__(self, memo: Any) -> Sight:
        return self  # copies of a model see alike

    # ids

    def shape(self, image: Image) -> tuple[int, int]:
        """How many rows and columns the model sees of an image. Raises ImageError."""
        hashed = image_hash(image.source)
        if hashed not in self._shapes:
            self._shapes[hashed] = self.view.shape(*check_image(image.source))
        return self._shapes[hashed]

    def extent(self, images: Sequence[Image]) -> Extent:
        """What images add to a sequence. Raises ImageError."""
        extra = lag = 0
        for image in images:
            shape = self.shape(image)
            tokens = len(self.view.ids(shape))
            extra += tokens - 1
            lag += self.view.advance(shape) - tokens if self.view.positions else 0
        return Extent(extra, lag)

    def seen(self, rows: Sequence[Sequence[int]], images: Sequence[Sequence[Image]]) -> Seen:
        """Sequences of ids with their placeholders expanded, padded on the right.

        Raises ValueError unless each row has a placeholder for each of its images.
        """
        expanded = [self._expanded(ids, own) for ids, own in zip(rows, images, strict=True)]
        lengths = torch.tensor([len(ids) for ids, _, _ in expanded])
        pad = functools.partial(nn.utils.rnn.pad_sequence, batch_first=True)
        places = pad([where.T for _, where, _ in expanded]).permute(2, 0, 1)  # (3, B, W)
        return Seen(
            ids=pad([torch.tensor(ids) for ids, _, _ in expanded]),
            positions=places if self.view.positions else places[0],
            lengths=lengths,
            index=pad([torch.tensor(index) for _, _, index in expanded]),
        )

    def _expanded(
        self, ids: Sequence[int], images: Sequence[Image]
    ) -> tuple[list[int], Tensor, list[int]]:
        """Ids, positions (3, W) and, for each id before, the index of its last one now."""
        where = [t for t, id in enumerate(ids) if id == self.placeholder_id][: len(images)]
        if len(where) < len(images):
            raise ValueError(
                f"a sequence shows {len(images)} images and has {len(where)} placeholders "
                f"{self.placeholder}"
            )
        made: list[int] = []
        places: list[Tensor] = []
        index: list[int] = []
        start = done = 0  # the next position, and the ids that are done
        for t, image in zip([*where, len(ids)], [*images, None]):
            index += range(len(made), len(made) + t - done)
            made += ids[done:t]
            places.append(torch.arange(start, start + t - done).expand(3, -1))
            start, done = start + t - done, t + 1
            if image is not None:
                shape = self.shape(image)
                own = self.view.ids(shape)
                made += own
                index.append(len(made) - 1)
                places.append(self.view.places(shape, start))
                start += self.view.advance(shape)
        return made, torch.cat(places, 1), index

    # features

    def embedded(
        self, model: Any, ids: Tensor, images: Sequence[Sequence[Image]]
    ) -> dict[str, Any]:
        """Expanded ids (B, W) as the decoder takes them, with what it sees in place of their
        images: with gradients if the model's tower is trained and gradients are wanted.

        Raises ValueError unless the ids have room for just these images.
        """
        where = ids == self.placeholder_id
        features, *more = self.features(model, images)
        if len(features) != where.sum():
            raise ValueError(
                f"the sequences have {where.sum()} places for images, which need {len(features)}"
            )
        embeddings = model.get_input_embeddings()(ids)
        taken = embeddings.masked_scatter(where[..., None], features.to(embeddings.dtype))
        options: dict[str, Any] = {"inputs_embeds": taken}
        if more:  # what the first layers add to these places
            options |= {"visual_pos_masks": where, "deepstack_visual_embeds": more}
        return options

    def features(self, model: Any, images: Sequence[Sequence[Image]]) -> list[Tensor]:
        """What a decoder takes for the images of B sequences, in the order of their placeholders:
        (N, H) for their N positions, and as much again for each of the layers that add some.
        """
        every = [(image_hash(image.source), image) for own in images for image in own]
        found = self._known(model, dict(every))
        return [torch.cat(layer) for layer in zip(*(found[hashed] for hashed, _ in every))]

    def _known(self, model: Any, images: Mapping[str, Image]) -> dict[str, tuple[Tensor, ...]]:
        tower = eyes_of(model)
        weights = [p for module in tower for p in module.parameters()]
        wanted = torch.is_grad_enabled() and any(p.requires_grad for p in weights)
        # adapters come and go, and their features with them
        adapted = any("lora_" in name for module in tower for name, _ in module.named_parameters())
        if wanted or adapted:
            return dict(zip(images, self._encoded(model, list(images.values()))))
        kind = model.device.type
        precise = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        # every change of a weight in place counts its version up, but not one through `.data` or
        # by a fused kernel: use `copy_` under `no_grad`, or call `increment_version`
        state = (sum(p._version for p in weights), model.device, precise)
        if self._features.get(tower[0], (None,))[0] != state:
            self._features[tower[0]] = state, _Remembered(FEATURES)
        kept = self._features[tower[0]][1]
        known = {hashed: kept.get(hashed) for hashed in images}
        new = [hashed for hashed, value in known.items() if value is None]
        with torch.no_grad():
            made = self._encoded(model, [images[hashed] for hashed in new])
        for hashed, value in zip(new, made):
            kept.put(hashed, value, sum(t.numel() * t.element_size() for t in value))
            known[hashed] = value
        return {hashed: value for hashed, value in known.items() if value is not None}

    def _encoded(self, model: Any, images: Sequence[Image]) -> list[tuple[Tensor, ...]]:
        """For each image its features, from one pass of the tower: (n, H), on the layers that take
        some.
        """
        if not images:
            return []
        self.encoded += len(images)
        return self.view.encode(model, [self.look(image) for image in images])

    def look(self, image: Image) -> Mapping[str, Tensor]:
        """An image as the tower takes it. Raises ImageError."""
        hashed = image_hash(image.source)
        pixels = self._pixels.get(hashed)
        if pixels is None:
            pixels, shape = self.view.pixels(image.source)
            if shape != self.shape(image):
                raise ImageError(f"the image {image.source[:80]} has another size than its header")
            size = sum(t.numel() * t.element_size() for t in pixels.values())
            self._pixels.put(hashed, pixels, size)
        return pixels

    # files

    def save(self, folder: Path) -> None:
        """Saves the image processor, so that the folder's model sees as this one."""
        self.view.save(folder)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how large images are seen, as transformers names it."""
        return {"size": dict(self.view.processor.size)}


class _Remembered:
    """Values up to a number of bytes; those that were not asked for longest go first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._total = limit, 0
        self._values: dict[Any, tuple[Any, int]] = {}

    def get(self, key: Any) -> Any:
        """The value of a key, None if there is none."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self._values[key] = found
        return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        self._values[key] = value, size
        self._total += size
        while self._total > self._limit and len(self._values) > 1:
            self._total -= self._values.pop(next(iter(self._values)))[1]


def has_eyes(config: Any) -> bool:
    """Whether a model with this config can see here."""
    return getattr(config, "model_type", "") in FAMILIES


def sight_of(model: Any) -> Sight | None:
    """The eyes of a model, with or without peft's wrapper; None for one that reads text only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base, "sight", None)


def eyes_of(model: Any) -> list[nn.Module]:
    """The modules that make features of images: all of a model that sees but decoder and head."""
    return [module for _, module in named_eyes(model)]


def named_eyes(model: Any) -> list[tuple[str, nn.Module]]:
    """`eyes_of`, with their names; [] for a model that reads text only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = names_of_eyes(getattr(base, "config", None))
    return [(name, base.get_submodule(name)) for name in names]


def names_of_eyes(config: Any) -> tuple[str, ...]:
    """The names of the modules of `eyes_of`."""
    return FAMILIES[config.model_type].eyes if has_eyes(config) else ()


def load_sight(
    path: str, config: Any, tokenizer: Any, max_pixels: int | None = None
) -> Sight | None:
    """The eyes of a model in a folder or on the hub; None if it has none that see here.

    Raises ValueError for a model whose image processor is missing, or needs torchvision.
    """
    if not has_eyes(config):
        return None
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(path)
    except ImportError as error:
        raise needs_torchvision(path, error) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model {path} has no image processor that can be used: "
            f"{str(error).strip().splitlines()[0]} (copy the preprocessor_config.json of the model "
            "that it was made from)"
        ) from error
    return Sight(config, processor, tokenizer, max_pixels)


def needs_torchvision(model: str, error: ImportError) -> ValueError:
    """What to do about an image processor that transformers does not give out: 5.17 reads none
    without torchvision, 5.19 and newer versions do.
    """
    installed = version("transformers")
    reason = next(iter(str(error).strip().splitlines()), "")
    return ValueError(
        f"the image processor of {model} needs torchvision with transformers {installed}: install "
        f"torchvision, or transformers 5.19 or newer (it says: {reason})"
    )


def _never_sampled(config: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids of images and of what stands around them, which mean nothing without an image."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    named = {getattr(config, name, None) for name in names}
    marks = {id for token, id in tokenizer.get_added_vocab().items() if _MARKS.fullmatch(token)}
    size = config.get_text_config().vocab_size
    return tuple(sorted(id for id in named | marks if id is not None and id < size))
