"""The embedded model: a small Qwen2 with random weights, or one with eyes, and a tokenizer trained
on the embedded data, made without downloads.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from slm_math.policy import scratch_vision
from slm_math.policy.scratch_vision import Eyes
from slm_math.ranges import check_whole

if TYPE_CHECKING:  # it needs torch, and the settings of a model do not
    from slm_math.policy.sight import Sight

SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Scratch:
    """A small model with random weights.

    Args:
        hidden: width.
        layers: decoder layers.
        heads: attention heads; two of them share a key-value head.
        ffn: width of the feed-forward layer.
        vocabulary: the most tokens of the vocabulary, bytes and special tokens included.
        context: the longest sequence in tokens.
        seed: seed of the random weights.
        vision: none is a Qwen2, which reads text; the others have eyes, and are of these families.
    """

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    ffn: int = 320
    vocabulary: int = 640
    context: int = 512
    seed: int = 0
    vision: Eyes = "none"

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "ffn", "vocabulary", "context"):
            check_whole(f"policy.scratch.{name}", getattr(self, name))
        if self.hidden % self.heads:
            raise ValueError(
                f"policy.scratch.hidden must be a multiple of its heads, got {self.hidden} and "
                f"{self.heads}"
            )

    def tokenizer(self) -> Any:
        """A copy of the tokenizer, which is trained once per process."""
        return copy.deepcopy(_tokenizer(self.vocabulary, self.vision))

    def sight(self, tokenizer: Any, max_pixels: int | None = None) -> Sight | None:
        """The model's eyes, None if it has none."""
        return None if self.vision == "none" else scratch_vision.sight(self, tokenizer, max_pixels)

    def model(self, tokenizer: Any, sight: Sight | None = None) -> Any:
        """The model with random weights, which depend on the seed alone. If it has eyes, it sees by
        `sight`, by default one of its own.
        """
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = self._made(tokenizer)
        model.sight = sight or self.sight(tokenizer)
        return model

    def _made(self, tokenizer: Any) -> Any:
        from transformers import Qwen2ForCausalLM

        if self.vision != "none":
            return scratch_vision.make(self, tokenizer)
        return Qwen2ForCausalLM(self.config(tokenizer))

    def config(self, tokenizer: Any) -> Any:
        """The config of the model."""
        from transformers import Qwen2Config

        if self.vision != "none":
            return scratch_vision.config_of(self, tokenizer)
        return Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=max(self.heads // 2, 1),
            intermediate_size=self.ffn,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            initializer_range=0.02,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )


@cache
def _tokenizer(vocabulary: int, eyes: Eyes) -> Any:
    """Qwen2's byte-level BPE (each digit is a token), trained on the embedded data: for a model
    with eyes also on the texts about drawings, and with the special tokens around images.

    Its class is Qwen2Tokenizer, because transformers loads the tokenizer of every Qwen2 folder with
    that class's rules for splitting text, whatever the folder's files say.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    from slm_math.data import arithmetic, shapes

    special = (*SPECIAL, *scratch_vision.marks(eyes)) if eyes != "none" else SPECIAL
    texts = arithmetic.corpus()
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = Qwen2Tokenizer().backend_tokenizer.normalizer
    bpe.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(chain(texts, shapes.corpus()) if eyes != "none" else texts, trainer)
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],  # type: ignore[arg-type]
        unk_token="<|pad|>",
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=[token for token in special[1:] if token != "<|end|>"],
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE if eyes == "none" else scratch_vision.template(eyes)
    return tokenizer
