#!/usr/bin/env python3
"""Measure the CPU time of rollouts on one thread: this project's engine and transformers'
`generate`.

    pip install ".[bench]"
    python scripts/bench_rollout.py [--repeats 5] [--only "smollm2 ragged"] [--out FILE.json]

Both sample from the same model with random weights, 8 replies to each of 8 prompts of 24 to 40
tokens, in turn, in one process; `generate` in one batch, padded on the left. Replies have the same
lengths on both sides: all 64 tokens, or lognormal ones (mean about 34, at most 99). The ratio of
the medians has a 95 % bootstrap interval. The greedy replies of both are compared, too.

The rows `turns` compare four turns of a conversation with one whose prompt and reply are as long as
all new messages and all replies of the four.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from benching import Endless, options, ratio, report
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Chat, Reply, Sampling, assistant, user

P, G, FIXED, LONGEST, TURNS = 8, 8, 64, 99, 4
SIZES = {
    "1.2M": Scratch(hidden=128, layers=4, ffn=600, vocabulary=1024, context=1024),
    "3M": Scratch(hidden=256, layers=4, ffn=640, vocabulary=512, context=1024),
}


class Lengths(StoppingCriteria):
    """Ends each row at a length of its own."""

    def __init__(self, prompt: int, lengths: Sequence[int]) -> None:
        self.ends = torch.tensor(lengths) + prompt

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        return input_ids.shape[1] >= self.ends


def smollm2() -> Any:
    """A model with the shapes of SmolLM2-135M."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def texts(draw: random.Random) -> list[str]:
    return ["".join(draw.choices("0123456789", k=draw.randint(20, 36))) for _ in range(P)]


def lengths(draw: random.Random, ragged: bool) -> list[int]:
    if not ragged:
        return [FIXED] * (P * G)
    return [min(max(int(draw.lognormvariate(3.25, 0.75)), 1), LONGEST) for _ in range(P * G)]


def ours(
    engine: TransformersEngine, chats: Sequence[Chat], wanted: Sequence[int], greedy: bool = False
) -> list[Reply]:
    engine.update(engine.version + 1)  # nothing is known of an earlier repeat
    return _asked(engine, chats, wanted, greedy)


def _asked(
    engine: TransformersEngine, chats: Sequence[Chat], wanted: Sequence[int], greedy: bool
) -> list[Reply]:
    tickets = [
        engine.submit(Request(chat, Sampling(float(not greedy), max_new_tokens=n), key=(place,)))
        for place, (chat, n) in enumerate(zip(chats, wanted, strict=True))
    ]
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll(60))
    return [found[ticket] for ticket in tickets]


@torch.no_grad()
def theirs(
    model: Any, prompts: Sequence[Sequence[int]], wanted: Sequence[int], greedy: bool = False
) -> list[tuple[int, ...]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    made = model.generate(
        ids,
        attention_mask=mask,
        do_sample=not greedy,
        **({} if greedy else {"top_k": 0}),
        max_new_tokens=max(wanted),
        eos_token_id=None,
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([Lengths(width, wanted)]),
    )
    return [tuple(row[width : width + n].tolist()) for row, n in zip(made, wanted)]


def turns(engine: TransformersEngine, questions: Sequence[str], split: bool) -> None:
    """Four turns of each conversation, or one as long as the four."""
    engine.update(engine.version + 1)
    number = TURNS if split else 1
    chats: list[Chat] = [()] * len(questions)
    for _ in range(number):
        text = 1 if split else TURNS
        asked = [(*chat, *user(question * text)) for chat, question in zip(chats, questions)]
        replies = _asked(engine, asked, [FIXED * text] * len(asked), greedy=False)
        chats = [(*chat, *assistant(reply)) for chat, reply in zip(asked, replies)]


def timed(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of both sides, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
        print({name: round(each[-1], 2) for name, each in seconds.items()}, file=sys.stderr)
    return seconds


def measure(size: str, kind: str, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    scratch = SIZES.get(size, SIZES["1.2M"])
    tokenizer = scratch.tokenizer()
    torch.manual_seed(0)
    model = (scratch.model(tokenizer) if size in SIZES else smollm2()).eval()
    chat = ChatFormat(tokenizer)
    engine = Endless(model, chat, slots=None)
    draw = random.Random(0)
    questions = texts(draw)
    row: dict[str, Any] = {"model": size, "replies": kind}
    warm = [user(questions[0])]
    ours(engine, warm, [2])
    theirs(model, [chat.encode(warm[0])], [2])
    if kind == "turns":
        seconds = timed(
            {
                "ours": lambda: turns(engine, questions * G, split=True),
                "peer": lambda: turns(engine, questions * G, split=False),
            },
            repeats,
        )
        tokens = P * G * FIXED * TURNS
    else:
        wanted = lengths(draw, kind == "ragged")
        chats = [user(text) for text in questions for _ in range(G)]
        prompts = [chat.encode(each) for each in chats]
        seconds = timed(
            {
                "ours": lambda: ours(engine, chats, wanted),
                "peer": lambda: theirs(model, prompts, wanted),
            },
            repeats,
        )
        tokens = sum(wanted)
        few = slice(0, P * G, G)
        replies = ours(engine, chats[few], wanted[few], greedy=True)
        want = theirs(model, prompts[few], wanted[few], greedy=True)
        row["greedy"] = sum(own.token_ids == other for own, other in zip(replies, want))
    found = ratio(seconds["peer"], seconds["ours"])
    if kind == "turns":
        found = ratio(seconds["ours"], seconds["peer"])
    for name, each in seconds.items():
        row[name] = f"{tokens / statistics.median(each):.0f}"
    row |= {"ratio [95 %]": str(found), "n": len(seconds["ours"])}
    return {"greedy": "-"} | row | {"seconds": seconds, "interval": found, "tokens": tokens}


def main() -> None:
    parser = options(__doc__, "repeats", 5, measured="measured runs of each side")
    parser.add_argument("--only", default="", help="rows that contain this text: '1.2M ragged'")
    args = parser.parse_args()
    if find_spec("trl") is None:  # the report names its version
        sys.exit('TRL is not installed: pip install ".[bench]"')
    torch.set_num_threads(1)
    rows = [
        measure(size, kind, args.repeats)
        for size in (*SIZES, "smollm2")
        for kind in ("fixed", "ragged", "turns")
        if args.only in f"{size} {kind}"
    ]
    print("tokens of replies per CPU second; ratio: ours to generate's (turns: cost of four turns")
    print(f"to that of one as long); greedy: replies of {P} that are equal")
    shown = ("model", "replies", "ours", "peer", "ratio [95 %]", "n", "greedy")
    report(rows, shown, args.out)


if __name__ == "__main__":
    main()
