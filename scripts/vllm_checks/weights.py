"""New weights and adapters in a running engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from slm_math.engines.base import EngineError, Request, Weights
from slm_math.types import Reply, Sampling, user
from vllm_checks.subject import CONTEXT, NATS, Measurement, Subject, error_text, gap, requests


def updates(s: Subject) -> Iterator[Measurement]:
    """Ten in a row; the same prompts before and after, of which the long one fills whole blocks of
    the cache.
    """
    new, old, times, versions, unlike = [], [], [], 0, 0
    long = user("Mina has 4 beads and buys 3 more. " * 20)
    with s.restored():
        for _ in range(10):
            before = copy.deepcopy(s.model)
            s.perturb()
            times.append(s.send())
            asked = (
                requests(6, 12) + [Request(long, Sampling(max_new_tokens=8), key=(12, "long"))] * 2
            )
            replies = s.answers(asked)
            new.append(gap(s.model, *replies))
            old.append(min(gap(before, *replies[:6]), gap(before, *replies[6:])))
            versions += sum(reply.version != s.version for reply in replies)
            [best] = s.answers(requests(1, temperature=0.0))
            unlike += best.token_ids != s.greedy(best.prompt_ids, 5)
    yield Measurement("10 updates: from the new weights, max |d| (nats)", max(new), most=NATS)
    yield Measurement("10 updates: from the old weights, least (nats)", min(old), least=1e-3)
    yield Measurement("10 updates: greedy replies unlike `generate`", unlike, most=0)
    yield Measurement("10 updates: replies with another version", versions, most=0)
    yield Measurement("an update: median (ms)", sorted(times)[5])


def cached(s: Subject) -> Iterator[Measurement]:
    """A prompt cached under the old weights is computed again under the new ones."""
    text = "Mina has 4 beads and buys 3 more. "
    while len(s.chat.encode(user(text))) < CONTEXT - 60:
        text += "Then she gives 2 away. "
    asked = [Request(user(text), Sampling(max_new_tokens=12), key=(13, i)) for i in range(3)]
    first, second = s.answers(asked), s.answers(asked)
    with s.restored():
        before = copy.deepcopy(s.model)
        s.perturb()
        s.send()
        third = s.answers(asked)
        yield Measurement(
            "cached prompt: max |d| (nats)",
            max(gap(before, *first), gap(before, *second)),
            most=NATS,
        )
        yield Measurement(
            "cached prompt, new weights: max |d| (nats)", gap(s.model, *third), most=NATS
        )
        yield Measurement(
            "cached prompt: from the old weights (nats)", gap(before, *third), least=1e-3
        )


def failed(s: Subject) -> Iterator[Measurement]:
    """Weights of a wrong shape raise an error. Run it last: it leaves the engine unusable."""
    wrong = next(p for n, p in s.model.named_parameters() if n.endswith("down_proj.weight"))
    tensors = [(n, p[: len(p) // 2] if p is wrong else p) for n, p in s.model.named_parameters()]
    error: Exception | None = None
    try:
        s.engine.update(s.version + 1, Weights(tensors=lambda: tensors))
    except Exception as raised:
        error = raised
    fine = isinstance(error, EngineError) and len(str(error)) > 20
    yield Measurement(
        "a wrong shape ends in EngineError that says why",
        fine,
        least=1,
        error="" if fine else error_text(error),
    )
    after = 0.0
    with suppress(Exception):
        s.send()
        after = gap(s.model, *s.answers(requests(4), 30))
    yield Measurement(
        "then it answers from the next weights, or not at all: max |d| (nats)", after, most=NATS
    )


# adapters

ROLES = ("solver", "judge")


def with_adapters(model: Any) -> Any:
    """The model with a random adapter for each of two roles."""
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    config = LoraConfig(
        r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = get_peft_model(copy.deepcopy(model), config, adapter_name=ROLES[0])
        model.add_adapter(ROLES[1], config)
    return model.eval()


def send_adapters(s: Subject, folder: Path) -> None:
    """Saves the adapters with peft, one folder each."""
    s.version += 1
    root = folder / str(s.version)
    s.model.save_pretrained(root, selected_adapters=list(ROLES))
    folders: dict[str, Path | None] = {role: root / role for role in ROLES}
    s.engine.update(s.version, Weights(adapters=folders | {"critic": None}))


def _answered(s: Subject) -> int:
    """How many of the requests of a role that has no place among the adapters are answered."""
    try:
        return sum(isinstance(r, Reply) for r in s.answers(requests(2, 4, role="stranger")))
    except EngineError:
        return 0


def by_role(s: Subject, ask: str, *owners: str) -> list[float]:
    """How far replies that `ask` gets are from the log-probabilities of each owner's adapter."""
    replies = s.answers(requests(6, 14, role=ask))
    gaps = []
    for owner in owners:
        s.model.set_adapter(owner)
        gaps.append(gap(s.model, *replies))
    return gaps


def adapters(s: Subject, folder: Path) -> Iterator[Measurement]:
    send_adapters(s, folder)
    own, other = zip(
        by_role(s, "solver", "solver", "judge"), by_role(s, "judge", "judge", "solver")
    )
    yield Measurement("adapters: each role from its own, max |d| (nats)", max(own), most=1e-4)
    yield Measurement("adapters: from the other role's (nats)", min(other), least=1e-3)
    with s.model.disable_adapter():
        base = gap(s.model, *s.answers(requests(6, 14, role="judge")))
        plain = gap(s.model, *s.answers(requests(6, 14, role="critic")))
    yield Measurement("adapters: from the model without (nats)", base, least=1e-3)
    yield Measurement("adapters: a role without one, from that (nats)", plain, most=1e-4)
    yield Measurement("adapters: replies to a role that nobody named", _answered(s), most=0)
    solver = [reply.token_ids for reply in s.answers(requests(6, 14, role="solver"))]
    s.model.set_adapter("judge")
    before = copy.deepcopy(s.model)
    with torch.no_grad():
        for name, parameter in s.model.named_parameters():
            if ".judge." in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=s.noise)
    send_adapters(s, folder)
    replies = s.answers(requests(6, 14, role="judge"))
    yield Measurement("updated adapter: max |d| (nats)", gap(s.model, *replies), most=1e-4)
    yield Measurement("updated adapter: from what it was (nats)", gap(before, *replies), least=1e-3)
    yield Measurement(
        "updated adapter: replies with another version",
        sum(r.version != s.version for r in replies),
        most=0,
    )
    unlike = sum(
        r.token_ids != t for r, t in zip(s.answers(requests(6, 14, role="solver")), solver)
    )
    yield Measurement("updated adapter: the other role's replies that change", unlike, most=0)
    yield Measurement(
        "updated adapter: the other role's, max |d| (nats)",
        by_role(s, "solver", "solver")[0],
        most=1e-4,
    )


CHECKS = (updates, cached)
