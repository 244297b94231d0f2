"""Agents are evaluated every epoch, with the weights as they are."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.data.modules import ProblemData, take
from slm_math.data.overlap import refuse_overlap
from slm_math.engines.base import Engine
from slm_math.evaluation.compare import Comparison, compare
from slm_math.evaluation.evaluate import check_names, evaluate
from slm_math.evaluation.table import figure_lines, program_lines, results_table
from slm_math.evaluation.torch_metrics import AgentMetrics
from slm_math.metrics.summary import summarise
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.records.files import configuration, read_records, write_json, write_records
from slm_math.records.record import record, scored
from slm_math.sandbox import RemoteSandbox, Sandbox, SandboxError
from slm_math.types import Problem, Sampling, Task, Trace


class AgentEval(L.Callback):
    """Runs agents on problems at the end of training epochs, and in `validate`, `test` and
    `predict`.

    Logs `eval/<agent>/accuracy`, its 95 % interval (`low`, `high`) and all other figures; writes
    every transcript to `<root>/eval/epoch-<n>/<agent>/records.jsonl` as it finishes, beside a
    manifest. From the second evaluation on, the paired difference to the first one (`gain`,
    `gain_low`, `gain_high`, `gain_p`). An evaluation that was cut off goes on where it stopped if
    the weights are the same. Training on problems that are evaluated on is refused.

    Args:
        agents: name -> agent.
        sources: name -> problems, for other data sets than that of the data module; names and
            folders then have the data set's in front of the agent's: `eval/<set>/<agent>/accuracy`.
        split: the split evaluated during `fit`.
        limit: evaluate on so many problems of each source only, the same ones every time.
        samples: workflows per problem.
        every_n_epochs: evaluate after every n-th epoch, and after the last.
        every_n_steps: evaluate also whenever so many optimiser steps were made.
        at_start: evaluate also before training.
        sampling: decoding defaults of all roles; agents may override them per request.
        engines: role -> engine for roles that the policy does not serve.
        sandbox: runs the agents' programs; one with its default limits when left out.
        seed: of the sampling.
        allow_overlap: train although problems of the evaluation are among the training problems.
    """

    def __init__(
        self,
        agents: dict[str, Agent],
        sources: dict[str, Source] | None = None,
        split: Split = "validation",
        limit: int | None = 200,
        samples: int = 1,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        at_start: bool = False,
        sampling: Sampling = Sampling(temperature=0.0),
        engines: dict[str, Engine] | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        seed: int = 0,
        allow_overlap: bool = False,
    ) -> None:
        if not agents:
            raise ValueError("AgentEval needs at least one agent")
        if every_n_epochs < 1 or (every_n_steps is not None and every_n_steps < 1):
            raise ValueError(
                f"AgentEval needs every_n_epochs and every_n_steps >= 1, got {every_n_epochs} and "
                f"{every_n_steps}"
            )
        check_names(agents, "agent")
        check_names(sources or (), "source")
        self.agents = agents
        self.sources = sources
        self.split: Split = split
        self.limit = limit
        self.samples = samples
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.at_start = at_start
        self.sampling = sampling
        self.engines = engines or {}
        self.sandbox = sandbox
        self.seed = seed
        self.allow_overlap = allow_overlap
        self._skipped: set[str] = set()
        self._first: str | None = None  # the evaluation that later ones are compared with
        self._steps = 0  # at the last evaluation by steps

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        own = getattr(trainer.datamodule, "source", None)
        if not self.sources and own is None:
            raise ValueError(
                "AgentEval has no sources and the data module has no source either: set its sources"
            )
        split = {"fit": self.split, "validate": self.split}.get(stage, "test")
        self.tasks: dict[str, list[Task]] = {}
        self.names: dict[str, str] = {}
        for name, source in (self.sources or {"": own}).items():
            self.tasks[name], self.names[name] = take(source.tasks(split), self.limit), source.name
            if not self.tasks[name]:
                raise ValueError(f"AgentEval: {source.name} has no problems in its {split} split")
            if stage == "fit" and own is not None and not self.allow_overlap:
                refuse_overlap(
                    trained_on(trainer.datamodule),
                    self.tasks[name],
                    f"the {split} split of {source.name}",
                )
        self._start_sandbox(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first, self._steps = state_dict["first"], state_dict["steps"]

    def _start_sandbox(self, trainer: L.Trainer) -> None:
        """One that was asked for must run; without any, agents that need one are skipped, aloud, on
        all ranks.
        """
        names = sorted(name for name, agent in self.agents.items() if agent.uses_python)
        if not names:
            return
        if self.sandbox is not None:
            self.sandbox.start()
            return
        why = "it did not start on another rank"
        try:
            self.sandbox = Sandbox()
            self.sandbox.start()
        except SandboxError as error:
            self.sandbox, why = None, str(error)
        if not trainer.strategy.reduce_boolean_decision(self.sandbox is not None):
            self._skipped = set(names)
            print(f"AgentEval skips {', '.join(names)}: {why}")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.at_start and trainer.global_step == 0:
            self._run(trainer, pl_module, "start", log=False)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        steps = trainer.global_step
        if self.every_n_steps and steps // self.every_n_steps > self._steps // self.every_n_steps:
            self._steps = steps
            self._run(trainer, pl_module, f"step-{steps}", log=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        last = epoch + 1 == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
        if last or trainer.should_stop or (epoch + 1) % self.every_n_epochs == 0:
            self._run(trainer, pl_module, f"epoch-{epoch}", log=True)

    def _stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._run(
                trainer, pl_module, str(trainer.state.fn.value), log=trainer.state.fn != "predict"
            )

    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _stage_end

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.sandbox is not None:
            self.sandbox.close()  # its settings stay: the next stage starts it again

    # -- the evaluation
    # ------------------------------------------------------------------------------------------

    def _run(self, trainer: L.Trainer, module: Any, name: str, log: bool) -> None:
        assert isinstance(module, PolicyModule), "AgentEval evaluates PolicyModules"
        start = time.perf_counter()
        weights = fingerprint(module)
        summaries, gains = {}, {}
        for data, agent in itertools.product(self.tasks, self.agents):
            if agent in self._skipped:
                continue
            key, begin = f"{data}/{agent}".lstrip("/"), time.perf_counter()
            records = self._one(
                trainer, module, data, agent, eval_folder(trainer, name) / key, weights
            )
            summaries[key] = summarise(records)
            figures = summaries[key].values() | {"total_seconds": time.perf_counter() - begin}
            gain = self._gain(trainer, key, records)
            if gain is not None:
                gains[key] = gain
                pairs = {"": gain.difference, "_low": gain.low, "_high": gain.high, "_p": gain.p}
                figures |= {f"gain{end}": value for end, value in pairs.items()}
            if log:
                values = {f"eval/{key}/{figure}": float(value) for figure, value in figures.items()}
                module.log_dict(values, batch_size=len(self.tasks[data]), rank_zero_only=True)
                module.log(
                    key, summaries[key].accuracy, prog_bar=True, logger=False, rank_zero_only=True
                )
        if trainer.state.fn == "fit":
            self._first = self._first or name
        if trainer.is_global_zero and summaries:
            seconds = time.perf_counter() - start
            console = console_of(trainer)
            since = f"since {self._first}" if gains else ""
            shown = {key: gain.shown_difference() for key, gain in gains.items()}
            console.print(
                results_table(f"agents after {name} ({seconds:.0f} s)", summaries, since, shown)
            )
            for line in [*figure_lines(summaries), *program_lines(summaries)]:
                console.print(line, markup=False)

    def _gain(
        self, trainer: L.Trainer, key: str, records: list[dict[str, Any]]
    ) -> Comparison | None:
        """The paired difference to the first evaluation of this run, where there was one of the
        same problems.
        """
        if self._first is None or trainer.state.fn != "fit":
            return None
        path = eval_folder(trainer, self._first) / key / "records.jsonl"
        try:
            return compare({self._first: read_records(path), "now": records})[0]
        except (FileNotFoundError, ValueError) as error:
            if trainer.is_global_zero:
                print(f"{key} is not compared with {self._first}: {error}")
            return None

    def _one(
        self,
        trainer: L.Trainer,
        module: PolicyModule,
        data: str,
        name: str,
        folder: Path,
        weights: str,
    ) -> list[dict[str, Any]]:
        """The records of one agent, the same on all ranks; each rank takes its share of the
        problems.
        """
        ranks, rank = trainer.world_size, trainer.global_rank
        part = folder if ranks == 1 else folder / f"rank-{rank}"
        identity = {"weights": weights, "policy": module.policy.path, "ranks": ranks}
        label = f"{data}/{name}".lstrip("/")

        def watch(done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
            right = sum(record["correct"] for record in records)
            module.watch(f"eval {label}, accuracy {right / done:.3f}", done, total)

        tasks = self.tasks[data]
        evaluate(
            self.agents[name],
            tasks[rank::ranks],
            module.engines() | self.engines,
            {"default": self.sampling},
            part,
            self.sandbox,
            self.samples,
            self.seed,
            identity,
            watch,
            set_aside=True,
            recorded=partial(recorded, module),
            about={
                "source": self.names[data],
                "split": self.split if trainer.state.fn == "fit" else str(trainer.state.fn.value),
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "configuration": configuration.get(),
            },
        )
        metrics = AgentMetrics().to(module.device)
        metrics.update(read_records(part / "records.jsonl"))
        records = metrics.records()
        order = {task.problem.id: place for place, task in enumerate(tasks)}
        if ranks > 1:
            records.sort(key=lambda row: (order[row["id"]], row["sample"]))
            if rank == 0:
                write_records(folder / "records.jsonl", records)
                self._manifest(folder, part, len(tasks), len(records))
                write_json(folder / "summary.json", summarise(records).data() | {"partial": False})
            trainer.strategy.barrier()  # nobody reads the first evaluation before it is written
        return records

    def _manifest(self, folder: Path, part: Path, problems: int, records: int) -> None:
        """The manifest of all ranks' records, from that of rank 0."""
        data = json.loads((part / "manifest.json").read_text(encoding="utf-8"))
        data["identity"] |= {"problems": problems}
        write_json(folder / "manifest.json", data | {"records": records})


