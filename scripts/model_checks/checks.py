"""What is decoded and trained, against a plain forward pass of each row."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

import torch

from model_checks.models import Model, config_of, make
from slm_math.data.rows import Row
from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.architectures import check_computation, packs, reading_of
from slm_math.policy.batches import PLAIN, collate
from slm_math.policy.caches import RowCache, new_cache
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import check_model
from slm_math.types import Reply, Sampling, assistant, user

WITHIN = 1e-6  # nats


def requests(temperature: float) -> list[Request]:
    """Prompts of several lengths, some of them equal, with budgets of several lengths."""
    return [
        Request(
            user("Mina has beads. " * (1 + n % 3)),
            Sampling(temperature, max_new_tokens=2 + n * 5 % 9),
            key=(0, n),
        )
        for n in range(7)
    ]


def decode(model: Any, chat: ChatFormat, temperature: float) -> list[Reply]:
    """Replies of an engine that is given the last requests when the first have finished, and its
    replies to the next turns.
    """
    engine = TransformersEngine(model, chat, slots=4)
    asked = requests(temperature)
    first = _answered(engine, asked)
    turns = [
        replace(request, chat=(*request.chat, *assistant(reply), *user("Why?")), key=(1, n))
        for n, (request, reply) in enumerate(zip(asked, first))
    ]
    return first + _answered(engine, turns)


def _answered(engine: TransformersEngine, asked: list[Request]) -> list[Reply]:
    tickets = [engine.submit(request) for request in asked[:5]]
    replies: dict[int, Any] = dict(engine.poll())
    tickets += [engine.submit(request) for request in asked[5:]]
    while engine.busy:
        replies |= dict(engine.poll())
    return [replies[ticket] for ticket in tickets]


def plain_logprobs(model: Any, reply: Reply) -> torch.Tensor:
    """The log-probabilities of a reply's tokens, from a forward pass of its row alone."""
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    with torch.no_grad():
        logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    chosen = logprobs.gather(-1, ids[0, 1:, None])[:, 0].double()
    return chosen[len(reply.prompt_ids) - 1 :]


def check(model: Any, chat: ChatFormat) -> dict[str, str]:
    """What is wrong with a model, by kind of check; {} if nothing is."""
    wrong = {}
    others = 0
    for reply in decode(model, chat, 0.0):
        ids = torch.tensor([reply.prompt_ids])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=len(reply.token_ids),
        )
        others += tuple(made[0, ids.shape[1] :].tolist()) != reply.token_ids
    if others:
        wrong["greedy"] = f"{others} of 14 replies differ from generate"
    replies = decode(model, chat, 1.0)
    want = [plain_logprobs(model, reply) for reply in replies]
    gap = max(
        (torch.tensor(reply.logprobs, dtype=torch.float64) - own).abs().max().item()
        for reply, own in zip(replies, want)
    )
    if not gap <= WITHIN:
        wrong["sampled"] = f"recorded log-probabilities are off by {gap:.1e}"
    rows = [
        Row(
            ids=(*reply.prompt_ids, *reply.token_ids),
            mask=(0.0,) * len(reply.prompt_ids) + (1.0,) * len(reply.token_ids),
        )
        for reply in replies
    ]
    for kind, reading in (("training", PLAIN), ("packed", reading_of(model))):
        with torch.no_grad():
            trained = LoadedPolicy(model, {}).logprobs(collate(rows, reading=reading))[0]
        gap = (trained - torch.cat(want)).abs().max().item()
        if not gap <= WITHIN:
            wrong[kind] = f"log-probabilities are off by {gap:.1e}"
    return wrong


def refusal(model: Model, tokenizer: Any) -> str:
    """Why a model is refused before it is loaded, by its files; empty if it is not."""
    with tempfile.TemporaryDirectory() as folder:
        config_of(model, tokenizer).save_pretrained(folder)
        try:
            check_model(folder)
        except ValueError as error:
            return str(error).replace(folder, "MODEL")
    return ""


def outcome(model: Model, chat: ChatFormat) -> tuple[str, str]:
    """(the way a model is decoded, what is wrong)."""
    reason = refusal(model, chat.tokenizer)
    if reason or model.refused:
        right = model.refused and reason and "\n" not in reason
        return "refused", "" if right else f"refused: {reason or 'no'}"
    made = make(model, chat.tokenizer)
    wrong = {}
    try:
        check_computation("MODEL", made)  # decides whether the model packs
    except ValueError as error:
        wrong["probe"] = str(error)
    wrong |= check(made, chat)
    way = "batched" if isinstance(new_cache(made), RowCache) else "by length"
    way += ", packed" if packs(made) else ", padded"
    return way, "; ".join(f"{kind}: {text}" for kind, text in wrong.items())
