"""What a teacher says, against formulas over the vocabulary in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from closeness import Close
from torch import Tensor

from slm_math.losses.distillation import (
    divergences,
    teacher_advantages,
    teacher_metrics,
    token_divergences,
)

KINDS = ["reverse_kl", "forward_kl", "jsd"]


def spelled_out(q: list[float], p: list[float], kind: str, share: float) -> float:
    """The definition, token by token; `q` and `p` are the probabilities of student and teacher."""

    def kl(one: list[float], other: list[float]) -> float:
        return math.fsum(a * math.log(a / b) for a, b in zip(one, other, strict=True) if a)

    if kind == "jsd":
        both = [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]
        return share * kl(p, both) + (1 - share) * kl(q, both)
    return kl(q, p) if kind == "reverse_kl" else kl(p, q)


def case(dtype: torch.dtype, tokens: int = 5, rows: int = 7) -> tuple[Tensor, ...]:
    """Hidden states and heads of a student and a wider teacher, and temperatures."""
    random = torch.Generator().manual_seed(0)
    sizes = ((tokens, 3), (rows, 3), (tokens, 4), (rows, 4))
    values = [torch.randn(size, generator=random, dtype=torch.float64).to(dtype) for size in sizes]
    return (*values, torch.tensor([0.5, 1.0, 2.0, 0.7, 1.3], dtype=dtype)[:tokens])


def linear_divergences(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    temperature: Tensor,
    **options: Any,
) -> Tensor:
    """The divergences of a student and a teacher, each of which is (hidden states, linear head)."""
    (hidden, head), (of_teacher, teacher_head) = student, teacher
    return token_divergences(
        (hidden, lambda states: states @ head.T),
        (of_teacher, lambda states: states @ teacher_head.T),
        temperature=temperature,
        **options,
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [2, 1024])
def test_divergence_is_its_definition_at_the_temperature_of_the_samples(
    kind: str, share: float, chunk: int, dtype: torch.dtype, close: Close
) -> None:
    hidden, head, of_teacher, teacher_head, temperature = case(dtype)
    student, teacher = (hidden, head), (of_teacher, teacher_head)
    got = linear_divergences(student, teacher, temperature, kind=kind, share=share, chunk=chunk)
    q = ((hidden @ head.T) / temperature[:, None]).double().softmax(-1).tolist()
    p = ((of_teacher @ teacher_head.T) / temperature[:, None]).double().softmax(-1).tolist()
    want = [spelled_out(a, b, kind, share) for a, b in zip(q, p, strict=True)]
    close(got, want)


# d divergence / d logits of the student, by hand
def gradient(q: Tensor, p: Tensor, kind: str, share: float) -> Tensor:
    if kind == "forward_kl":
        return q - p
    log = (q / p).log() if kind == "reverse_kl" else (q / (share * p + (1 - share) * q)).log()
    weight = 1.0 if kind == "reverse_kl" else 1 - share
    return weight * q * (log - (q * log).sum(-1, keepdim=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [2, 1024])
def test_gradient_is_that_of_the_student_alone(kind: str, chunk: int, close: Close) -> None:
    hidden, head, of_teacher, teacher_head, temperature = case(torch.float64)
    for tensor in (hidden, of_teacher, teacher_head):
        tensor.requires_grad_()
    student, teacher = (hidden, head), (of_teacher, teacher_head)
    got = linear_divergences(student, teacher, temperature, kind=kind, share=0.3, chunk=chunk)
    got.sum().backward()
    q = ((hidden @ head.T) / temperature[:, None]).softmax(-1)
    p = ((of_teacher @ teacher_head.T) / temperature[:, None]).softmax(-1)
    close(hidden.grad, (gradient(q, p, kind, 0.3) / temperature[:, None]) @ head)
    assert of_teacher.grad is None
    assert teacher_head.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_tokens_that_could_be_sampled_count(kind: str, close: Close) -> None:
    hidden, head, of_teacher, teacher_head, temperature = case(torch.float64, tokens=2)
    hidden.requires_grad_()
    # the first token could be one of three, the second any
    support = torch.tensor([0, 3, 3]), torch.tensor([0, 2, 5])
    student, teacher = (hidden, head), (of_teacher, teacher_head)
    got = linear_divergences(student, teacher, temperature, kind=kind, support=support, chunk=1)
    want = []
    for token, ids in enumerate([[0, 2, 5], list(range(7))]):
        q = ((hidden[token] @ head.T) / temperature[token])[ids].softmax(-1).tolist()
        p = ((of_teacher[token] @ teacher_head.T) / temperature[token])[ids].softmax(-1).tolist()
        want.append(spelled_out(q, p, kind, 0.5))
    close(got, want)
    got.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wider", ["student", "teacher"])
def test_rows_that_pad_one_of_the_heads_are_left_out(kind: str, wider: str, close: Close) -> None:
    hidden, head, of_teacher, teacher_head, temperature = case(torch.float64)
    cut = {"student": (7, 5), "teacher": (5, 7)}[wider]
    student, teacher = (hidden, head[: cut[0]]), (of_teacher, teacher_head[: cut[1]])
    got = linear_divergences(student, teacher, temperature, kind=kind)
    q = (hidden @ head[:5].T / temperature[:, None]).softmax(-1).tolist()
    p = (of_teacher @ teacher_head[:5].T / temperature[:, None]).softmax(-1).tolist()
    close(got, [spelled_out(a, b, kind, 0.5) for a, b in zip(q, p, strict=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_distributions_do_not_diverge(kind: str, close: Close) -> None:
    logps = torch.randn(4, 9, dtype=torch.float64).log_softmax(-1)
    close(divergences(logps, logps.clone(), kind), [0.0] * 4)  # type: ignore[arg-type]


def test_jsd_is_at_most_log_two_and_finite_where_nothing_is_shared(close: Close) -> None:
    q, p = torch.tensor([[0.0, -2000.0]]).double(), torch.tensor([[-2000.0, 0.0]]).double()
    close(divergences(q, p, "jsd"), [math.log(2)])


def test_advantage_is_the_log_ratio_and_follows_the_gradient_of_the_reverse_kl(
    close: Close,
) -> None:
    """The expected policy gradient over all tokens of the vocabulary, each by its probability."""
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    p = torch.randn(6, dtype=torch.float64).softmax(-1)
    logps = logits.log_softmax(-1)
    advantages = teacher_advantages(logps, p.log(), weight=0.7)
    close(advantages, [0.7 * math.log(b / math.exp(a)) for a, b in zip(logps.tolist(), p.tolist())])
    assert not advantages.requires_grad
    [policy] = torch.autograd.grad(-(logps.exp().detach() * advantages * logps).sum(), logits)
    q = logits.softmax(-1)
    [direct] = torch.autograd.grad(0.7 * (q * (q / p).log()).sum(), logits)
    close(policy, direct)


def test_token_that_nobody_scored_has_no_advantage_and_an_impossible_one_a_finite_one(
    close: Close,
) -> None:
    student = torch.tensor([-1.0, -2.0, -3.0]).double()
    teacher = torch.tensor([torch.nan, -torch.inf, -2.0]).double()
    close(teacher_advantages(student, teacher), [0.0, -48.0, 1.0])


def test_metrics_count_scored_tokens_that_are_trained_on(close: Close) -> None:
    nan = float("nan")
    found = teacher_metrics(
        student=torch.tensor([-1.0, -2.0, -3.0, -4.0]).double(),
        teacher=torch.tensor([-1.5, nan, -1.0, -9.0]).double(),
        likeliest=torch.tensor([1.0, 0.0, 0.0, 0.0]),
        live=torch.tensor([True, True, True, False]),
    )
    want = {"taught": 2, "teacher_kl": 0.5 - 2.0, "teacher_disagrees": 1, "teacher_gap_max": 2.0}
    assert found.keys() == want.keys()
    for name, value in want.items():
        close(found[name], value)
    nothing = torch.tensor([nan])
    none = teacher_metrics(nothing, nothing, nothing, torch.tensor([True]))
    sums = {"taught": 0, "teacher_kl": 0, "teacher_disagrees": 0, "teacher_gap_max": -torch.inf}
    assert {name: value.item() for name, value in none.items()} == sums
