"""Training that ends at every boundary between two steps, session after session, does what
uninterrupted training does: every step once, with equal weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from tiny import LORA, SCRATCH, Duo, Even, chats, difference, grpo, problems, sft, trainer, weights

from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy

# A rate that does not depend on the length of the run, as max_steps would set it.
CONSTANT = Optim(lr=1e-2, warmup=0, schedule="constant")


def solver_and_judge() -> Any:
    return grpo(
        Policy(scratch=SCRATCH, lora=LORA),
        agent=Duo(),
        rewards=[Even(), Even(role="judge")],
        train_roles=("solver", "judge"),
        passes=2,
        resample=1,
        group_size=2,
        optim=CONSTANT,
    )


KINDS: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "sft": (
        lambda: sft(Policy(scratch=SCRATCH, lora=LORA), optim=CONSTANT),
        lambda: chats(batch_size=4, limit=12),
    ),
    "grpo": (solver_and_judge, lambda: problems(batch_size=3, limit=9)),
}


class Diary(L.Callback):
    """What happens in all sessions, in order."""

    def __init__(self, entries: list[str]) -> None:
        self.entries = entries

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.entries.append(f"step {trainer.current_epoch}.{batch_idx}")

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.entries.append("validated")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.entries.append(f"end of epoch {trainer.current_epoch}")


class Kill(Checkpoint):
    """Ends a session at the second moment of a kind, as a kill would: without any farewell.

    It is a checkpoint callback, so that the one that saves comes before it.
    """

    def __init__(self, hook: str, number: int = 1) -> None:
        self.left = number
        setattr(self, hook, self._count)

    def _count(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            raise InterruptedError


def session(kind: str, root: Path, *callbacks: L.Callback, **options: Any) -> Any:
    L.seed_everything(5, verbose=False)
    module, data = (make() for make in KINDS[kind])
    saved = sorted(root.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    run = trainer(
        root, callbacks=list(callbacks), enable_checkpointing=True, **{"max_epochs": 2} | options
    )
    run.fit(module, data, ckpt_path=saved[-1] if saved else None)
    return module


def saver(root: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(root, save_top_k=-1, filename="{epoch}-{step}", **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, list[str]]]:
    """The weights and the diary of an uninterrupted run."""
    done: dict[str, tuple[Any, list[str]]] = {}

    def run(kind: str) -> tuple[Any, list[str]]:
        if kind not in done:
            entries: list[str] = []
            module = session(kind, tmp_path_factory.mktemp("straight"), Diary(entries))
            done[kind] = weights(module), entries
        return done[kind]

    return run


MOMENTS = {
    "before a step": ("on_train_batch_start", 2),
    "after a step": ("on_train_batch_end", 1),
    "before a validation": ("on_validation_start", 1),
    "after a validation": ("on_validation_end", 1),
    "at the end of an epoch": ("on_train_epoch_end", 1),
}


def sessions(kind: str, root: Path, hook: str, number: int) -> tuple[Any, list[str], int]:
    """Weights, diary and number of sessions that are killed at every such moment."""
    entries: list[str] = []
    for count in range(1, 20):
        try:
            callbacks = Diary(entries), saver(root, every_n_train_steps=1), Kill(hook, number)
            module = session(kind, root, *callbacks)
        except InterruptedError:
            continue
        return weights(module), entries, count
    raise AssertionError(f"no end: {entries}")


def steps(entries: list[str]) -> list[str]:
    return [entry for entry in entries if entry.startswith("step")]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_every_boundary_change_nothing(
    kind: str, moment: str, straight: Any, tmp_path: Path
) -> None:
    expected, diary = straight(kind)
    found, entries, count = sessions(kind, tmp_path, *MOMENTS[moment])
    print(count, entries)
    assert steps(entries) == steps(diary)
    assert difference(expected, found) == 0
