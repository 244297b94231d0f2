"""The log-probabilities of rows under the reference.

Axes: N rows, M loss tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.policy import kl_estimate
from slm_math.policy.batches import collated, micro_batches, token_counts, token_indices
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.transfer import put


@torch.no_grad()
def reference_logprobs(
    loaded: LoadedPolicy,
    rows: Sequence[Row],
    tokens_per_batch: int,
    kl: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, Tensor]:
    """Runs the reference, and the policy if a KL estimate is needed, on rows.

    Args:
        loaded: the policy with its reference.
        rows: the N rows.
        tokens_per_batch: the most positions in one forward pass.
        kl: the KL estimator, see `kl_estimate`; None for none.
        progress: called with (micro-batches done, all micro-batches).

    Returns:
        The log-probabilities (M,) under the reference in nats, and for each row an estimate of
        KL(policy || reference) in nats, summed over its loss tokens (0 if `kl` is None): (N,)
        float64 on the CPU.
    """
    device = loaded.model.device
    logprobs = torch.zeros(int(token_counts(rows).sum()), device=device)
    sums = torch.zeros(len(rows), device=device)
    chunks = micro_batches(rows, tokens_per_batch, loaded.reading)
    batches = collated(rows, chunks, device, loaded.reading)

    def idle() -> None:
        loaded.idle(reference=True)
        if kl is not None:
            loaded.idle()

    for number, batch in enumerate(loaded.evened(batches, idle), 1):
        chunk = chunks[number - 1]
        own = loaded.logprobs(batch, reference=True, hits=False)[0]
        logprobs[put(token_indices(rows, chunk), device)] = own
        if kl is not None:
            # both log-probabilities come from the trainer, because the engine's rounding must not
            # count as divergence
            estimate = kl_estimate(loaded.logprobs(batch, hits=False)[0], own, kl)
            of_batch = torch.zeros(len(chunk), device=device)
            sums[put(torch.tensor(chunk), device)] = of_batch.index_add_(0, batch.row, estimate)
        progress(number, len(chunks))
    return logprobs, sums.to("cpu", torch.float64)
