"""Training that ends at every boundary between two steps, session after session, does what
uninterrupted training does: every step once, with equal weights.
"""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, Timer
from tiny import LORA, SCRATCH, Duo, Even, chats, difference, grpo, problems, sft, trainer, weights

from slm_math.callbacks import StopReason
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
        lambda: chats(batch_size=4, limit=8),
    ),
    "grpo": (solver_and_judge, lambda: problems(batch_size=3, limit=6)),
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
        self.entries.append(f"validated after {trainer.fit_loop.total_batch_idx}")

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
        root, callbacks=list(callbacks), enable_checkpointing=True, **{"max_epochs": 3} | options
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
    "after two steps": ("on_train_batch_end", 2),
    "before a validation": ("on_validation_start", 2),
    "after a validation": ("on_validation_end", 2),
    "at the end of an epoch": ("on_train_epoch_end", 1),
}


def sessions(
    kind: str, root: Path, kill: tuple[str, int], **options: Any
) -> tuple[Any, list[str], int]:
    """Weights, diary and number of sessions that are killed at every such moment."""
    entries: list[str] = []
    for count in range(1, 20):
        savers = saver(root, every_n_train_steps=1), saver(root, save_on_train_epoch_end=True)
        try:
            module = session(kind, root, Diary(entries), *savers, Kill(*kill), **options)
        except InterruptedError:
            continue
        return weights(module), entries, count
    raise AssertionError(f"no end: {entries}")


def steps(entries: list[str]) -> list[str]:
    return [entry for entry in entries if entry.startswith("step")]


# SFT's own are those of other epochs and of limits, below
@pytest.mark.parametrize(
    ("kind", "moment"), some(product(KINDS, MOMENTS), [("grpo", "after a step")])
)
def test_kills_at_every_boundary_change_nothing(
    kind: str, moment: str, straight: Any, tmp_path: Path
) -> None:
    expected, diary = straight(kind)
    found, entries, count = sessions(kind, tmp_path, MOMENTS[moment])
    assert count > 2
    assert steps(entries) == steps(diary)  # each once
    assert list(dict.fromkeys(entries)) == diary  # what ends an epoch may be repeated
    assert difference(expected, found) == 0


EPOCHS: dict[str, dict[str, Any]] = {
    "short, by number": {"limit_train_batches": 1},
    "short, by share": {"limit_train_batches": 0.5},
    "validated twice": {"val_check_interval": 0.5},
    "every second one validated": {"check_val_every_n_epoch": 2},
    "validated by steps": {"check_val_every_n_epoch": None, "val_check_interval": 3},
    "never validated": {"limit_val_batches": 0},
    "with a new loader": {"reload_dataloaders_every_n_epochs": 1},
    "counted in steps": {"max_steps": 99},
}


@pytest.mark.parametrize(
    ("epochs", "moment"),
    some(
        product(EPOCHS, ("after a step", "after two steps")),
        [("with a new loader", "after two steps")],
    ),
)
def test_kills_in_epochs_of_any_kind_change_nothing(
    epochs: str, moment: str, tmp_path: Path
) -> None:
    diary: list[str] = []
    expected = weights(session("sft", tmp_path / "one", Diary(diary), **EPOCHS[epochs]))
    found, entries, _ = sessions("sft", tmp_path / "two", MOMENTS[moment], **EPOCHS[epochs])
    assert steps(entries) == steps(diary)
    assert list(dict.fromkeys(entries)) == diary
    assert difference(expected, found) == 0


class Stop(L.Callback):
    """Stops after so many steps, as a limit of time does."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        trainer.should_stop = trainer.should_stop or not self.left


def by_time(number: int) -> tuple[list[L.Callback], dict[str, Any]]:
    return [Stop(1)], {}


def by_steps(number: int) -> tuple[list[L.Callback], dict[str, Any]]:
    return [], {"max_steps": number}


@pytest.mark.parametrize("limit", [by_time, by_steps])
def test_limits_inside_an_epoch_lose_nothing(
    limit: Callable[[int], Any], straight: Any, tmp_path: Path
) -> None:
    expected, diary = straight("sft")
    entries: list[str] = []
    for number in (1, 2, 3):
        callbacks, options = limit(number)
        callbacks += [Diary(entries), saver(tmp_path, save_on_train_epoch_end=True)]
        session("sft", tmp_path, *callbacks, **options)
    found = weights(session("sft", tmp_path, Diary(entries)))
    assert steps(entries) == steps(diary)
    assert difference(expected, found) == 0


def test_a_limit_of_time_is_that_of_a_session(tmp_path: Path) -> None:
    session("sft", tmp_path, Timer("00:01:00:00"), saver(tmp_path), max_epochs=1)
    [path] = tmp_path.glob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    saved["callbacks"]["Timer"] = {"time_elapsed": {"train": 7200.0}}
    torch.save(saved, path)
    entries: list[str] = []
    session("sft", tmp_path, Timer("00:01:00:00"), Diary(entries), max_epochs=2)
    assert steps(entries) == ["step 1.0", "step 1.1"]


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_epochs": 1}, "max_epochs 1 is reached; raise it to go on"),
        ({"max_steps": 2}, "max_steps 2 is reached; raise it to go on"),
    ],
)
def test_a_finished_run_says_that_nothing_is_left(
    limit: dict[str, int], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session("sft", tmp_path, saver(tmp_path), StopReason(), **limit)
    assert "nothing was trained" not in capsys.readouterr().out
    session("sft", tmp_path, StopReason(), **limit)
    assert f"nothing was trained: {reason}\n" in capsys.readouterr().out


def failed(root: Path, after: bool) -> None:
    """A run whose fourth step raises, before or after its update, and saves what it has then."""
    L.seed_everything(5, verbose=False)
    module, data = (make() for make in KINDS["sft"])
    update = module.step_optimizer

    def failing() -> float:
        fails = module.trainer.fit_loop.total_batch_idx == 3
        norm = update() if after or not fails else 0.0
        if fails:
            raise InterruptedError
        return norm

    module.step_optimizer = failing
    callbacks = [ModelCheckpoint(root, save_on_exception=True, filename="failed")]
    run = trainer(root, max_epochs=3, callbacks=callbacks, enable_checkpointing=True)
    with pytest.raises(InterruptedError):
        run.fit(module, data)
    for path in root.glob("*.ckpt"):
        if path.stem != "failed":
            path.unlink()


def test_a_step_that_failed_is_repeated(straight: Any, tmp_path: Path) -> None:
    failed(tmp_path, after=False)
    assert difference(straight("sft")[0], weights(session("sft", tmp_path))) == 0


def test_half_a_step_cannot_be_resumed(tmp_path: Path) -> None:
    failed(tmp_path, after=True)
    with pytest.raises(ValueError, match="inside a training step that had changed the weights"):
        session("sft", tmp_path)


def test_first_step_after_a_limit_was_raised_has_the_rate_of_the_new_schedule(
    tmp_path: Path,
) -> None:
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def fit(max_steps: int) -> None:
        L.seed_everything(5, verbose=False)
        module = sft(optim=Optim(lr=0.01, warmup=0, schedule="linear"))
        saved = sorted(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
        run = trainer(
            tmp_path,
            max_epochs=4,
            max_steps=max_steps,
            callbacks=[saver(tmp_path, every_n_train_steps=1), Rates()],
            enable_checkpointing=True,
        )
        run.fit(module, chats(), ckpt_path=saved[-1] if saved else None)

    fit(2)
    fit(4)
    assert rates == pytest.approx([0.01, 0.005, 0.005, 0.0025])
