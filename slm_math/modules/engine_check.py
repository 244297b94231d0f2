"""Whether an engine with a copy of the weights is the policy: it must compute the policy's
log-probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import torch

from slm_math.engines.base import EngineError, Request
from slm_math.policy.batches import collate
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.sight import Sight
from slm_math.policy.views import drawing
from slm_math.rollout.rows import trace_rows
from slm_math.types import Chat, Generate, Image, Problem, Reply, Sampling, Trace, Turn, user

QUESTIONS = ("What is 17 + 25?", "Name a prime number.")
# the temperature is not 1: a server may leave it out of its log-probabilities
SAMPLING = Sampling(temperature=0.7, max_new_tokens=8)
# nats: fp32 engines agree to 1e-5 on a CPU, to TF32's 10 bits on a GPU; bf16 ones differ in single
# tokens, hardly on average
LARGEST_GAP = {"cpu": 1e-4, "cuda": 1e-2}
LARGEST_GAP_BF16 = 0.1
# of the image that is compared; another limit of pixels than the policy's shows up to so many
MOST_PIXELS, LEAST_PIXELS = 1 << 20, 4900
# by what is asked: each role with what it said
Samples: TypeAlias = list[list[tuple[str, Trace]]]
ROOM = 256  # tokens of the context that are left for what stands around it


@dataclass(frozen=True)
class EngineCheck:
    """Compares an engine with the policy after every update of its weights.

    Args:
        loaded: the policy.
        roles: those that the policy serves, trained or frozen; each is compared.
        context: role -> what a forward pass of the trainer runs in.
        dtype: float32 or bfloat16, of the engine.
        device: where the policy is.
        longest: the most tokens of a prompt and its reply that the engine takes.
    """

    loaded: LoadedPolicy
    roles: Sequence[str]
    context: Callable[[str], AbstractContextManager[None]]
    dtype: str
    device: torch.device
    longest: int

    def gap(self, answer: Callable[[Request], Reply], step: int) -> float:
        """The `gap_of` of what an engine answers."""
        return self.gap_of(self.samples(answer), step)

    def samples(self, answer: Callable[[Request], Reply]) -> Samples:
        """What an engine answers, role by role: to questions, and to one about an image, if the
        policy sees.
        """
        chats = [[user(question) for question in QUESTIONS]]
        if self.loaded.sight is not None:
            chats.append([user(QUESTIONS[0], [self._image(self.loaded.sight)])])
        return [[(role, self._sample(answer, role, each)) for role in self.roles] for each in chats]

    def gap_of(self, samples: Samples, step: int) -> float:
        """The largest (float32) or mean difference in nats between the log-probabilities of the
        engine's samples and the policy's. Raises EngineError where rounding does not explain it.
        """
        sight = self.loaded.sight
        gaps = [max(self._gap_of(role, trace) for role, trace in each) for each in samples]
        largest = LARGEST_GAP_BF16
        if self.dtype == "float32":
            largest = LARGEST_GAP.get(self.device.type, 1e-2)
        wrong = [not gap <= largest for gap in gaps]  # NaN is no agreement
        if not any(wrong):
            return max(gaps)
        about, hint = "", f"Check that servers serve the policy's base model in {self.dtype}"
        if sight is not None and not wrong[0]:
            about = " about an image, and the same without one"
            hint = (
                "Its tower or its pixels are others: start servers with the policy's base model "
                f"and limit (--mm-processor-kwargs '{json.dumps(sight.settings)}'), and install "
                "torchvision for both sides or for none"
            )
        raise EngineError(
            f"after an update of its weights (step {step}) vLLM computes other log-probabilities "
            f"than the policy{about}: they differ by {gaps[wrong.index(True)]:.3g} nats, and "
            f"rounding explains {largest:g}. Nothing was trained on its samples. {hint}, or use "
            "engine transformers"
        )

    def _image(self, sight: Sight) -> Image:
        """An image with more pixels than the policy sees, if the engine takes so many."""
        pixels = min(sight.max_pixels or MOST_PIXELS, MOST_PIXELS)
        while True:
            image = Image(drawing(pixels))
            if pixels <= LEAST_PIXELS or sight.extent([image]).extra + ROOM <= self.longest:
                return image
            pixels = max(pixels // 2, LEAST_PIXELS)

    def _sample(
        self, answer: Callable[[Request], Reply], role: str, chats: Sequence[Chat]
    ) -> Trace:
        turns = []
        for number, chat in enumerate(chats):
            request = Request(chat, SAMPLING, key=("check", number), role=role)
            turns.append(Turn(Generate(chat, role), answer(request)))
        return Trace(Problem("check", ""), 0, tuple(turns), None)

    @torch.no_grad()
    def _gap_of(self, role: str, trace: Trace) -> float:
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
