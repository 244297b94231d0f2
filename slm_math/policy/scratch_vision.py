"""Small models with eyes and random weights: a decoder as that of `Scratch`, and a tower that sees
an image of 84 x 84 pixels as 9 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # it needs torch, and the settings of a model do not
    from slm_math.policy.sight import Sight

Eyes = Literal["none", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3"]

WIDTH, DEPTH, HEADS = 64, 2, 4  # of the tower
TILE = 84  # pixels of the side of what Idefics3 sees
LARGEST = 168 * 168  # pixels of an image
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
IDEFICS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")


class Sizes(Protocol):
    """What is asked of a model, see `Scratch`."""

    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def ffn(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def vision(self) -> Eyes: ...


def marks(eyes: Eyes) -> tuple[str, ...]:
    """The special tokens of a family."""
    return IDEFICS if eyes == "idefics3" else QWEN


def template(eyes: Eyes) -> str:
    """A chat template that writes a placeholder for each image."""
    shown = "<image>" if eyes == "idefics3" else "<|vision_start|><|image_pad|><|vision_end|>"
    return (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
        "{{ '" + shown + "' if p['type'] == 'image' else p['text'] }}"
        "{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )


def make(scratch: Sizes, tokenizer: Any) -> Any:
    """The model with random weights, whose `sight` is not set."""
    import transformers

    config = config_of(scratch, tokenizer)
    return getattr(transformers, _NAMES[scratch.vision] + "ForConditionalGeneration")(config)


def sight(scratch: Sizes, tokenizer: Any, max_pixels: int | None = None) -> Sight:
    """The eyes of a model from `make`."""
    from transformers import Idefics3ImageProcessorPil, Qwen2VLImageProcessorPil

    from slm_math.policy.sight import Sight, needs_torchvision

    config = config_of(scratch, tokenizer)
    if scratch.vision == "idefics3":
        edge = {"longest_edge": TILE}
        options: dict[str, Any] = {"max_image_size": edge, "do_image_splitting": False}
        try:
            processor: Any = Idefics3ImageProcessorPil(size=edge, **options)
        except ImportError as error:
            raise needs_torchvision("policy.scratch.vision idefics3", error) from error
    else:
        patch = config.vision_config.patch_size
        limits = {"shortest_edge": (2 * patch) ** 2, "longest_edge": LARGEST}
        processor = Qwen2VLImageProcessorPil(patch_size=patch, size=limits)
    return Sight(config, processor, tokenizer, max_pixels)


_NAMES: Mapping[str, str] = {
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen2_5_VL",
    "qwen3_vl": "Qwen3VL",
    "idefics3": "Idefics3",
}


def config_of(scratch: Sizes, tokenizer: Any) -> Any:
    """The config of the model."""
    import transformers

    size = scratch.hidden // scratch.heads
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": scratch.hidden,
        "num_hidden_layers": scratch.layers,
        "num_attention_heads": scratch.heads,
        "num_key_value_heads": max(scratch.heads // 2, 1),
        "head_dim": size,
        "intermediate_size": scratch.ffn,
        "max_position_embeddings": scratch.context,
        "initializer_range": 0.02,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    tower: dict[str, Any] = {"num_heads": HEADS, "depth": DEPTH, "hidden_size": WIDTH}
    ends = {
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if scratch.vision == "idefics3":
        text |= {"model_type": "llama", "tie_word_embeddings": True}
        tower = {"num_attention_heads": HEADS, "num_hidden_layers": DEPTH, "hidden_size": WIDTH}
        tower |= {"intermediate_size": 2 * WIDTH, "image_size": TILE, "patch_size": 14}
        ids = {"image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "scale_factor": 2}
    else:
        # positions by time, height and width share the frequencies of a head
        side = size // 2 * 3 // 8
        text["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [size // 2 - 2 * side, side, side],
        }
        tower |= _TOWERS[scratch.vision](scratch.hidden)
        names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
        ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(QWEN))))
    kind = getattr(transformers, _NAMES[scratch.vision] + "Config")
    return kind(text_config=text, vision_config=tower, **ids, **ends)


_TOWERS: Mapping[str, Any] = {
    "qwen2_vl": lambda hidden: {"embed_dim": WIDTH, "mlp_ratio": 2, "hidden_size": hidden},
    "qwen2_5_vl": lambda hidden: {
        "intermediate_size": 2 * WIDTH,
        "out_hidden_size": hidden,
        "window_size": 112,
        "fullatt_block_indexes": [DEPTH - 1],
    },
    "qwen3_vl": lambda hidden: {
        "intermediate_size": 2 * WIDTH,
        "out_hidden_size": hidden,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0],
    },
}
