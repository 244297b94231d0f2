"""What `ModelCheckpoint` and `EarlyStopping` monitor: a name that nothing logs is told before a
model loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

# of evaluations, metrics of which more is better; Lightning's mode is min unless it is set
MORE_IS_BETTER = {"accuracy", "low", "high", "gain", "gain_low", "gain_high", "reward"}


def check_monitors(trainer: L.Trainer, module: Any) -> None:
    """Raises ValueError for a callback that monitors what no agent, validation or training step of
    this run logs, that would keep the worst accuracy, or that looks when there is none.

    Callbacks and modules of the user's own may log any name: with one of them, only names that
    begin with `eval/` are checked.
    """
    every = list(trainer.callbacks)  # type: ignore[attr-defined]
    evaluations = {key: callback for callback in every for key in getattr(callback, "keys", ())}
    ours = all(_is_known(each) for each in (module, *every))
    known = [*(f"eval/{key}/NAME" for key in evaluations), *module.validation_metrics, "train/NAME"]
    example = "".join(f" (an accuracy is eval/{key}/accuracy)" for key in list(evaluations)[:1])
    for callback, name in monitored(every):
        who = f"{type(callback).__name__} monitors {name}"
        key = _agent_of(name, evaluations)
        if key is not None:
            _check_agent(callback, who, name.removeprefix(f"eval/{key}/"), key)
            _check_time(trainer, callback, who, evaluations[key].every_n_epochs)
        elif name.startswith("eval/") or (
            ours and not name.startswith("train/") and name not in module.validation_metrics
        ):
            raise ValueError(f"{who}, which nothing logs: this run has {', '.join(known)}{example}")


def _agent_of(name: str, keys: Iterable[str]) -> str | None:
    """The agent whose metric this is, by what comes between `eval/` and the metric."""
    fitting = [key for key in keys if name == key or name.startswith(f"eval/{key}/")]
    return max(fitting, key=len, default=None)


def _check_agent(callback: Any, who: str, metric: str, key: str) -> None:
    is_share = metric == key or metric in MORE_IS_BETTER or metric.startswith(("pass@", "maj@"))
    if is_share and callback.mode == "min":
        raise ValueError(
            f"{who} with mode min (Lightning's default), which looks for the worst: set mode: max"
        )


def _check_time(trainer: L.Trainer, callback: Any, who: str, every: int) -> None:
    """Agents are evaluated at the end of training epochs, and maybe not of all."""
    stops = isinstance(callback, EarlyStopping)
    option = "check_on_train_epoch_end" if stops else "save_on_train_epoch_end"
    late, epochs = getattr(callback, f"_{option}", True), getattr(callback, "every_n_epochs", 0)
    usual = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
    if not (late or (late is None and usual)) and (stops or epochs):
        raise ValueError(
            f"{who} and looks after validation, before agents are evaluated: set {option}: true"
        )
    if every > 1 and stops and callback.strict:
        raise ValueError(
            f"{who}, and agents are evaluated every {every} epochs: set strict: false, which lets "
            "the others pass"
        )
    if every > 1 and not stops and epochs and epochs % every:
        raise ValueError(
            f"{who}, and agents are evaluated every {every} epochs: set its every_n_epochs: {every}"
        )


def check_logged(trainer: L.Trainer, key: str, names: Iterable[str]) -> None:
    """Raises ValueError for a callback that monitors a metric of an evaluation that has just been
    logged without it. `names` are the metrics of the agent `key`.
    """
    known = sorted(names)
    for callback, name in monitored(trainer.callbacks):  # type: ignore[attr-defined]
        metric = name.removeprefix(f"eval/{key}/")
        # paired differences begin with the second evaluation
        if metric != name and metric not in known and not metric.startswith("gain"):
            raise ValueError(
                f"{type(callback).__name__} monitors {name}, and eval/{key} has no {metric}: it "
                f"has {', '.join(known)}"
            )


def monitored(callbacks: Iterable[L.Callback]) -> Iterator[tuple[Any, str]]:
    """The callbacks that monitor a metric, each with its name."""
    for callback in callbacks:
        name = getattr(callback, "monitor", None)
        if isinstance(name, str) and hasattr(callback, "mode"):
            yield callback, name


def _is_known(one: Any) -> bool:
    return type(one).__module__.partition(".")[0] in ("slm_math", "callbacks", "lightning")
