"""Runs the project's own training code on tensors that have shapes and no numbers, and notes what
memory and time it would take: nothing is allocated, and nothing is computed.

Two decoder layers stand for all: of one of them it is noted what it adds.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from slm_math.planning.devices import Device

BESIDE = 32 << 20  # bytes; glibc takes larger blocks from the system, and gives them back
ATTENTION = {  # products, by name
    "_scaled_dot_product_flash_attention_for_cpu": 2,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 5,
}
LAYERS = 2  # of the network that is rehearsed; the second one stands for all others


@dataclass(frozen=True)
class Rehearsed:
    """What a piece of work takes.

    Args:
        bytes: the most memory at any time, above that at the beginning.
        seconds: the time.
        flops: operations of matrix products.
        cycled: bytes of all arrays that a layer's forward pass makes, but for large ones.
    """

    bytes: int
    seconds: float
    flops: float
    cycled: int


@dataclass(frozen=True)
class _Mark:
    """What was noted up to a moment."""

    now: int
    made: int
    seconds: float
    flops: float


class _Notes(TorchDispatchMode):
    """Follows the storages that live, and adds up what operations take."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        self.now = self.peak = self.made = 0
        self.seconds = self.flops = 0.0
        self._known: set[int] = set()

    def mark(self) -> _Mark:
        return _Mark(self.now, self.made, self.seconds, self.flops)

    def since(self) -> int:
        """The peak since this was last asked."""
        peak, self.peak = self.peak, self.now
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func.namespace == "prim":
            return made
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        results = [each for each in tree_leaves(made) if isinstance(each, Tensor)]
        before = {each.untyped_storage()._cdata for each in given}
        new = [each for each in results if each.untyped_storage()._cdata not in before]
        for each in new:
            self._add(each)
        is_view = not new and not func._schema.is_mutable
        if results and not is_view:
            flops = _flops(func, args, kwargs, made)
            moved = sum(map(_bytes, given)) + sum(map(_bytes, new))
            self.flops += flops
            self.seconds += self.device.seconds(flops, moved, results[0].dtype)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.made += size if size < BESIDE else 0
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _flops(func: Any, args: Any, kwargs: Any, made: Any) -> float:
    """Operations of matrix products. What torch does not count is attention on CPUs: two products
    forward and five backward, of queries (rows, heads, tokens, size) and as many keys.
    """
    count = flop_registry.get(func._overloadpacket)
    if count:
        return count(*args, **kwargs, out_val=made)
    name = func._schema.name.removeprefix("aten::")
    products = ATTENTION.get(name)
    if products is None:
        return 0
    query, key = args[1:3] if products > 2 else args[:2]  # backward, the gradient comes first
    return products * 2 * query.numel() * key.shape[-2]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextmanager
def shapes_only() -> Iterator[FakeTensorMode]:
    """Tensors that are made inside have shapes and no numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode


def rehearse(
    work: Callable[[], Any],
    layer: nn.Module,
    others: int,
    device: Device,
    gradients: int = 0,
) -> Rehearsed:
    """What `work` takes with a network in which `layer` stands once, and `others` times more.

    Args:
        work: forward passes, and perhaps a backward pass.
        layer: the last layer of the network.
        others: how many layers like it the network lacks.
        device: where it would run.
        gradients: bytes of the layer's gradients, if the backward pass makes them.
    """
    notes = _Notes(device)
    marks: dict[str, _Mark] = {}
    peaks: dict[str, int] = {}

    def mark(name: str, peak: str = "") -> None:
        if name not in marks:
            if peak:
                peaks[peak] = max(notes.since(), peaks.get(peak, 0))
            marks[name] = notes.mark()

    def enters(_: Any, given: tuple[Any, ...]) -> None:
        mark("enters")
        if given and given[0].requires_grad and "left" not in marks:
            given[0].register_hook(lambda _: mark("begun", "inside"))

    def leaves(_: Any, __: Any, made: Any) -> None:
        made = made[0] if isinstance(made, tuple) else made
        if made.requires_grad and "left" not in marks:
            made.register_hook(lambda _: mark("ended", "before"))
        mark("left")

    with ExitStack() as stack:
        stack.callback(layer.register_forward_pre_hook(enters).remove)
        stack.callback(layer.register_forward_hook(leaves).remove)
        stack.enter_context(notes)
        work()
    last = notes.since()
    end = notes.mark()
    none = _Mark(0, 0, 0.0, 0.0)
    forward, back = (marks.get("enters", none), marks.get("left", none)), (none, none)
    if "ended" in marks:
        back = (marks["ended"], marks.get("begun", end))
    saved = max(forward[1].now - forward[0].now, 0) if back[1] is not none else 0
    found = [
        peaks.get("before", 0) + others * saved,
        peaks.get("inside", 0) + others * max(saved, gradients),
        last + others * gradients if "ended" in marks else last,
    ]
    parts = (forward, back)
    return Rehearsed(
        bytes=max(found),
        seconds=end.seconds + others * sum(b.seconds - a.seconds for a, b in parts),
        flops=end.flops + others * sum(b.flops - a.flops for a, b in parts),
        cycled=forward[1].made - forward[0].made,
    )
