"""Log-probabilities in chunks, against softmax and its derivative in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.logprobs import token_logprobs, tokens_at_once

Close = Callable[[Tensor | None, Any], None]

TOKENS, WIDTH, VOCABULARY = 11, 3, 7
CHUNKS = [1, 3, 4, 11, 100]


class Head:
    """A linear map that remembers how many tokens it was asked for."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.sizes: list[int] = []

    def __call__(self, hidden: Tensor) -> Tensor:
        self.sizes.append(len(hidden))
        return hidden @ self.weight.T


def problem(dtype: torch.dtype) -> tuple[Tensor, Head, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-16, 17, (TOKENS, WIDTH), generator=generator) / 16
    weight = torch.randint(-16, 17, (VOCABULARY, WIDTH), generator=generator) / 8
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    temperature = torch.tensor([0.5, 1.0, 2.0, 1.0] * 3)[:TOKENS]
    head = Head(weight.to(dtype).requires_grad_())
    return hidden.to(dtype).requires_grad_(), head, targets, temperature.to(dtype)


class Expected:
    """Softmax over the tokens that could be sampled at each position: values, and derivatives of
    two weighted sums.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: Tensor,
        kept: list[list[int]],
    ):
        self.logps, self.entropies, self.hits = [], [], []
        logp_slopes, entropy_slopes = [], []
        for m, (h, target, t) in enumerate(
            zip(hidden.tolist(), targets.tolist(), temperature.tolist())
        ):
            allowed = kept[m] or list(range(VOCABULARY))
            z = {v: sum(a * b for a, b in zip(h, weight.tolist()[v])) / t for v in allowed}
            total = sum(map(math.exp, z.values()))
            p = {v: math.exp(z[v]) / total for v in allowed}
            entropy = -sum(q * math.log(q) for q in p.values())
            self.logps.append(math.log(p[target]))
            self.entropies.append(entropy)
            self.hits.append(target == max(z, key=z.__getitem__))
            w = (1 + m) / 32  # another weight for each token
            blank = [0.0] * VOCABULARY
            first, second = list(blank), list(blank)
            for v, q in p.items():
                first[v] = w * ((v == target) - q) / t
                second[v] = -w * q * (math.log(q) + entropy) / t
            logp_slopes.append(first)
            entropy_slopes.append(second)
        self.weights = [(1 + m) / 32 for m in range(len(self.logps))]
        h, w = hidden.detach().double(), weight.detach().double()
        slopes = [torch.tensor(s, dtype=torch.float64) for s in (logp_slopes, entropy_slopes)]
        self.by_hidden = [s @ w for s in slopes]
        self.by_weight = [s.T @ h for s in slopes]


def support_of(kept: list[list[int]]) -> tuple[Tensor, Tensor]:
    starts = torch.tensor([0, *(len(ids) for ids in kept)]).cumsum(0)
    return starts, torch.tensor([v for ids in kept for v in ids], dtype=torch.long)


def kept_with(targets: Tensor) -> list[list[int]]:
    """From one token (the target) to all but one, in no order; nothing listed at positions 2, 5 and
    10.
    """
    kept = []
    for m, target in enumerate(targets.tolist()):
        others = [(target + 1 + 3 * k) % VOCABULARY for k in range(VOCABULARY - 1)]
        kept.append([] if m in (2, 5, 10) else [*others[: m % 6], target])
    return kept


EMPTY: list[list[int]] = [[]] * TOKENS


def check(dtype: torch.dtype, chunk: int, restricted: bool, close: Close) -> None:
    hidden, head, targets, temperature = problem(dtype)
    kept = kept_with(targets) if restricted else EMPTY
    want = Expected(hidden, head.weight, targets, temperature, kept)
    support = support_of(kept) if restricted else None
    logps, entropies, hits = token_logprobs(
        hidden, head, targets, temperature, "gradient", support, chunk
    )
    assert logps.dtype == entropies.dtype == dtype
    close(logps, want.logps)
    close(entropies, want.entropies)
    assert hits.tolist() == want.hits
    weights = torch.tensor(want.weights, dtype=dtype)
    for value, by_hidden, by_weight in zip((logps, entropies), want.by_hidden, want.by_weight):
        got = torch.autograd.grad((weights * value).sum(), (hidden, head.weight), retain_graph=True)
        close(got[0], by_hidden)
        close(got[1], by_weight)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_values_and_gradients_are_those_of_the_softmax(
    chunk: int, dtype: torch.dtype, close: Close
) -> None:
    check(dtype, chunk, False, close)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_support_renormalizes_values_and_gradients(
    chunk: int, dtype: torch.dtype, close: Close
) -> None:
    check(dtype, chunk, True, close)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_support_of_the_whole_vocabulary_changes_nothing(chunk: int, dtype: torch.dtype) -> None:
    hidden, head, targets, temperature = problem(dtype)
    plain = token_logprobs(hidden, head, targets, temperature, "value", None, chunk)
    whole = support_of([list(range(VOCABULARY))] * TOKENS)
    nothing = support_of(EMPTY)
    for support in (whole, nothing):
        for got, want in zip(
            token_logprobs(hidden, head, targets, temperature, "value", support, chunk), plain
        ):
            assert torch.equal(got, want)


def test_lone_supported_token_is_certain() -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    support = support_of([[v] for v in targets.tolist()])
    logps, entropies, hits = token_logprobs(hidden, head, targets, temperature, "gradient", support)
    assert not logps.any()
    assert not entropies.any()
    assert hits.all()
    for value in (logps, entropies):
        assert not torch.autograd.grad(value.sum(), hidden, retain_graph=True)[0].any()


def test_order_and_repetition_within_the_support_do_not_matter(close: Close) -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    kept = kept_with(targets)
    again = [list(reversed(ids)) + ids[:1] for ids in kept]
    got = token_logprobs(hidden, head, targets, temperature, "value", support_of(again), 4)
    for value, want in zip(
        got[:2], token_logprobs(hidden, head, targets, temperature, "value", support_of(kept), 4)
    ):
        close(value, want)


@pytest.mark.parametrize("entropy", ["nothing", "value"])
@pytest.mark.parametrize("chunk", [3, 100])
def test_entropy_without_a_gradient_has_none(entropy: str, chunk: int, close: Close) -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    want = Expected(hidden, head.weight, targets, temperature, EMPTY)
    logps, entropies, _ = token_logprobs(hidden, head, targets, temperature, entropy, None, chunk)  # type: ignore[arg-type]
    close(entropies, want.entropies if entropy == "value" else [0.0] * TOKENS)
    assert not entropies.requires_grad
    weights = torch.tensor(want.weights, dtype=torch.float64)
    close(torch.autograd.grad((weights * logps).sum(), hidden)[0], want.by_hidden[0])


@pytest.mark.parametrize(
    ("chunk", "forward"), [(3, [3, 3, 3, 2]), (4, [4, 4, 3]), (11, [11]), (12, [11])]
)
def test_logits_exist_for_one_chunk_at_a_time_and_are_recomputed(
    chunk: int, forward: list[int]
) -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    logps, _, _ = token_logprobs(hidden, head, targets, temperature, chunk=chunk)
    assert head.sizes == forward
    logps.sum().backward()
    assert sorted(head.sizes) == sorted(forward * (2 if len(forward) > 1 else 1))


def test_without_gradients_nothing_is_recomputed(close: Close) -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    with torch.no_grad():
        logps, entropies, _ = token_logprobs(
            hidden, head, targets, temperature, "gradient", None, 3
        )
    assert not logps.requires_grad
    assert not entropies.requires_grad
    close(logps, Expected(hidden, head.weight, targets, temperature, EMPTY).logps)


@pytest.mark.parametrize(
    "support", [None, (torch.zeros(1, dtype=torch.long), torch.zeros(0, dtype=torch.long))]
)
def test_no_tokens_give_no_values(support: tuple[Tensor, Tensor] | None) -> None:
    hidden, head, targets, temperature = problem(torch.float64)
    got = token_logprobs(hidden[:0], head, targets[:0], temperature[:0], "value", support, 3)
    assert [value.shape for value in got] == [(0,)] * 3


def test_half_precision_logits_are_normalized_in_float32() -> None:
    hidden, head, targets, temperature = problem(torch.float32)
    rounded = (hidden @ head.weight.T).bfloat16()
    logps, entropies, _ = token_logprobs(
        rounded, lambda hidden: hidden, targets, temperature, "value"
    )
    assert logps.dtype == entropies.dtype == torch.float32
    exact = rounded.double() / temperature[:, None].double()
    want = exact.log_softmax(-1)[torch.arange(TOKENS), targets]
    assert (logps.double() - want).abs().max().item() <= 1e-6


@pytest.mark.parametrize("support", [False, True])
def test_extreme_logits_keep_values_and_gradients_finite(support: bool, dtype: torch.dtype) -> None:
    logits = torch.tensor(
        [[1e4, -1e4, 0.0], [500.0, 500.0, -500.0]], dtype=dtype, requires_grad=True
    )
    kept = support_of([[0, 1], [0, 1]]) if support else None
    targets, temperature = torch.tensor([1, 0]), torch.ones(2, dtype=dtype)
    logps, entropies, _ = token_logprobs(
        logits, lambda x: x, targets, temperature, "gradient", kept
    )
    assert logps.tolist() == pytest.approx([-2e4, -math.log(2)], rel=1e-6)
    assert entropies.tolist() == pytest.approx([0.0, math.log(2)], rel=1e-6)
    assert torch.autograd.grad((logps + entropies).sum(), logits)[0].isfinite().all()


def test_excluded_tokens_have_exactly_no_gradient() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(TOKENS, VOCABULARY, generator=generator, requires_grad=True)
    targets = torch.arange(TOKENS) % VOCABULARY
    kept = kept_with(targets)
    temperature = torch.full((TOKENS,), 0.7)
    logps, entropies, _ = token_logprobs(
        logits, lambda x: x, targets, temperature, "gradient", support_of(kept), 4
    )
    (logps.sum() + entropies.sum()).backward()
    assert logits.grad is not None
    for m, ids in enumerate(kept):
        outside = [v for v in range(VOCABULARY) if ids and v not in ids]
        assert not logits.grad[m, outside].any()
        assert len(ids) == 1 or logits.grad[m].any()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("gib", "expected"),
    [(8, 220), (24, 220), (80, 552), (139, 959)],  # of 128 MiB, and of 1/256 of the memory
)
def test_larger_gpus_hold_more_logits_at_once(
    gib: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Properties:
        total_memory = gib << 30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert tokens_at_once(151_936, torch.device("cuda")) == expected
    assert tokens_at_once(151_936, torch.device("cpu")) == 220
    assert tokens_at_once(1 << 30, torch.device("cpu")) == 1
