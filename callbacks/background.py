"""A callback that looks at a run from a thread of its own, while the run computes."""

from __future__ import annotations

import threading
from typing import Any

import lightning as L


class Background(L.Callback):
    """Starts a thread for `look` in `setup`, and ends it with the stage, or when it breaks."""

    _stop: threading.Event | None = None

    def look(self, trainer: L.Trainer, module: Any, watched: int, stop: threading.Event) -> None:
        """Looks at a run until `stop` is set; `watched` is the thread on which it computes."""
        raise NotImplementedError

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._end()
        self._stop = threading.Event()
        arguments = (trainer, pl_module, threading.get_ident(), self._stop)
        name = type(self).__name__.lower()
        threading.Thread(target=self.look, args=arguments, name=name, daemon=True).start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._end()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
