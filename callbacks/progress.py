"""The progress bar, which also shows what happens inside a step; without a terminal, a plain line
now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import RenderableType
from rich.text import Text

from slm_math.callbacks.background import Background
from slm_math.evaluation.live import WATCHED_EVERY, Decoded
from slm_math.modules.base import PolicyModule
from slm_math.ranges import check_number, check_whole


class Progress(RichProgressBar, Background):
    """Lightning's rich bar plus a row for rollouts, evaluations and updates under way; that of
    rollouts has the tokens per second, also before the first of them ends.

    Args:
        refresh_rate: screen updates per second.
        line_seconds: the callback prints a line every so many seconds where there is no terminal,
            such as in a log file.
    """

    def __init__(self, refresh_rate: int = 5, line_seconds: float = 30.0) -> None:
        check_whole("Progress.refresh_rate", refresh_rate)
        check_number("Progress.line_seconds", line_seconds, low=0)
        super().__init__(refresh_rate=refresh_rate, leave=False)
        self.line_seconds = line_seconds
        self._phase: Any = None
        self._name = ""
        self._rate = ""  # of the rollouts under way
        self._showing = threading.Lock()
        self._last_line = self._last_step = time.monotonic()

    def _init_progress(self, trainer: L.Trainer) -> None:
        """Shows the metrics below the bar: a column beside it would leave them ten characters."""
        before = self.progress
        super()._init_progress(trainer)
        shown, metrics = self.progress, self._metric_component
        if shown is None or shown is before or metrics is None:
            return
        shown.columns = tuple(column for column in shown.columns if column is not metrics)
        bars = shown.get_renderables

        def renderables() -> Iterable[RenderableType]:
            yield from bars()
            if texts := list(metrics._generate_metrics_texts()):
                yield Text(", ".join(texts), style=self.theme.metrics)

        shown.get_renderables = renderables  # type: ignore[method-assign]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if isinstance(pl_module, PolicyModule) and trainer.is_global_zero:
            pl_module.on_progress = self.show_progress
            Background.setup(self, trainer, pl_module, stage)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        Background.teardown(self, trainer, pl_module, stage)
        super().teardown(trainer, pl_module, stage)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        Background.on_exception(self, trainer, pl_module, exception)
        super().on_exception(trainer, pl_module, exception)

    def look(self, trainer: L.Trainer, module: Any, watched: int, stop: threading.Event) -> None:
        """Shows how fast engines sample, between rollouts that end."""
        decoded: Decoded | None = None
        while not stop.wait(WATCHED_EVERY):
            place = phase, done, total = module.phase
            shown = self.progress is not None and self.progress.console.is_terminal
            if shown and not self._progress_stopped:
                self.refresh()  # Lightning does so at the end of a batch only
            if phase != "rollouts" or done >= total:
                decoded, self._rate = None, ""
                continue
            decoded = decoded or Decoded(phase, total, module.serving.sampled)
            rate = decoded.look()
            with self._showing:
                if rate and module.phase == place and not stop.is_set():
                    self._rate = f", {rate:.0f} tokens/s"
                    self._show(*place)

    def show_progress(self, phase: str, done: int, total: int) -> None:
        """Shows that `done` of `total` things of a phase are over."""
        with self._showing:
            self._show(phase, done, total)

    def _show(self, phase: str, done: int, total: int) -> None:
        phase += self._rate if phase == "rollouts" else ""
        if self.progress is None or self._progress_stopped or not self.progress.console.is_terminal:
            if time.monotonic() - self._last_line >= self.line_seconds:
                self._line(f"{phase}: {done} of {total}")
            return
        key = phase.partition(",")[0]
        if self._phase is None or key != self._name:
            if self._phase is not None:
                self.progress.remove_task(self._phase)
            self._phase, self._name = self.progress.add_task(phase, total=total), key
        self.progress.update(self._phase, description=phase, completed=done, total=total)
        if done >= total:
            self.progress.remove_task(self._phase)
            self._phase = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, *step)
        _, _, batch_idx = step  # outputs, batch and its number
        # phases do not put off the line of a step, which says how far the run is
        due = time.monotonic() - self._last_step >= self.line_seconds and trainer.is_global_zero
        if due and (self.progress is None or not self.progress.console.is_terminal):
            self._last_step = time.monotonic()
            metrics = {
                k: v
                for k, v in self.get_metrics(trainer, pl_module).items()
                if isinstance(v, float)
            }
            text = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            place = (
                f"epoch {trainer.current_epoch}, step {batch_idx + 1} of "
                f"{trainer.num_training_batches}"
            )
            self._line(f"{place}: {text}")

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in items.items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        """Epochs count from 0, as in the names of folders, so their number must be one."""
        whole = self.trainer.max_epochs
        text = f"epoch {current_epoch}" + (f" ({whole} in all)" if (whole or -1) > 0 else "")
        # or the bar would flicker when it comes to the validation
        return text.ljust(len(self.validation_description))

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(text, flush=True)