def eval_folder(trainer: L.Trainer, name: str) -> Path:
    return Path(trainer.default_root_dir) / "eval" / name


def trained_on(data: Any) -> list[Task]:
    """The training problems of a data module; of dialogues that are no worked problems, all
    messages.
    """
    if isinstance(data, ProblemData):
        return data.tasks
    source = data.source
    try:
        tasks = source.tasks("train")
    except (ValueError, NotImplementedError):  # a source of dialogues only
        tasks = []
    if type(source).dialogues is Source.dialogues:
        return tasks
    texts = [message.text for chat in source.dialogues("train", data.prompt) for message in chat]
    return [
        *tasks,
        *(Task(Problem(f"{source.name}/message/{i}", text), "") for i, text in enumerate(texts)),
    ]


def recorded(module: PolicyModule, task: Task, trace: Trace) -> dict[str, Any]:
    """The record of a trace, with the rewards that the policy is trained with where
    there are some.
    """
    if not isinstance(module, GRPOModule):
        return record(task, trace)
    data = scored(task, trace, module.rewards, module.train_roles).data()
    # an evaluation has none
    return {name: value for name, value in data.items() if name != "advantages"}


def fingerprint(module: PolicyModule) -> str:
    """A hash of the trainable weights: two evaluations with the same one saw the same model."""
    assert module.loaded is not None
    digest = hashlib.blake2b(digest_size=8)
    for parameter in module.loaded.parameters():
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def console_of(trainer: L.Trainer) -> Console:
    """The console of the progress bar where there is one, so that a table does not tear it."""
    progress = getattr(trainer.progress_bar_callback, "progress", None)
    return progress.console if progress is not None else Console()
