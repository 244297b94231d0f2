"""Losses against closed forms in float64."""

import math

import pytest
import torch

from slm_math.losses.advantages import group_advantages, spread
from slm_math.losses.logprobs import token_logprobs
from slm_math.losses.policy import Objective, k3, policy_loss, token_weights

NAN = float("nan")


def test_advantage_is_the_z_score_within_the_group() -> None:
    got = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64), eps=0.0)
    std = math.sqrt((0.75**2 + 3 * 0.25**2) / 3)
    assert torch.allclose(got, torch.tensor([[0.75, -0.25, -0.25, -0.25]], dtype=torch.float64) / std)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -2.0, 1e6])
def test_constant_group_has_exactly_no_advantage(value: float) -> None:
    rewards = torch.full((3, 7), value)
    assert torch.equal(group_advantages(rewards), torch.zeros(3, 7))
    assert not spread(rewards).any()


def test_missing_reward_neither_counts_nor_learns() -> None:
    got = group_advantages(torch.tensor([[1.0, NAN, 0.0]]), normalise=False)
    assert torch.allclose(got, torch.tensor([[0.5, 0.0, -0.5]]))


def test_group_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(torch.ones(4, 1))


# ratio, advantage -> loss and whether a gradient flows (clip 0.2 on both sides)
CLIP = [
    (1.0, 2.0, -2.0, True),
    (1.5, 2.0, -2.4, False),
    (0.5, 2.0, -1.0, True),
    (1.5, -2.0, 3.0, True),
    (0.5, -2.0, 1.6, False),
    (1.1, -2.0, 2.2, True),
]


@pytest.mark.parametrize(("ratio", "advantage", "expected", "flows"), CLIP)
def test_clip_table(ratio: float, advantage: float, expected: float, flows: bool) -> None:
    logps = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    loss, _ = policy_loss(logps, torch.zeros(1, dtype=torch.float64), advantage * one, one, Objective())
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(-ratio * advantage if flows else 0.0, abs=1e-12)


def test_k3_is_unbiased_for_kl_and_its_gradient_is_that_of_the_reversed_kl() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, dtype=torch.float64).log_softmax(-1)
    logps = logits.log_softmax(-1)
    probs = logps.exp()
    kl = (probs * (logps - reference)).sum()
    assert (probs * k3(logps, reference)).sum().item() == pytest.approx(kl.item(), abs=1e-12)
    surrogate = (probs.detach() * k3(logps, reference)).sum()  # what on-policy samples estimate
    [got] = torch.autograd.grad(surrogate, logits, retain_graph=True)
    [reversed_kl] = torch.autograd.grad((reference.exp() * (reference - logps)).sum(), logits)
    assert torch.allclose(got, reversed_kl, atol=1e-12)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_loss_does_not_depend_on_the_split(reduction: str) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 5, 2, 9])
    row = torch.repeat_interleave(torch.arange(4), lengths)
    values = torch.randn(17, dtype=torch.float64)
    total = 17 if reduction == "token" else 4
    whole = (token_weights(row, torch.ones(17, dtype=torch.float64), lengths, total, reduction) * values).sum()
    parts = 0.0
    for rows in ([0], [1, 3], [2]):
        pick = torch.isin(row, torch.tensor(rows))
        index = torch.searchsorted(torch.tensor(rows), row[pick])
        weights = token_weights(index, torch.ones(len(index)).double(), lengths[rows], total, reduction)
        parts += (weights * values[pick]).sum()
    expected = (
        values.mean()
        if reduction == "token"
        else torch.stack([p.mean() for p in values.split(lengths.tolist())]).mean()
    )
    assert whole.item() == pytest.approx(expected.item(), abs=1e-12)
    assert float(parts) == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("chunk", [3, 100])
def test_chunked_logprobs_equal_plain_ones(chunk: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, dtype=torch.float32, requires_grad=True)
    head = torch.nn.Linear(8, 50)
    targets = torch.randint(50, (11,))
    temperature = torch.linspace(0.5, 1.5, 11)
    plain = (head(hidden) / temperature[:, None]).log_softmax(-1)
    logps, entropy, hits = token_logprobs(hidden, head, targets, temperature, chunk=chunk)
    assert torch.allclose(logps, plain[torch.arange(11), targets], atol=1e-6)
    assert torch.allclose(entropy, -(plain.exp() * plain).sum(-1), atol=1e-5)
    assert torch.equal(hits, plain.argmax(-1) == targets)
    [want] = torch.autograd.grad(plain[torch.arange(11), targets].sum(), hidden, retain_graph=True)
    [got] = torch.autograd.grad(logps.sum(), hidden)
    assert torch.allclose(got, want, atol=1e-6)
