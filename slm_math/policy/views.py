"""What families of models make of an image: rows and columns of patches (Qwen) or tiles (Idefics3,
SmolVLM), as token ids, positions, and the input of their towers.
"""

from __future__ import annotations

import base64
import functools
import inspect
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from slm_math.images import ImageError, open_image

Shape = tuple[int, int]  # rows and columns


class View:
    """How a family of models sees.

    Args:
        config: of the model.
        processor: transformers' image processor; it needs no torchvision.
        tokenizer: of the model.
    """

    positions = False  # whether a position is three numbers: time, height, width
    eyes: tuple[str, ...] = ()  # the names of the modules that make features

    def __init__(self, config: Any, processor: Any, tokenizer: Any) -> None:
        self.config = config
        self.processor = processor
        self.tokenizer = tokenizer
        self._ids: dict[Shape, list[int]] = {}

    def limit(self, max_pixels: int) -> None:
        """Lowers or raises the most pixels of an image. Raises ValueError for too few."""
        raise NotImplementedError

    def shape(self, width: int, height: int) -> Shape:
        """The rows and columns of an image of this size in pixels."""
        raise NotImplementedError

    def ids(self, shape: Shape) -> list[int]:
        """The ids that take the place of an image's placeholder."""
        if shape not in self._ids:
            self._ids[shape] = self._made(shape)
        return self._ids[shape]

    def _made(self, shape: Shape) -> list[int]:
        raise NotImplementedError

    def places(self, shape: Shape, start: int) -> Tensor:
        """The positions (3, n) of the n ids of an image whose first position is `start`."""
        return torch.arange(start, start + len(self.ids(shape))).expand(3, -1)

    def advance(self, shape: Shape) -> int:
        """How many positions the next token comes after the first of an image."""
        return len(self.ids(shape))

    def pixels(self, source: str) -> tuple[Mapping[str, Tensor], Shape]:
        """An image as the tower takes it, and its shape. Raises ImageError."""
        image = open_image(source)
        try:
            made = self.processor(image, return_tensors="pt", **self._options)
        except (ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ImageError(f"the model cannot see the image {source[:80]}: {reason}") from None
        return self._prepared(made)

    _options: ClassVar[Mapping[str, Any]] = {}

    def _prepared(self, made: Any) -> tuple[Mapping[str, Tensor], Shape]:
        raise NotImplementedError

    def encode(self, model: Any, images: Sequence[Mapping[str, Tensor]]) -> list[Any]:
        """The features of images, from one pass of the tower: for each a tuple of (n, H)."""
        raise NotImplementedError

    def inputs(self, images: Sequence[Mapping[str, Tensor]], ids: Tensor) -> dict[str, Tensor]:
        """What the model's own forward pass takes beside expanded ids (1, W)."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)


class Grids(View):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL: an image of any size is a grid of tokens, whose positions are
    its rows and columns.
    """

    positions = True
    eyes = ("model.visual",)

    @property
    def _side(self) -> int:
        """The pixels of a token's side."""
        return self.processor.patch_size * self.processor.merge_size

    def limit(self, max_pixels: int) -> None:
        if max_pixels < self._side**2:
            raise ValueError(
                f"policy.max_pixels {max_pixels} is less than one token of this model, which shows "
                f"{self._side} x {self._side} = {self._side**2} pixels"
            )
        least = min(self.processor.size["shortest_edge"], max_pixels)
        self.processor.size = type(self.processor.size)(
            shortest_edge=least, longest_edge=max_pixels
        )

    def shape(self, width: int, height: int) -> Shape:
        size = self.processor.size
        # beside the class, for every backend
        resize = inspect.getmodule(type(self.processor)).smart_resize  # type: ignore[union-attr]
        high, wide = resize(
            height,
            width,
            factor=self._side,
            min_pixels=size["shortest_edge"],
            max_pixels=size["longest_edge"],
        )
        return high // self._side, wide // self._side

    def _made(self, shape: Shape) -> list[int]:
        return [self.config.image_token_id] * (shape[0] * shape[1])

    def places(self, shape: Shape, start: int) -> Tensor:
        rows, columns = shape
        high, wide = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        return start + torch.stack([torch.zeros_like(high), high, wide]).flatten(1)

    def advance(self, shape: Shape) -> int:
        return max(shape)

    def _prepared(self, made: Any) -> tuple[Mapping[str, Tensor], Shape]:
        _, high, wide = made["image_grid_thw"][0].tolist()
        merge = self.processor.merge_size
        return dict(made), (high // merge, wide // merge)

    def inputs(self, images: Sequence[Mapping[str, Tensor]], ids: Tensor) -> dict[str, Tensor]:
        joined = {name: torch.cat([image[name] for image in images]) for name in images[0]}
        return joined | {"mm_token_type_ids": (ids == self.config.image_token_id).int()}

    def encode(self, model: Any, images: Sequence[Mapping[str, Tensor]]) -> list[Any]:
        made = model.get_image_features(
            torch.cat([image["pixel_values"] for image in images]).to(model.device),
            torch.cat([image["image_grid_thw"] for image in images]).to(model.device),
            return_dict=True,
        )
        layers = [made.pooler_output, *(getattr(made, "deepstack_features", None) or ())]
        return list(zip(*layers))


class Tiles(View):
    """Idefics3 and SmolVLM: a large image is rows and columns of square tiles, and the whole once
    more; each tile is the same number of tokens behind a mark. A small one is shown as it is: 0
    rows and columns.
    """

    eyes = ("model.vision_model", "model.connector")
    _options: ClassVar[Mapping[str, Any]] = {"return_row_col_info": True}

    @property
    def _edge(self) -> int:
        """The pixels of a tile's side."""
        return self.processor.max_image_size["longest_edge"]

    @property
    def _tokens(self) -> int:
        """The tokens of a tile."""
        side = self._edge // self.config.vision_config.patch_size
        return side**2 // self.config.scale_factor**2

    def limit(self, max_pixels: int) -> None:
        if max_pixels < self._edge**2:
            raise ValueError(
                f"policy.max_pixels {max_pixels} is less than one tile of this model, which shows "
                f"{self._edge} x {self._edge} = {self._edge**2} pixels"
            )
        longest = math.isqrt(max_pixels) // self._edge * self._edge
        self.processor.size = type(self.processor.size)(longest_edge=longest)

    def shape(self, width: int, height: int) -> Shape:
        if not self.processor.do_image_splitting:
            return 0, 0
        module: Any = inspect.getmodule(type(self.processor))
        side = self.processor.size["longest_edge"]
        if self.processor.do_resize:
            whole = torch.empty(3, height, width, device="meta")
            height, width = module.get_resize_output_image_size(whole, side)
        edge, ratio = self._edge, width / height
        # the longer side becomes whole tiles, and the other one what it is then
        if width >= height:
            columns = math.ceil(width / edge)
            rows = math.ceil(int(columns * edge / ratio) / edge)
        else:
            rows = math.ceil(height / edge)
            columns = math.ceil(int(rows * edge * ratio) / edge)
        return (rows, columns) if max(rows, columns) > 1 else (0, 0)

    def _made(self, shape: Shape) -> list[int]:
        shown = "<image>" * self._tokens
        around = "<fake_token_around_image>"
        text = "".join(
            "".join(f"{around}<row_{row + 1}_col_{n + 1}>{shown}" for n in range(shape[1])) + "\n"
            for row in range(shape[0])
        )
        text += "\n" if text else ""
        text += f"{around}<global-img>{shown}{around}"
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _prepared(self, made: Any) -> tuple[Mapping[str, Tensor], Shape]:
        shape = int(made["rows"][0][0]), int(made["cols"][0][0])
        return {"pixel_values": made["pixel_values"][0]}, shape

    def inputs(self, images: Sequence[Mapping[str, Tensor]], ids: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": torch.cat([image["pixel_values"] for image in images])[None]}

    def encode(self, model: Any, images: Sequence[Mapping[str, Tensor]]) -> list[Any]:
        tiles = [image["pixel_values"] for image in images]
        pixels = torch.cat(tiles)[None].to(model.device)
        made = model.get_image_features(pixels, return_dict=True).pooler_output
        sizes = [len(own) * self._tokens for own in tiles]
        return [(own,) for own in torch.cat(tuple(made)).split(sizes)]

    def save(self, folder: Path) -> None:
        super().save(folder)
        kind = {"idefics3": "Idefics3Processor", "smolvlm": "SmolVLMProcessor"}
        about = {
            "processor_class": kind[self.config.model_type],
            "image_seq_len": self._tokens,
        }
        file = folder / "processor_config.json"
        file.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


@functools.cache
def drawing(pixels: int = 4900) -> str:
    """An image of many colors and somewhat more than so many pixels as a data URL, to compare how
    it is seen: eyes that see other pixels give other answers.
    """
    from PIL import Image as Pillow

    high = math.isqrt(pixels)
    size = (high * 9 // 7, high)
    drawn, rings = (
        make("L").resize(size) for make in (Pillow.linear_gradient, Pillow.radial_gradient)
    )
    turned = drawn.transpose(Pillow.Transpose.ROTATE_180)
    file = io.BytesIO()
    Pillow.merge("RGB", (drawn, turned, rings)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
