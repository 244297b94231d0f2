"""What a teacher says of a student's own tokens, as an advantage or as a divergence in the loss.

Axes: M loss tokens, V tokens of the vocabulary. P is the teacher's distribution of a token, Q the
student's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from slm_math.losses.logprobs import Support, in_chunks, outside_of, scaled_logits

Divergence = Literal["reverse_kl", "forward_kl", "jsd"]
LOWEST = (
    -50.0
)  # nats; a token that is less likely than this says no more, and infinite says nothing


def teacher_advantages(student: Tensor, teacher: Tensor, weight: float = 1.0) -> Tensor:
    """Log-probabilities (M,) of the sampled tokens in nats -> advantages (M,) = weight * (log P -
    log Q).

    Its expectation over samples of Q is -weight * KL(Q || P), and the policy gradient with it that
    of -weight * KL(Q || P) for each token by itself: what a token does to later ones is not
    counted (Lu & Thinking Machines Lab 2025, "On-policy distillation"). NaN marks a token that the
    teacher did not score, which gets 0. log P counts from -50 nats on. No gradient flows.
    """
    gap = teacher.clamp(min=LOWEST).to(student.dtype) - student.detach()
    return torch.where(teacher.isnan(), 0.0, weight * gap)


def teacher_metrics(
    student: Tensor, teacher: Tensor, likeliest: Tensor, live: Tensor
) -> dict[str, Tensor]:
    """Sums over the live tokens that the teacher scored, and the largest difference (-inf if it
    scored none).

    Args:
        student: (M,) log-probabilities of the sampled tokens in nats.
        teacher: (M,) the teacher's, NaN where it did not score.
        likeliest: (M,) 1 where the token is the teacher's likeliest.
        live: (M,) what counts.

    `teacher_kl` is log Q - log P, an unbiased estimate of KL(Q || P) of a token from one sample;
    `teacher_disagrees` counts tokens that the teacher would not have chosen.
    """
    taught = live & ~teacher.isnan()
    gap = torch.where(taught, student.detach() - teacher.clamp(min=LOWEST), 0.0)
    sums = {
        "taught": taught.sum(),
        "teacher_kl": gap.sum(),
        "teacher_disagrees": torch.where(taught, 1 - likeliest, 0.0).sum(),
    }
    if not len(gap):
        return sums
    # infinite if there are none, since to ask would stop the device
    return sums | {"teacher_gap_max": torch.where(taught, gap.abs(), -torch.inf).amax()}


def divergences(student: Tensor, teacher: Tensor, kind: Divergence, share: float = 0.5) -> Tensor:
    """Log-probabilities (M, V) in nats -> the divergence (M,) of P and Q in nats.

    - "reverse_kl": KL(Q || P), which seeks a mode of the teacher;
    - "forward_kl": KL(P || Q), which covers all that the teacher does;
    - "jsd": share * KL(P || B) + (1 - share) * KL(Q || B) with B = share * P + (1 - share) * Q, in
      [0, log 2] nats (generalized Jensen-Shannon divergence).

    -inf marks a token that neither can give (outside of the support): it counts nowhere. Source:
    Agarwal et al. 2024, "On-policy distillation of language models: learning from self-generated
    mistakes", section 2 and eq. 1; as there, no gradient flows through the sampling.
    """
    q, p = student.exp(), teacher.exp()
    # 0 * inf has no gradient
    log_q = student.masked_fill(student == -torch.inf, 0.0)
    log_p = teacher.masked_fill(teacher == -torch.inf, 0.0)
    if kind == "reverse_kl":
        return (q * (log_q - log_p)).sum(-1)
    if kind == "forward_kl":
        return (p * (log_p - log_q)).sum(-1)
    both = torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))
    of_p, of_q = (p * (log_p - both)).sum(-1), (q * (log_q - both)).sum(-1)
    return share * of_p + (1 - share) * of_q


def token_divergences(
    student: tuple[Tensor, Callable[[Tensor], Tensor]],
    teacher: tuple[Tensor, Callable[[Tensor], Tensor]],
    temperature: Tensor,
    kind: Divergence,
    share: float = 0.5,
    support: Support | None = None,
    chunk: int = 1024,
) -> Tensor:
    """Hidden states (M, H) and head of both, temperature (M,) -> `divergences` (M,), with the
    student's gradient.

    Both distributions are those at the temperature of the samples, among the tokens that could be
    sampled (see `token_logprobs`). Logits exist for `chunk` tokens at a time. Where one of the two
    heads has more rows than the other, which pads the vocabulary, those rows are left out.
    """
    (hidden, head), (of_teacher, teacher_head) = student, teacher

    def piece(
        hidden: Tensor, of_teacher: Tensor, temperature: Tensor, support: Support | None
    ) -> tuple[Tensor]:
        with torch.no_grad():
            logits = scaled_logits(teacher_head(of_teacher), temperature)
        own = scaled_logits(head(hidden), temperature)
        outside = None if support is None else outside_of(support, own)
        width = min(own.shape[1], logits.shape[1])
        own, logits = own[:, :width], logits[:, :width]
        if outside is not None:
            own, logits = (
                each.masked_fill(outside[:, :width], -torch.inf) for each in (own, logits)
            )
        return (divergences(own.log_softmax(-1), logits.log_softmax(-1), kind, share),)

    [found] = in_chunks(piece, (hidden, of_teacher, temperature), support=support, chunk=chunk)
    return found
