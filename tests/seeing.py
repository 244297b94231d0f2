"""Tiny models with eyes, and drawings for them, that tests share."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from answering import answer

from slm_math.data.base import SPLITS, Source, Split
from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.forward import Inputs, hidden_states, language_head
from slm_math.policy.scratch import Scratch
from slm_math.policy.sight import Sight
from slm_math.types import Chat, Generate, Image, Problem, Reply, Sampling, Task, Trace, Turn

SEEING = Scratch(hidden=32, layers=2, ffn=64, vision="qwen2_vl")
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm")


def drawing(folder: Path, name: str, size: tuple[int, int], seed: int) -> Image:
    """An image file of random pixels."""
    from PIL import Image as Pillow

    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    path = folder / f"{name}.png"
    if not path.exists():  # whole at once: other processes read it
        new = folder / f"{name}.{os.getpid()}.png"
        Pillow.fromarray(pixels.numpy()).save(new)
        new.rename(path)
    return Image(str(path))


def drawings(folder: Path) -> list[Image]:
    """A square, a long one, a tiny one, a high one."""
    sizes = [(84, 84), (150, 60), (5, 5), (40, 130)]
    return [drawing(folder, f"drawing{n}", size, n) for n, size in enumerate(sizes)]


def model_of(family: str, factor: float = 4.0) -> tuple[Any, ChatFormat]:
    """A model whose weights are so large that each image changes what it says."""
    scratch = replace(SEEING, vision="idefics3" if family == "smolvlm" else family)
    tokenizer = scratch.tokenizer()
    model = scratch.model(tokenizer)
    if family == "smolvlm":
        model = smol(model, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model.eval(), ChatFormat(tokenizer, sight=model.sight)


def smol(model: Any, tokenizer: Any) -> Any:
    """A SmolVLM of the size of an Idefics3, which splits large images into tiles."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
    )

    old = model.config
    config = SmolVLMConfig(
        vision_config=old.vision_config.to_dict() | {"model_type": "smolvlm_vision"},
        text_config=old.text_config.to_dict(),
        image_token_id=old.image_token_id,
        scale_factor=old.scale_factor,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    made = SmolVLMForConditionalGeneration(config)
    processor = SmolVLMImageProcessorPil(
        size={"longest_edge": 150}, max_image_size={"longest_edge": 84}
    )
    made.sight = Sight(config, processor, tokenizer)
    return made


def engine_of(model: Any, chat: ChatFormat, slots: int = 64) -> TransformersEngine:
    return TransformersEngine(model, chat, slots)


def ask(engine: Any, chats: list[Chat], tokens: int = 6, **sampling: Any) -> list[Any]:
    """The replies to chats, in their order; each draws numbers and ends at a time of its own."""
    asked = [
        Request(c, Sampling(max_new_tokens=tokens + n % 5, **sampling), key=(n,), role="solver")
        for n, c in enumerate(chats)
    ]
    return answer(engine, asked)


def logits(model: Any, ids: torch.Tensor, urls: list[str]) -> torch.Tensor:
    """The logits (T, V) of a sequence (1, T) with a placeholder for each of some images."""
    inputs = Inputs.of_rows(ids, images=(tuple(map(Image, urls)),))
    return language_head(model)(hidden_states(model, inputs)[0])


def trace_of(*turns: tuple[Chat, Reply]) -> Trace:
    made = tuple(Turn(Generate(chat), reply) for chat, reply in turns)
    return Trace(Problem("p", ""), 0, made, None)


class Drawn(Source):
    """Questions about colors: most show one image, some two or none, and one has a large one.

    Args:
        folder: where the images are drawn.
        train: the number of training problems.
        large: the side of an image of its own, for the last problem; 0 for none.
    """

    name = "drawn"

    def __init__(self, folder: str, train: int = 8, large: int = 0) -> None:
        self.folder = Path(folder)
        self.train = train
        self.large = large

    def tasks(self, split: Split) -> list[Task]:
        self.folder.mkdir(parents=True, exist_ok=True)
        count = self.train if split == "train" else 2
        tasks = [self._task(split, n) for n in range(count)]
        if self.large and split == "train":
            image = drawing(self.folder, "large", (self.large, self.large), 5)
            tasks.append(Task(Problem("drawn/train/large", "How much?", images=(image,)), "1", "1"))
        return tasks

    def _task(self, split: Split, number: int) -> Task:
        sizes = [(84, 84), (60, 110), (84, 84), (40, 40)]
        count = (1, 1, 2, 0)[number % 4]
        start = 1000 * SPLITS.index(split) + 10 * number  # of the random pixels
        images = tuple(
            drawing(self.folder, f"{split}{number}-{k}", sizes[(number + k) % 4], start + k)
            for k in range(count)
        )
        problem = Problem(f"drawn/{split}/{number}", f"How much is {number % 3}?", images=images)
        return Task(problem, str(number), f"It is {number}. #### {number}")


class Colors(Source):
    """Which of four colors a square is; nothing but the image says it."""

    name = "colors"
    colors = ((220, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 40))

    def __init__(self, folder: str, train: int = 64) -> None:
        self.folder = Path(folder)
        self.train = train

    def tasks(self, split: Split) -> list[Task]:
        from PIL import Image as Pillow

        self.folder.mkdir(parents=True, exist_ok=True)
        tasks = []
        for n in range(self.train if split == "train" else 16):
            path = self.folder / f"{split}{n}.png"
            shade = tuple((part + 7 * n) % 20 + part - 10 for part in self.colors[n % 4])
            Pillow.new("RGB", (84, 84), shade).save(path)
            problem = Problem(f"colors/{split}/{n}", "Which color?", images=(Image(str(path)),))
            tasks.append(Task(problem, str(n % 4), f"#### {n % 4}"))
        return tasks
