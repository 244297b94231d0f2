"""The embedded model: a small Qwen2 with random weights and a tokenizer trained on the embedded
data, made without downloads.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from slm_math.ranges import check_whole

SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Scratch:
    """A Qwen2 with random weights.

    Args:
        hidden: width.
        layers: decoder layers.
        heads: attention heads; two of them share a key-value head.
        ffn: width of the feed-forward layer.
        vocabulary: the most tokens of the vocabulary, bytes and special tokens included.
        context: the longest sequence in tokens.
        seed: seed of the random weights.
    """

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    ffn: int = 320
    vocabulary: int = 640
    context: int = 512
    seed: int = 0

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
        return copy.deepcopy(_tokenizer(self.vocabulary))

    def model(self, tokenizer: Any) -> Any:
        """The model with random weights, which depend on the seed alone."""
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        config = Qwen2Config(
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
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return Qwen2ForCausalLM(config)


@cache
def _tokenizer(vocabulary: int) -> Any:
    """Qwen2's byte-level BPE (each digit is a token), trained on the embedded data.

    Its class is Qwen2Tokenizer, because transformers loads the tokenizer of every Qwen2 folder with
    that class's rules for splitting text, whatever the folder's files say.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    from slm_math.data.arithmetic import corpus

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = Qwen2Tokenizer().backend_tokenizer.normalizer
    bpe.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],  # type: ignore[arg-type]
        unk_token="<|pad|>",
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[1:4]),
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
