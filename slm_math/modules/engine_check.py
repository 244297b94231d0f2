"""Whether an engine with a copy of the weights is the policy: it must compute the policy's
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from slm_math.engines.base import EngineError, Request
from slm_math.policy.batches import collate
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.views import drawing
from slm_math.rollout.rows import trace_rows
from slm_math.types import Generate, Image, Problem, Reply, Sampling, Trace, Turn, user

QUESTIONS = ("What is 17 + 25?", "Name a prime number.")
# the temperature is not 1: a server may leave it out of its log-probabilities
SAMPLING = Sampling(temperature=0.7, max_new_tokens=8)
# nats: fp32 engines agree to 1e-5 on a CPU, to TF32's 10 bits on a GPU; bf16 ones differ in single
# tokens, hardly on average
LARGEST_GAP = {"cpu": 1e-4, "cuda": 1e-2}
LARGEST_GAP_BF16 = 0.1


@dataclass(frozen=True)
class EngineCheck:
    """Compares an engine with the policy after every update of its weights.

    Args:
        loaded: the policy.
        roles: those that the policy serves, trained or frozen; each is compared.
        context: role -> what a forward pass of the trainer runs in.
        dtype: float32 or bfloat16, of the engine.
        device: where the policy is.
    """

    loaded: LoadedPolicy
    roles: Sequence[str]
    context: Callable[[str], AbstractContextManager[None]]
    dtype: str
    device: torch.device

    def gap(self, answer: Callable[[Request], Reply], step: int) -> float:
        """The largest (float32) or mean difference in nats between the log-probabilities of the
        engine's samples and the policy's. Raises EngineError where rounding does not explain it.
        """
        gap = max(self._gap(answer, role) for role in self.roles)
        largest = LARGEST_GAP_BF16
        if self.dtype == "float32":
            largest = LARGEST_GAP.get(self.device.type, 1e-2)
        if not gap <= largest:  # NaN is no agreement
            raise EngineError(
                f"after an update of its weights (step {step}) vLLM computes other "
                f"log-probabilities than the policy: they differ by {gap:.3g} nats, and rounding "
                f"explains {largest:g}. Nothing was trained on its samples. Check that servers "
                f"serve the policy's base model in {self.dtype}, or use engine transformers"
            )
        return gap

    @torch.no_grad()
    def _gap(self, answer: Callable[[Request], Reply], role: str) -> float:
        turns = []
        chats = [user(question) for question in QUESTIONS]
        if self.loaded.sight is not None:
            chats.append(user(QUESTIONS[0], [Image(drawing(self.loaded.sight.max_pixels))]))
        for number, chat in enumerate(chats):
            request = Request(chat, SAMPLING, key=("check", number), role=role)
            turns.append(Turn(Generate(chat, role), answer(request)))
        trace = Trace(Problem("check", ""), 0, tuple(turns), None)
        batch = collate(trace_rows(trace, role), self.device, self.loaded.reading)
        model = self.loaded.model
        training = model.training
        model.eval()
        try:
            with self.context(role):
                logprobs = self.loaded.logprobs(batch)[0]
        finally:
            model.train(training)
        gap = (logprobs - batch.sampling).abs()
        return (gap.max() if self.dtype == "float32" else gap.mean()).item()
