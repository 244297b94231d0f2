"""Between the micro-batches of an update nothing waits for the device: nothing is read from it, and
nothing has a size that only it knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import chats, grpo, problems, sft, trainer
from torch.utils._python_dispatch import TorchDispatchMode

from slm_math.losses.objective import Objective
from slm_math.modules.teacher import Teacher
from slm_math.policy import transfer
from slm_math.types import Sampling

ATEN = torch.ops.aten
READS = (ATEN._local_scalar_dense, ATEN.is_nonzero, ATEN.equal, ATEN._unique2, ATEN.unique_dim)
UNKNOWN_SIZES = (ATEN.nonzero, ATEN.masked_select)
INDEXED = (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_)


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU; of this thread only, so what a thread
    collates ahead does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        packet, options = func.overloadpacket, kwargs or {}
        waits = packet in (*READS, *UNKNOWN_SIZES)
        if packet in INDEXED:
            waits = any(each is not None and each.dtype == torch.bool for each in args[1])
        if func is ATEN.repeat_interleave.Tensor:
            waits = options.get("output_size") is None
        if waits:
            self.found.append(str(func))
        return func(*args, **options)


SOME = Sampling(top_p=0.9, max_new_tokens=6)
ITSELF = Teacher(itself="reference", loss="jsd")
UPDATES: dict[str, dict[str, Any]] = {
    "dapo": {"objective": Objective(beta=0.05, entropy=0.01)},
    "gspo": {"objective": Objective("gspo", beta=0.05, mismatch="sequence"), "sampling": SOME},
    "sapo": {"objective": Objective("sapo", mismatch="geometric")},
    "teacher": {
        "teacher": Teacher(itself="reference", loss="jsd"),
        "rewards": [],
        "sampling": SOME,
    },
}


def waits_of(method: str, module: Any, data: Any, root: Path) -> tuple[list[str], int]:
    """The waits of a method in the second step of a run, and its micro-batches."""
    counted = Waits()
    micro = [0]
    steps = [0]
    original = getattr(module, method)

    def watched(*args: Any) -> Any:
        steps[0] += 1
        if steps[0] != 2:  # the first one compares the policy with its reference
            return original(*args)
        before = micro[0]
        with counted:
            result = original(*args)
        micro[0] -= before
        return result

    def progress(phase: str, done: int, total: int) -> None:
        micro[0] += phase in ("update", "reference")

    setattr(module, method, watched)
    module.on_progress = progress
    trainer(root, limit_train_batches=2).fit(module, data)
    return counted.found, micro[0]


@pytest.fixture(autouse=True)
def _in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "works_by_itself", lambda device: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_of_grpo_waits_once(name: str, tmp_path: Path) -> None:
    """For the norm of its gradient."""
    module = grpo(tokens_per_batch=100, **UPDATES[name])
    found, micro = waits_of("update", module, problems(), tmp_path)
    assert micro > 3
    assert found == ["aten._local_scalar_dense.default"]


def test_an_update_of_sft_waits_once(tmp_path: Path) -> None:
    module = sft(tokens_per_batch=64)
    found, micro = waits_of("training_step", module, chats(batch_size=16), tmp_path)
    assert micro > 3
    assert found == ["aten._local_scalar_dense.default"]


def test_the_reference_pass_never_waits(tmp_path: Path) -> None:
    """But for the number of tokens, which the CPU counts."""
    module = grpo(tokens_per_batch=100, objective=Objective(beta=0.05, kl_in="reward"))
    found, micro = waits_of("reference_logprobs", module, problems(), tmp_path)
    assert micro > 3
    assert len(found) <= 1
