"""Checks of vLLM in this process: start and end, and training with vLLM here or served."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from slm_math.engines.base import EngineError, Weights
from slm_math.engines.settings import Vllm
from slm_math.engines.vllm import VLLMEngine
from slm_math.policy.config import Lora, Policy
from vllm_checks.subject import (
    CONTEXT,
    NATS,
    SCRATCH,
    Measurement,
    Subject,
    error_text,
    gap,
    requests,
)

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
import tiny


def inside(folder: Path, **options: Any) -> VLLMEngine:
    """An engine whose weights can be updated; it starts with its first request."""
    engine = VLLMEngine(str(folder), "float32", slots=64, context=CONTEXT)
    engine.attach_policy(None, frozenset(), options, lambda: None)  # type: ignore[arg-type]
    return engine


def for_adapters(folder: Path) -> VLLMEngine:
    return inside(folder, enable_lora=True, max_loras=2, max_lora_rank=8)


def _states() -> list[Any]:
    kind, keys, *rest = np.random.get_state()
    return [
        random.getstate(),
        (kind, keys.tolist(), *rest),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
    ]


def start(s: Subject) -> Iterator[Measurement]:
    """Starting it, for the first time and again after `close`."""
    replies: list[list[Any]] = []
    changed = []
    for _ in range(2):
        before, asked = _states(), requests(6)
        tickets = [s.engine.submit(asked[0])]
        changed.append(sum(a != b for a, b in zip(before, _states())))
        tickets += [s.engine.submit(request) for request in asked[1:]]
        replies.append(s.collect(tickets))
        s.engine.close()
    yield Measurement("random states and thread counts that a start changes", changed[0], most=0)
    yield Measurement(
        "random states and thread counts that a second one changes", changed[1], most=0
    )
    unlike = sum(one.token_ids != two.token_ids for one, two in zip(*replies))
    yield Measurement("closed and started again: replies that change", unlike, most=0)
    model = copy.deepcopy(s.model)
    with s.restored():
        s.perturb()
        s.send()
        after = s.answers(requests(6))
        yield Measurement(
            "closed and started again: an update, max |d| (nats)", gap(s.model, *after), most=NATS
        )
        yield Measurement(
            "closed and started again: from the old weights (nats)", gap(model, *after), least=1e-3
        )


def company(s: Subject, folder: Path) -> Iterator[Measurement]:
    """Two engines in one process: closing one does not affect the other."""
    asked = requests(6)
    before = [reply.token_ids for reply in s.answers(asked)]
    other = Subject(inside(folder), s.model, s.tokenizer)
    unlike = sum(reply.token_ids != tokens for reply, tokens in zip(other.answers(asked), before))
    yield Measurement("a second engine: replies unlike the first one's", unlike, most=0)
    other.engine.close()
    unlike, error = len(asked), ""
    try:
        unlike = sum(reply.token_ids != tokens for reply, tokens in zip(s.answers(asked), before))
    except Exception as raised:
        error = error_text(raised)
    yield Measurement(
        "the second one closed: the first one's replies that change", unlike, most=0, error=error
    )


# training


class Seen(L.Callback):
    """What every step logs."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def module(
    lora: bool, policy: Policy | None = None, servers: Sequence[str] = (), lr: float = 1e-2
) -> Any:
    """GRPO of a tiny policy: all weights of one role, or an adapter for each of two."""
    options: dict[str, Any] = {}
    adapters = Lora(r=4, alpha=8, dropout=0.0) if lora else None
    if lora:
        options = {"agent": tiny.Duo(), "train_roles": ("solver", "judge")}
        options["rewards"] = [tiny.Even(), tiny.Even(role="judge")]
    if policy is None:
        policy = Policy(scratch=SCRATCH, lora=adapters)
    options |= {
        "engine": "vllm",
        "vllm": Vllm(tuple(servers)),
        "optim": tiny.Optim(lr=lr, warmup=0),
    }
    return tiny.grpo(policy, **options)


def training(
    root: Path, lora: bool, policy: Policy | None = None, servers: Sequence[str] = ()
) -> Iterator[Measurement]:
    """Two steps of training, after which the engine has received trained weights."""
    subject, seen = module(lora, policy, servers), Seen()
    run = tiny.trainer(root, limit_train_batches=2, callbacks=[seen])
    run.fit(subject, tiny.problems())
    kind = "adapters of two roles" if lora else "all weights"
    yield Measurement(f"GRPO, {kind}: steps", run.global_step, least=2, most=2)
    yield Measurement(
        f"GRPO, {kind}: engine_gap (nats)",
        max(s["train/engine_gap"] for s in seen.steps),
        most=1e-4,
    )
    yield Measurement(
        f"GRPO, {kind}: logp_diff, max (nats)",
        max(s["train/logp_diff_max"] for s in seen.steps),
        most=1e-4,
    )
    moved = min(s["train/grad_norm"] for s in seen.steps)
    yield Measurement(f"GRPO, {kind}: least gradient norm", moved, least=1e-6)


def corrupted(root: Path, after: int, lr: float = 1e-2) -> Iterator[Measurement]:
    """An engine that ignores all weight updates after the first `after`: training must stop."""
    load_weights, taken = VLLMEngine._load_weights, []

    def drops(self: VLLMEngine, weights: Weights) -> None:
        taken.append(weights)
        if len(taken) <= after:
            load_weights(self, weights)

    subject, raised = module(lora=False, lr=lr), ""
    run = tiny.trainer(root, limit_train_batches=after + 2)
    VLLMEngine._load_weights = drops  # type: ignore[method-assign]
    try:
        run.fit(subject, tiny.problems())
    except EngineError as error:
        raised = str(error)
    finally:
        VLLMEngine._load_weights = load_weights  # type: ignore[method-assign]
        subject.serving.close()
    what = f"updates lost after the first {after}, learning rate {lr:g}"
    yield Measurement(f"{what}: EngineError names the gap", "nats" in raised, least=1)
    yield Measurement(f"{what}: optimizer steps on them", run.global_step - after, most=0)
