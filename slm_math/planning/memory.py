"""How many bytes what stays in memory takes, and the cache of decoding: closed formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slm_math.engines.transformers import SHARE, SLOTS
from slm_math.planning.network import NF4, Sizes
from slm_math.planning.workload import Decoded
from slm_math.policy.slots import SHORTEST, rounded

# what a reference is: the model without its adapters, copies of them, or a copy of the model
ReferenceKind = Literal["none", "base", "copies", "model"]


@dataclass(frozen=True)
class Resident:
    """Bytes that stay in memory.

    Args:
        weights: of the policy, with the fp32 masters of bfloat16 weights.
        reference: of its reference.
        teacher: of a teacher's own copy.
        moments: of the optimizer, from the first step on.
        gradients: of all trained weights.
    """

    weights: int
    reference: int
    teacher: int
    moments: int
    gradients: int

    @property
    def networks(self) -> int:
        return self.weights + self.reference + self.teacher


def resident_bytes(
    sizes: Sizes,
    rounded: bool,
    quantized: bool,
    optimizer: str,
    reference: ReferenceKind,
    teacher: int = 0,
) -> Resident:
    """What stays in memory.

    Args:
        sizes: of the network.
        rounded: whether weights are bfloat16, with masters of those that are trained.
        quantized: whether the frozen matrices are in 4 bits.
        optimizer: its kind.
        reference: what the reference is.
        teacher: bytes of a teacher's weights.
    """
    each = 2 if rounded else 4
    weights = each * sizes.weights + (4 * sizes.trained if rounded else 0)
    if quantized:
        weights = int(NF4 * sizes.matrices) + 4 * (sizes.weights - sizes.matrices)
    copies = {"model": each * sizes.weights, "copies": each * sizes.trained}
    # Adam has two numbers for each weight, Muon one for those of its matrices
    moments = 8 * sizes.trained - (4 * sizes.orthogonal if optimizer == "muon" else 0)
    return Resident(
        weights, copies.get(reference, 0), teacher, moments, gradients=4 * sizes.trained
    )


def muon_bytes(sizes: Sizes) -> int:
    """What an update of Muon takes for its largest matrix: copies that it turns, and products."""
    return 5 * 4 * sizes.largest


def running(decoded: Decoded, token: int, memory: int) -> int:
    """Requests that are decoded at once: those asked for, or as many as there is room for.

    Args:
        decoded: the requests.
        token: bytes of a token's keys and values.
        memory: of the device.
    """
    if decoded.slots is not None:
        return min(decoded.requests, decoded.slots)
    longest = 2 * decoded.sampling.max_new_tokens
    return min(decoded.requests, max(memory // SHARE // (token * longest), SLOTS))


def cache_bytes(
    decoded: Decoded, token: int, memory: int, context: int, captured: bool = False
) -> int:
    """The most that keys and values take: buffers with room for more positions, and those of
    requests that ended, which are kept for prompts that begin alike.

    Args:
        decoded: the requests.
        token: bytes of a token's keys and values.
        memory: of the device.
        context: the most positions of a sequence.
        captured: whether decoding steps are captured, see `slot_bytes`.
    """
    rows, length = running(decoded, token, memory), _length(decoded, context)
    buffers = slot_bytes(decoded, token, memory, context) if captured else 0
    if not buffers:
        buffers = rows * width(max(decoded.prompts), length) * token
    ended = (decoded.requests - rows) * length * token
    return buffers + min(ended, memory // SHARE)


def slot_bytes(decoded: Decoded, token: int, memory: int, context: int) -> int:
    """What the buffers of captured decoding steps take, during updates, too (see `policy.slots`); 0
    where they are too large to be captured.
    """
    rows, length = running(decoded, token, memory), _length(decoded, context)
    made = rounded(rows) * rounded(length, SHORTEST) * token
    return made if made <= memory // SHARE else 0


def _length(decoded: Decoded, context: int) -> int:
    """The most positions of a request."""
    return min(max(decoded.prompts) + decoded.sampling.max_new_tokens, context)


def width(prompt: int, length: int) -> int:
    """The positions of the buffers when sequences have grown from a prompt to a length (see
    `policy.caches`).
    """
    room = prompt
    while room < length:
        room += 1 + max(32, room // 2)
    return room


def logits_bytes(rows: int, vocabulary: int, temperatures: Mapping[float, object]) -> int:
    """What the choice of a token takes: logits, their probabilities, and scaled ones in between if
    a temperature is neither 0 nor 1.
    """
    arrays = 2 if set(temperatures) <= {0.0, 1.0} else 3
    return arrays * rows * vocabulary * 4
