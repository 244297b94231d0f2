"""Checkpoints that make an end at any time cheap: every epoch, every few minutes, and after the
step under way when the run is asked to stop.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint

from slm_math.callbacks.run_root import begin_run, most
from slm_math.checkpoint_files import remove_unfinished
from slm_math.records.run_lock import lock_run, sign_lock, unlock_run
from slm_math.stopping import Stopped, say, stopping


class Checkpoints(ModelCheckpoint):
    """Keeps `<root>/checkpoints/last.ckpt`, always of a moment between two steps; `--ckpt_path
    last` resumes from it.

    Also written after the last step of an epoch, and at its end: after an interrupt in the
    evaluation in between, no step is repeated, and the evaluation continues with its records.

    The first Ctrl-C, SIGTERM or SIGHUP between the first and the last step of an epoch lets a step
    finish and saves; a second one, or one at another time (a model loads, agents are evaluated),
    stops at once. A stdout that was closed counts as a request, too. All ranks save and stop
    together. Slurm's requeue signal waits for the end of a step as well; then the job is requeued,
    and the SIGTERM that Slurm sends to a requeued or preempted job ends the run.

    Args:
        dirpath: the folder; `checkpoints` under the trainer's root when left out.
        minutes: the minutes between two checkpoints that are written besides those of an epoch.
    """

    def __init__(self, dirpath: str | Path | None = None, minutes: float = 10.0) -> None:
        super().__init__(
            dirpath=dirpath, save_last=True, save_top_k=1, save_on_train_epoch_end=True
        )
        self.minutes = minutes
        self._saved = time.monotonic()
        self._requeue: Any = None  # Lightning's handler of Slurm's signal
        self._requeues = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.dirpath is None:  # Lightning's default is a folder of the logger, new every time
            self.dirpath = str(Path(trainer.default_root_dir).absolute() / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            root = Path(trainer.default_root_dir)
            lock_run(root)
            sign_lock(root)
        begin_run(trainer, pl_module)
        if trainer.is_global_zero:
            folders = (getattr(each, "dirpath", None) for each in trainer.checkpoint_callbacks)
            remove_unfinished([Path(trainer.default_root_dir), *map(Path, filter(None, folders))])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved = time.monotonic()
        self._take_signals(trainer, pl_module)

    def _take_signals(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replaces the handlers that Lightning has just installed, and will remove: they end
        training without a checkpoint, and talk to other ranks while these compute.
        """
        stopping.announces = trainer.is_global_zero
        stopping.take_signals(trainer._signal_connector._original_handlers)
        slurm = trainer._accelerator_connector.cluster_environment
        if isinstance(slurm, SLURMEnvironment) and slurm.auto_requeue and slurm.requeue_signal:
            handler = signal.getsignal(slurm.requeue_signal)
            if callable(handler) and handler != self._asked_to_requeue:
                self._requeue = handler
                signal.signal(slurm.requeue_signal, self._asked_to_requeue)

    on_validation_start = on_test_start = on_predict_start = _take_signals

    def _asked_to_requeue(self, number: int, frame: Any) -> None:
        if stopping.finishes:
            self._requeues = True
        else:
            self._requeue(number, frame)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        stopping.finishes = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, *step)
        _, _, batch_idx = step  # outputs, batch and its number
        left = trainer.num_training_batches - batch_idx - 1
        late = time.monotonic() - self._saved > 60 * self.minutes
        stop, requeues, late = self._agreed(trainer, late)
        if stop is not None or late or left == 0:
            self._saved = time.monotonic()
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        if requeues:
            self._requeues = False
            self._requeue(signal.SIGUSR1, None)
        if stop is not None:
            # Lightning logs the metrics of a step only after this
            trainer._logger_connector.update_train_step_metrics()
            raise stop
        # what follows an epoch can be interrupted at any time
        done = trainer.should_stop or trainer.fit_loop.epoch_loop._is_training_done
        stopping.finishes = left > 0 and not done

    def _agreed(self, trainer: L.Trainer, late: bool) -> tuple[Stopped | None, bool, bool]:
        """What any rank was asked to do: all ranks save and stop, or none."""
        mine = stopping.pending
        flags = [0 if mine is None else mine.status, self._requeues, late]
        status, requeues, saves = most(trainer, flags)
        if mine is None and status:
            mine = Stopped(status)
        if mine is not None and not trainer.is_global_zero:
            mine.status = 0  # however long the first rank takes to end: see `outlive`
        return mine, bool(requeues), bool(saves)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_global_step_saved = -1  # that step was saved before the evaluation
        super().on_train_epoch_end(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._end(trainer)
        super().on_exception(trainer, pl_module, exception)
        if not isinstance(exception, KeyboardInterrupt) or trainer.state.fn != "fit":
            return
        if trainer.is_global_zero:
            stop = Stopped.of(exception)
            how = stop.how[0].lower() + stop.how[1:]
            say(f"{how} after step {trainer.global_step}: {self._outcome()}")
        if isinstance(exception, Stopped):
            exception.reported = True

    def _outcome(self) -> str:
        if not self.last_model_path or not Path(self.last_model_path).exists():
            return "no checkpoint was written yet"
        step = self._last_global_step_saved
        of = f" of step {step}" if step else ""
        return (
            f"{self.last_model_path}{of} is saved, --ckpt_path last resumes from it; finished "
            "evaluation records are saved"
        )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        stopping.reset()
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            unlock_run(Path(trainer.default_root_dir))
