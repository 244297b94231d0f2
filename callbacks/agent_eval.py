"""Agents are evaluated every epoch, with the weights as they are."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.data.modules import take
from slm_math.engines.base import Engine
from slm_math.evaluation.evaluate import evaluate
from slm_math.evaluation.metrics import Summary, summarise
from slm_math.evaluation.records import read_records, write_records
from slm_math.evaluation.table import program_lines, results_table
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.rollout.record import record, scored
from slm_math.sandbox import RemoteSandbox, Sandbox, SandboxError
from slm_math.types import Sampling, Task, Trace


class AgentEval(L.Callback):
    """Runs agents on problems at the end of training epochs, and in `validate`, `test` and `predict`.

    Logs `eval/<agent>/accuracy`, its 95 % interval (`_low`, `_high`) and other shares; writes every transcript to
    `<root>/eval/epoch-<n>/<agent>/records.jsonl` as it finishes, beside a manifest. An evaluation that was cut off goes
    on where it stopped if the weights are the same.

    Args:
        agents: name -> agent.
        source: the problems; by default those of the data module.
        split: the split evaluated during `fit`.
        limit: evaluate on so many problems only, the same ones every time.
        samples: workflows per problem.
        every_n_epochs: evaluate after every n-th epoch, and after the last.
        at_start: evaluate also before training.
        sampling: decoding defaults of all roles; agents may override them per request.
        engines: role -> engine for roles that the policy does not serve.
        sandbox: runs the agents' programs; one with its default limits when left out.
        seed: of the sampling.
    """

    def __init__(
        self,
        agents: dict[str, Agent],
        source: Source | None = None,
        split: Split = "validation",
        limit: int | None = 200,
        samples: int = 1,
        every_n_epochs: int = 1,
        at_start: bool = False,
        sampling: Sampling = Sampling(temperature=0.0),
        engines: dict[str, Engine] | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        seed: int = 0,
    ) -> None:
        if not agents:
            raise ValueError("AgentEval needs at least one agent")
        if every_n_epochs < 1:
            raise ValueError(f"AgentEval needs every_n_epochs >= 1, got {every_n_epochs}")
        self.agents = agents
        self.source = source
        self.split: Split = split
        self.limit = limit
        self.samples = samples
        self.every_n_epochs = every_n_epochs
        self.at_start = at_start
        self.sampling = sampling
        self.engines = engines or {}
        self.sandbox = sandbox
        self.seed = seed
        self._skipped: set[str] = set()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        source = self.source or getattr(trainer.datamodule, "source", None)
        if source is None:
            raise ValueError("AgentEval has no source and the data module has none either: set its source")
        split = {"fit": self.split, "validate": self.split}.get(stage, "test")
        self.tasks = take(source.tasks(split), self.limit)
        if not self.tasks:
            raise ValueError(f"AgentEval: {source.name} has no problems in its {split} split")
        self._start_sandbox(trainer)

    def _start_sandbox(self, trainer: L.Trainer) -> None:
        """One that was asked for must run; without any, agents that need one are skipped, aloud, on all ranks."""
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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        last = epoch + 1 == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step
        if last or trainer.should_stop or (epoch + 1) % self.every_n_epochs == 0:
            self._run(trainer, pl_module, f"epoch-{epoch}", log=True)

    def _stage_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._run(trainer, pl_module, str(trainer.state.fn.value), log=trainer.state.fn != "predict")

    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _stage_end

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.sandbox is not None:
            self.sandbox.close()  # its settings stay: the next stage starts it again

    # -- the evaluation ------------------------------------------------------------------------------------------

    def _run(self, trainer: L.Trainer, module: Any, name: str, log: bool) -> None:
        assert isinstance(module, PolicyModule), "AgentEval evaluates PolicyModules"
        start = time.perf_counter()
        weights = fingerprint(module)
        summaries = {}
        for agent in self.agents:
            if agent in self._skipped:
                continue
            folder, begin = Path(trainer.default_root_dir) / "eval" / name / agent, time.perf_counter()
            summaries[agent] = self._one(trainer, module, agent, folder, weights)
            if log:
                figures = summaries[agent].values() | {"total_seconds": time.perf_counter() - begin}
                values = {f"eval/{agent}/{key}": value for key, value in figures.items()}
                module.log_dict(values, batch_size=len(self.tasks), rank_zero_only=True)
                module.log(f"{agent}", summaries[agent].accuracy, prog_bar=True, logger=False, rank_zero_only=True)
        if trainer.is_global_zero and summaries:
            seconds = time.perf_counter() - start
            console = console_of(trainer)
            console.print(results_table(f"agents after {name} ({seconds:.0f} s)", summaries))
            for line in program_lines(summaries):
                console.print(line, markup=False)

    def _one(self, trainer: L.Trainer, module: PolicyModule, name: str, folder: Path, weights: str) -> Summary:
        """One agent; with several ranks each takes its share of the problems, and rank 0 puts all records together."""
        ranks, rank = trainer.world_size, trainer.global_rank
        part = folder if ranks == 1 else folder / f"rank-{rank}"
        identity = {"weights": weights, "policy": module.policy.path, "ranks": ranks}

        def watch(done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
            right = sum(record["correct"] for record in records)
            module.watch(f"eval {name}, accuracy {right / done:.3f}", done, total)

        summary = evaluate(
            self.agents[name],
            self.tasks[rank::ranks],
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
        )
        if ranks == 1:
            return summary
        order = {task.problem.id: place for place, task in enumerate(self.tasks)}
        records = [row for rows in module.gathered(read_records(part / "records.jsonl")) for row in rows]
        records.sort(key=lambda row: (order[row["id"]], row["sample"]))
        if rank == 0:
            write_records(folder / "records.jsonl", records)
        return summarise(records)


def recorded(module: PolicyModule, task: Task, trace: Trace) -> dict[str, Any]:
    """The record of a trace, with the rewards that the policy is trained with where there are some."""
    if not isinstance(module, GRPOModule):
        return record(task, trace)
    data = scored(task, trace, module.rewards, module.train_roles).data()
    return {name: value for name, value in data.items() if name != "advantages"}  # an evaluation has none


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
