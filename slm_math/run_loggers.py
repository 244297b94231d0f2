"""The loggers of a training run: those of its configuration, and the log in its root."""

from __future__ import annotations

import contextlib
import hashlib
import netrc
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger

from slm_math.extras import install

# logger -> its package, and the extra that installs it
PACKAGES = {
    "TensorBoardLogger": ("tensorboard", "loggers"),
    "WandbLogger": ("wandb", "loggers"),
    "TrackioLogger": ("trackio", "trackio"),
}
NAMES = {"TensorBoardLogger": "version", "TrackioLogger": "run"}  # options that name a run
OFFLINE = ("offline", "dryrun", "disabled")  # modes of wandb that need no key


def prepare_loggers(configured: Any, root: Path) -> None:
    """Checks the loggers of a configuration before they are made, and lets a resumed run go on in
    the log of TensorBoard or trackio that it began: by default each session would be a run.

    Raises ValueError if the package of a logger is not installed, or if wandb would ask for a key.
    """
    for one in configured if isinstance(configured, list) else [configured]:
        path = one.get("class_path") if hasattr(one, "get") else None
        kind = str(path).rpartition(".")[2]
        package, extra = PACKAGES.get(kind, ("", ""))
        if package and not _is_installed(package):
            raise ValueError(f"trainer.logger {kind} needs {package}: {install(extra)}")
        run = NAMES.get(kind)
        if run and one.init_args.get(run) is None:
            one.init_args[run] = _name_of(root)
        if kind == "WandbLogger" and _lacks_key(
            {**vars(one.get("init_args") or Namespace()), **(one.get("dict_kwargs") or {})}
        ):
            raise ValueError(
                "trainer.logger WandbLogger has no key: set WANDB_API_KEY or run `wandb login`; "
                "with WANDB_MODE=offline it needs none"
            )


def _is_installed(package: str) -> bool:
    """Whether a package is installed: a folder of its name, as wandb makes one, is none."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _name_of(root: Path) -> str:
    """The name of a run among others in a folder of logs: the end of its root, and a hash that
    tells roots with the same end apart.
    """
    whole = root.expanduser().resolve()
    mark = hashlib.sha256(str(whole).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return "-".join([*whole.parts[-2:], mark]).lstrip("/")


def _lacks_key(options: dict[str, Any]) -> bool:
    """Whether wandb, as it is set up here, would ask for a key, in which a run would end."""
    import wandb

    settings = wandb.setup().settings  # of the environment, and of the files of `wandb login`
    offline = options.get("offline") or (options.get("mode") or settings.mode) in OFFLINE
    if offline or options.get("anonymous") or options.get("settings"):
        return False
    if settings.api_key or settings.identity_token_file:
        return False
    try:
        return netrc.netrc(_netrc_file()).authenticators(urlsplit(settings.base_url).netloc) is None
    except FileNotFoundError:
        return True
    except (OSError, netrc.NetrcParseError):  # wandb says what is wrong with it
        return False


def _netrc_file() -> str:
    """The file in which `wandb login` stores keys."""
    home = Path.home()
    places = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else []
    places += [home / ".netrc", home / "_netrc"]
    return str(next((place for place in places if place.is_file()), places[0]))


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


def remove_empty(trainer: L.Trainer) -> None:
    """Removes the folders of logs in which nothing was logged, and the root if nothing else is in
    it: Lightning makes them before the data is read, and a run may be refused then.
    """
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            for folder in (logger.log_dir, logger.root_dir, trainer.default_root_dir):
                with contextlib.suppress(OSError):  # it holds something, or was never made
                    Path(folder).rmdir()
