"""The loggers of a training run: those of its configuration, and the log in its root."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

# logger of Lightning -> its package, which the extra `loggers` installs
PACKAGES = {"TensorBoardLogger": "tensorboard", "WandbLogger": "wandb"}


def prepare_loggers(configured: Any, root: Path) -> None:
    """Checks the loggers of a configuration before they are made, and lets a resumed run go on in
    the TensorBoard log that it began: by default Lightning counts sessions.

    Raises ValueError if the package of a logger is not installed.
    """
    for one in configured if isinstance(configured, list) else [configured]:
        path = one.get("class_path") if hasattr(one, "get") else None
        kind = str(path).rpartition(".")[2]
        if kind in PACKAGES and find_spec(PACKAGES[kind]) is None:
            raise ValueError(
                f"trainer.logger {kind} needs {PACKAGES[kind]}: pip install 'slm-math[loggers]'"
            )
        if kind == "TensorBoardLogger" and one.init_args.get("version") is None:
            # runs may share a folder of logs: each is there by the name of its root
            one.init_args["version"] = str(root).strip("./").replace("/", "-") or "run"


def loggers_of(configured: Any, root: Path) -> Any:
    """The configured loggers, and after them the log in `root` that reports read; False (no logger)
    stays False.
    """
    if configured in (None, True):
        configured = []
    elif not configured:
        return False
    chosen = [configured] if isinstance(configured, Logger) else list(configured)
    own = (root / "logs").resolve()
    for logger in chosen:
        if isinstance(logger, CSVLogger) and Path(logger.root_dir).resolve() == own:
            return chosen
    return [*chosen, CSVLogger(root, name="logs", flush_logs_every_n_steps=1)]
