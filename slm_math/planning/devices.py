"""What a device can do: its memory, and how fast it computes. A CPU is measured, in a tenth of a
second; of GPUs there are the makers' figures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch

# (GB of memory, TB/s of its bandwidth, TFLOP/s of dense bfloat16 and of TF32), from NVIDIA's data
# sheets "H200 Tensor Core GPU", "H100 Tensor Core GPU" (SXM), "A100 80GB" (SXM) and "L40S", and the
# white paper "Ada GPU Architecture" for the GeForce RTX 4090 (with sums in 32 bits)
GPUS: Mapping[str, tuple[float, float, float, float]] = {
    "h200": (141, 4.8, 989, 494),
    "h100": (80, 3.35, 989, 494),
    "a100": (80, 2.039, 312, 156),
    "l40s": (48, 0.864, 362, 183),
    "4090": (24, 1.008, 165, 82.6),
}
DEVICES = ("cpu", *GPUS)
# assumed, not measured: which share of its peaks a GPU reaches, and the seconds that one operation
# takes at least
OF_PEAK, OF_BANDWIDTH, LAUNCH = 0.4, 0.7, 8e-6
SMALL = 100  # operations that are timed together
CONTEXT = 600 << 20  # bytes that CUDA and its libraries take on a GPU, assumed


@dataclass(frozen=True)
class Device:
    """A device.

    Args:
        name: as `--device` names it.
        memory: in bytes.
        flops: operations per second of matrix products, by the type of their numbers.
        bandwidth: bytes per second.
        overhead: seconds that an operation takes at least.
        measured: whether these speeds were measured, here and now.
    """

    name: str
    memory: int
    flops: Mapping[torch.dtype, float] = field(hash=False)
    bandwidth: float
    overhead: float
    measured: bool

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    def seconds(self, flops: float, moved: float, dtype: torch.dtype) -> float:
        """The time of an operation: of its arithmetic or of its bytes, whichever takes longer."""
        speed = self.flops.get(dtype) or self.flops[torch.float32]
        return max(flops / speed, moved / self.bandwidth) + self.overhead

    def __str__(self) -> str:
        speeds = ", ".join(
            f"{speed / 1e9:,.0f} GFLOP/s in {str(dtype).removeprefix('torch.')}"
            for dtype, speed in self.flops.items()
        )
        how = "measured here" if self.measured else "of the data sheet, never measured here"
        return f"{speeds}, {self.bandwidth / 1e9:,.0f} GB/s ({how})"


def device_named(name: str) -> Device:
    """The device of a name. Raises ValueError if there is none."""
    if name == "cpu":
        return this_cpu()
    if name not in GPUS:
        raise ValueError(f"--device {name}: it is one of {', '.join(DEVICES)}")
    memory, bandwidth, bfloat16, tf32 = GPUS[name]
    return Device(
        name=name,
        memory=int(memory * 1e9),
        flops={
            torch.bfloat16: OF_PEAK * bfloat16 * 1e12,
            torch.float32: OF_PEAK * tf32 * 1e12,  # which torch is told to use for 32 bits
        },
        bandwidth=OF_BANDWIDTH * bandwidth * 1e12,
        overhead=LAUNCH,
        measured=False,
    )


def here() -> str:
    """The name of the device that this machine trains on, as far as it is known."""
    if torch.cuda.is_available():
        card = torch.cuda.get_device_name().lower()
        return next((name for name in GPUS if name in card), "h100")
    return "cpu"


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def this_cpu() -> Device:
    """This machine's processor, with the threads that torch has now, by work as training does it:
    the three products of a linear layer, sums of large arrays, and the calls of small operations.
    """
    wide, other = torch.rand(1 << 22), torch.rand(1 << 22)
    return Device(
        name="cpu",
        memory=machine_memory(),
        flops={dtype: _products(dtype) for dtype in (torch.float32, torch.bfloat16)},
        bandwidth=3 * wide.nbytes / _usual(lambda: wide + other),
        overhead=_usual(_small_operations) / (2 * SMALL),
        measured=True,
    )


def _small_operations() -> None:
    """As many operations forward as backward, of next to no arithmetic."""
    first = made = torch.rand(8, requires_grad=True)
    for _ in range(SMALL):
        made = made + first
    made.sum().backward()


def _products(dtype: torch.dtype) -> float:
    """Operations per second of a linear layer's products, forward and backward."""
    rows, size = 1024, 256
    states, passed = torch.rand(rows, size, dtype=dtype), torch.rand(rows, size, dtype=dtype)
    weight = torch.rand(size, size, dtype=dtype)
    seconds = _usual(lambda: (states @ weight.T, passed @ weight, passed.T @ states))
    return 3 * 2 * rows * size**2 / seconds


def _usual(work: Callable[[], object]) -> float:
    """The seconds that something usually takes: the median of a few times."""
    work()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return max(median(seconds), 1e-9)
