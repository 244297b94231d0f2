"""What `ModelCheckpoint` and `EarlyStopping` monitor: a name that nothing logs is told before a
model loads.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

# metrics of which more is better, by the last part of their names, beside all that end in
# accuracy; Lightning's mode is min unless it is set
MORE_IS_BETTER = {
    *("low", "high", "gain", "gain_low", "gain_high", "reward", "strict", "lenient", "boxed"),
    *("oracle", "majority", "selection_majority", "selection_made", "improved", "stayed_right"),
    *("true_positive_rate", "true_negative_rate", "approves_right"),
    *("seeing_gain", "seeing_gain_low", "seeing_gain_high"),
    *("code_written", "code_run", "code_succeeded"),
}
MOST_NAMES = 4  # that a message lists


def check_monitors(trainer: L.Trainer, module: Any) -> None:
    """Raises ValueError for a callback that monitors what no agent, validation or training step of
    this run logs, that would keep the worst accuracy, or that looks when there is none.

    Callbacks and modules of the user's own may log any name: with one of them, only names that
    begin with `eval/` are checked.
    """
    every = list(trainer.callbacks)  # type: ignore[attr-defined]
    evaluations = {key: callback for callback in every for key in getattr(callback, "keys", ())}
    ours = all(_is_known(each) for each in (module, *every))
    for callback, name in monitored(every):
        who = f"{type(callback).__name__} monitors {name}"
        key = _agent_of(name, evaluations)
        logged = name.startswith("train/") or name in module.validation_metrics
        if key is not None or logged:  # an agent's name alone is its accuracy
            _check_mode(callback, who, "accuracy" if name == key else name)
        if key is not None:
            _check_time(trainer, callback, who, evaluations[key].every_n_epochs)
        elif name.startswith("eval/") or (ours and not logged):
            known = _names_of(evaluations, name, module.validation_metrics)
            hint = _other_agent(every, name, list(evaluations))
            raise ValueError(f"{who}, which nothing logs: this run has {known}{hint}")


def _names_of(keys: Iterable[str], name: str, others: Iterable[str]) -> str:
    """What a run logs, of many agents those with a name like this one."""
    every = list(keys)
    some = _nearest(name.removeprefix("eval/").partition("/")[0], every)
    more = f"and {len(every) - len(some)} more of eval/" if len(every) > len(some) else ""
    names = [*(f"eval/{key}/NAME" for key in some), more, *others, "train/NAME"]
    return ", ".join(filter(None, names))


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """The few names that are most like one, the most similar first; all of a few as they are."""
    if len(names) <= MOST_NAMES:
        return list(names)
    return difflib.get_close_matches(name, names, n=MOST_NAMES, cutoff=0.0)


def _other_agent(callbacks: Iterable[L.Callback], name: str, keys: Sequence[str]) -> str:
    """What to set where callbacks, such as those of configs/best.yaml, monitor an agent that this
    run does not evaluate.
    """
    if not keys:
        return ""
    accuracy = f"eval/{keys[0]}/accuracy"
    if not (name.startswith("eval/") and name.endswith("/accuracy")):
        return f" (an accuracy is {accuracy})"
    classes = (type(callback).__name__ for callback, own in monitored(callbacks) if own == name)
    added = ", ".join(f"{{class_path: {kind}, monitor: {accuracy}}}" for kind in classes)
    return (
        f" (an accuracy is {accuracy}: after the file that monitors the other one, give "
        f"--config '{{trainer: {{callbacks+: [{added}]}}}}')"
    )


def _agent_of(name: str, keys: Iterable[str]) -> str | None:
    """The agent whose metric this is, by what comes between `eval/` and the metric."""
    fitting = [key for key in keys if name == key or name.startswith(f"eval/{key}/")]
    return max(fitting, key=len, default=None)


def _check_mode(callback: Any, who: str, name: str) -> None:
    metric = name.rpartition("/")[2]
    is_share = metric in MORE_IS_BETTER or metric.endswith("accuracy")
    if (is_share or metric.startswith(("pass@", "maj@"))) and callback.mode == "min":
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


def check_logged(trainer: L.Trainer, key: str, names: Iterable[str], folder: Path) -> None:
    """Raises ValueError for a callback that monitors a metric of an evaluation that has just been
    logged without it. `names` are the metrics of the agent `key`, whose results are in `folder`.
    """
    known = sorted(names)
    for callback, name in monitored(trainer.callbacks):  # type: ignore[attr-defined]
        metric = name.removeprefix(f"eval/{key}/")
        # paired differences begin with the second evaluation
        if metric != name and metric not in known and not metric.startswith("gain"):
            raise ValueError(
                f"{type(callback).__name__} monitors {name}, and eval/{key} has no {metric}; the "
                f"nearest are {', '.join(_nearest(metric, known))}, and {folder}/summary.json has "
                f"all {len(known)}"
            )


def monitored(callbacks: Iterable[L.Callback]) -> Iterator[tuple[Any, str]]:
    """The callbacks that monitor a metric, each with its name."""
    for callback in callbacks:
        name = getattr(callback, "monitor", None)
        if isinstance(name, str) and hasattr(callback, "mode"):
            yield callback, name


def _is_known(one: Any) -> bool:
    return type(one).__module__.partition(".")[0] in ("slm_math", "lightning")
