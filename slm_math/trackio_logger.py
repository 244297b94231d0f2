"""A logger for trackio, which keeps runs in files of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger


class TrackioLogger(Logger):
    """Logs metrics, hyper-parameters and tables with trackio: into the folder `TRACKIO_DIR`, by
    default `~/.cache/huggingface/trackio`, which `trackio show` displays.

    Args:
        project: the name that groups runs.
        run: the name of the run. One that exists goes on. `fit` makes it of the root if it is left
            out, and trackio makes one up elsewhere.
    """

    def __init__(self, project: str = "slm-math", run: str | None = None) -> None:
        super().__init__()
        self._project = project
        self._name = run
        self._run: Any = None

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str | None:
        return self._name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of trackio, which begins when it is first asked for."""
        if self._run is None:
            import trackio

            # a notebook would get a server with a page
            resume = "allow" if self._name else "never"
            self._run = trackio.init(self._project, name=self._name, resume=resume, embed=False)
            self._name = self._run.name
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        # trackio writes them with the first metrics
        self.experiment.config.update(params if isinstance(params, Mapping) else vars(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: Sequence[str],
        data: Sequence[Sequence[Any]],
        step: int | None = None,
    ) -> None:
        """Logs a table, whose texts trackio shows literally."""
        import trackio

        table = trackio.Table(columns=list(columns), data=[list(row) for row in data])
        self.experiment.log({key: table}, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is queued, at most half a second of it."""
        if self._run is not None:
            self._run.finish()
