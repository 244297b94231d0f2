#!/usr/bin/env python3
"""Compares the rows of `Chats` with those of TRL 1.16's SFTTrainer: the same file of chats, the
same tokenizer, the same template.

    pip install ".[bench]"
    python scripts/check_chats.py

Chats of one and of several turns are written with `write_chats` (JSON Lines and Parquet), and as
prompt and completion with `completion_row`. TRL reads and tokenizes the files, and `ChatFormat` the
chats that `Chats` reads from them. Equal are the token ids up to the token that ends the last turn,
after which TRL's rows have the line break of the template, and the masks, which say what is
trained on. Then TRL's data set is written by the library `datasets`, and `Chats` reads it back.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset, disable_progress_bars, load_dataset
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

from slm_math.data import Chats
from slm_math.data.chat_forms import completion_row
from slm_math.data.chats import write_chats, write_rows
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.policy.templates import TEMPLATES
from slm_math.types import Chat, Text, assistant, system, user

IGNORED = -100  # the label of a token that is not trained on
WHOLE: list[Chat] = [
    user("What is 15 % of 80?") + assistant("0.15 * 80 = 12, so \\boxed{12}."),
    system("Be brief.") + user("3 + 4?") + assistant("\\boxed{7}"),
    user("2 * 3?") + assistant("It is 6.") + user("And 2 * 4?") + assistant("It is 8."),
    user(" blanks \n around ") + assistant(" kept? \n"),
]
LAST: list[Chat] = [
    *WHOLE[:2],
    user("2 * 3?") + assistant(Text("It is 5.", learn=False)) + user("No.") + assistant("6"),
]
# as Qwen2.5 writes it: with a system prompt of its own if there is none
SYSTEM = "You are a helpful assistant."
QWEN_LIKE = (
    "{% if messages[0]['role'] != 'system' %}"
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "{% endif %}" + TEMPLATES["chatml"]
)


def marked(template: str) -> str:
    """A template that tells transformers which text is the assistant's, for TRL's masks."""
    turn = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    own = (
        "{% if m['role'] == 'assistant' %}<|im_start|>assistant\n"
        "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}"
        "{% else %}" + turn + "{% endif %}"
    )
    assert turn in template
    return template.replace(turn, own)


def tokenizer_of(template: str) -> PreTrainedTokenizerBase:
    tokenizer = Scratch().tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = template
    return tokenizer


def by_trl(data: Dataset, template: str, folder: Path) -> list[tuple[list[int], list[int]]]:
    """Token ids and masks of the rows that TRL would train on."""
    completions = "completion" in data.column_names
    tokenizer = tokenizer_of(template if completions else marked(template))
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **size, **heads))
    options: dict[str, Any] = {"max_length": None, "report_to": "none", "use_cpu": True}
    if not completions:
        options["assistant_only_loss"] = True
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(folder / "trl"), **options),
        train_dataset=data,
        processing_class=tokenizer,
    )
    rows = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    return [(list(ids), [int(label != IGNORED) for label in labels]) for ids, labels in rows]


def by_us(chats: Sequence[Chat], template: str) -> list[tuple[list[int], list[int]]]:
    form = ChatFormat(tokenizer_of(template))
    rows = [row for chat in chats for row in form.dialogue(chat)]
    return [(ids, [int(weight) for weight in weights]) for ids, weights in rows]


def main() -> None:
    torch.manual_seed(0)
    disable_progress_bars()
    table = Table(title=f"chats read by slm-math and by TRL {trl.__version__}")
    for column in ("template", "form", "chats", "tokens", "trained on", "equal", "read back"):
        table.add_column(column)
    equal = True
    with tempfile.TemporaryDirectory() as name:
        for label, template in (("ChatML", TEMPLATES["chatml"]), ("Qwen2.5-like", QWEN_LIKE)):
            for form, kind in (
                ("messages", "jsonl"),
                ("messages", "parquet"),
                ("completion", "jsonl"),
            ):
                folder = Path(name) / label / form / kind
                row = compare(template, form, kind, folder)
                equal &= row[-1] == row[-2] == "yes"
                table.add_row(label, f"{form}, {kind}", *row)
    Console(width=100).print(table)
    sys.exit(not equal)


def compare(template: str, form: str, kind: str, folder: Path) -> list[str]:
    file, back = folder / f"chats.{kind}", folder / f"back.{kind}"
    if form == "messages":
        write_chats(WHOLE, file)
    else:
        write_rows(map(completion_row, LAST), file)
    data = load_dataset({"jsonl": "json"}.get(kind, kind), data_files=str(file), split="train")
    chats = Chats(str(file), validation=0).dialogues("train")
    ours, theirs = by_us(chats, template), by_trl(data, template, folder)
    same = len(ours) == len(theirs)
    for (ids, mask), (other_ids, other_mask) in zip(ours, theirs):
        same &= ids == other_ids[: len(ids)] and mask == other_mask[: len(mask)]
        same &= len(other_ids) - len(ids) <= 1  # the line break at the end
    data.to_json(str(back)) if kind == "jsonl" else data.to_parquet(str(back))
    again = Chats(str(back), validation=0).dialogues("train")
    counts = [len(ours), sum(len(ids) for ids, _ in ours), sum(sum(mask) for _, mask in ours)]
    return [*map(str, counts), "yes" if same else "NO", "yes" if again == chats else "NO"]


if __name__ == "__main__":
    main()
