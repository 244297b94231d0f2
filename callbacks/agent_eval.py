"""Evaluates agents during training, with the current weights."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from warnings import warn

import lightning as L

from slm_math.agents import Agent
from slm_math.callbacks.console import console_of
from slm_math.callbacks.eval_table import EvalTable
from slm_math.callbacks.monitors import check_logged, check_monitors
from slm_math.callbacks.run_root import begin_run
from slm_math.callbacks.sharded_eval import evaluate_on_all_ranks, fingerprint
from slm_math.callbacks.training_problems import training_problems
from slm_math.collection import without_collection
from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.overlap import refuse_overlap
from slm_math.data.selection import sample_tasks
from slm_math.data.twins import twins_of
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference, RoleSampling
from slm_math.evaluation.blind import arms
from slm_math.evaluation.compare import Comparison, compare
from slm_math.evaluation.evaluate import Output, Plan, check_names
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import read_samples
from slm_math.modules.base import PolicyModule
from slm_math.modules.roles import check_frozen_engines, check_ranks, check_served
from slm_math.ranges import check_whole
from slm_math.records.files import configuration, control
from slm_math.rollout.collect import check_agents
from slm_math.rollout.executors import Executors
from slm_math.sandbox import RemoteSandbox, Sandbox, SandboxError
from slm_math.starting import starting
from slm_math.types import Sampling, Task
from slm_math.visible import visible

GREEDY = Inference(sampling=Sampling(temperature=0.0))


class AgentEval(L.Callback):
    """Runs agents on problems at the end of training epochs, and in `validate`, `test` and
    `predict`.

    Logs `eval/<agent>/accuracy`, its 95 % interval (`low`, `high`) and all other metrics; writes
    every transcript to `<root>/eval/epoch-<n>/<agent>/records.jsonl` when it is finished, beside a
    manifest. From the second evaluation on, it also logs the paired difference to the first one
    (`gain`, `gain_low`, `gain_high`, `gain_p`). An interrupted evaluation is resumed if the weights
    are the same. Training on problems of the evaluation is refused.

    Args:
        agents: name -> agent.
        sources: name -> problems, for other data sets than that of the data module; the name of the
            data set then comes before the agent's: `eval/<set>/<agent>/accuracy`.
        split: the split that is evaluated during `fit`.
        limit: evaluate on at most this many problems of each source, the same ones every time.
        samples: workflows per problem.
        every_n_epochs: evaluate after every n-th epoch, and after the last.
        every_n_steps: also evaluate after every n optimizer steps.
        at_start: also evaluate before training.
        inference: how agents sample: its `sampling` and `roles`. Engine, slots, vLLM and
            `deterministic` are those of the model.
        engines: role -> engine for roles that the policy does not serve, beside those of the
            model.
        sandbox: runs the agents' programs; by default one with the default limits.
        blank_images: also ask the problems with images with blank ones of the same sizes, into
            `<agent>.blind`; logs `seeing_gain` and its interval, and `blind_accuracy`.
        twins: also ask unseen twins of the problems, into `<agent>.twins`: true for those that the
            data set has of its own, or a file of `slm-math twins`; logs `gap`, the memorization
            gap, and its interval.
        seed: of the sampling.
        allow_overlap: train although problems of the evaluation are among the training problems.
        sampling: the former name of `inference.sampling`; it works for one more version.
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
        inference: Inference = GREEDY,
        engines: dict[str, Engine] | None = None,
        sandbox: Sandbox | RemoteSandbox | None = None,
        blank_images: bool = False,
        twins: bool | str = False,
        seed: int = 0,
        allow_overlap: bool = False,
        sampling: RoleSampling | Sampling | None = None,
    ) -> None:
        if not agents:
            raise ValueError("AgentEval needs at least one agent")
        for name, count in (("samples", samples), ("every_n_epochs", every_n_epochs)):
            check_whole(f"AgentEval.{name}", count)
        for name, count in (("limit", limit), ("every_n_steps", every_n_steps)):
            check_whole(f"AgentEval.{name}", count, optional=True)
        if sampling is not None:
            warn("AgentEval: sampling is called inference.sampling now", stacklevel=2)
            if isinstance(sampling, RoleSampling):
                sampling = sampling.over(inference.sampling)
            inference = replace(inference, sampling=sampling)
        if replace(inference, sampling=GREEDY.sampling, roles={}) != GREEDY:
            raise ValueError(
                "AgentEval samples with engine, slots, vllm and deterministic of the model: set "
                "them in model.inference, and leave inference.sampling and inference.roles here"
            )
        inference.check_roles(sorted({role for agent in agents.values() for role in agent.roles}))
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
        self.inference = inference
        self.engines = engines or {}
        self.sandbox = sandbox
        self.blank_images = blank_images
        self.twins = twins
        self.seed = seed
        self.allow_overlap = allow_overlap
        self._skipped: set[str] = set()
        self._arms: dict[str, Any] = {}
        self._first: str | None = None  # the evaluation that later ones are compared with
        self._steps = 0  # optimizer steps at the last evaluation by steps

    @property
    def keys(self) -> list[str]:
        """What comes between `eval/` and the name of a metric: the agents, one by one."""
        pairs = itertools.product(self.sources or [""], self.agents)
        return [f"{data}/{agent}".lstrip("/") for data, agent in pairs]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            check_monitors(trainer, pl_module)
        own = getattr(trainer.datamodule, "source", None)
        if not self.sources and own is None:
            raise ValueError(
                "AgentEval has no sources, and the data module has no source either: set the "
                "sources of AgentEval"
            )
        splits: dict[str, Split] = {"fit": self.split, "validate": self.split}
        split = splits.get(stage, "test")
        self._check_roles(pl_module)
        check_ranks(self.engines, trainer.world_size, "AgentEval.engines")
        self.tasks: dict[str, list[Task]] = {}
        self.names: dict[str, str] = {}
        self._arms = {}
        for name, source in (self.sources or {"": own}).items():
            self.tasks[name], self.names[name] = (
                sample_tasks(read_tasks(source, split), self.limit),
                source.name,
            )
            if not self.tasks[name]:
                raise ValueError(f"AgentEval: {source.name} has no problems in its {split} split")
            twins = twins_of(self.tasks[name], source, split, self.twins)
            self._arms[name] = arms(self.tasks[name], self.blank_images, twins)
            check_agents(self.agents, self.tasks[name])
            if stage == "fit" and own is not None and not self.allow_overlap:
                starting(f"comparing {source.name}/{split} with the training problems")
                with without_collection():
                    asked = [task.problem for task in (*self.tasks[name], *twins)]
                    refuse_overlap(
                        training_problems(trainer.datamodule, asked),
                        asked,
                        f"the {split} split of {source.name}",
                    )
        self._start_sandbox(trainer)

    def _check_roles(self, module: Any) -> None:
        """Raises ValueError for a role that nothing serves as it is trained or frozen."""
        assert isinstance(module, PolicyModule), "AgentEval evaluates PolicyModules"
        check_frozen_engines(module, self.engines, "AgentEval.engines")
        for name, agent in self.agents.items():
            engines = {**module.other_engines, **self.engines}
            check_served(agent.roles, f"AgentEval: {name}", module, engines)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first, self._steps = state_dict["first"], state_dict["steps"]

    def _start_sandbox(self, trainer: L.Trainer) -> None:
        """Starts the sandbox. One that the user configured must start; if a default one does not
        start on every rank, agents that need it are skipped on all ranks, with a message.
        """
        names = sorted(name for name, agent in self.agents.items() if agent.uses_python)
        if not names:
            return
        starting("starting the sandbox")
        if self.sandbox is not None:
            self.sandbox.start()
            return
        reason = "the sandbox did not start on another rank"
        try:
            self.sandbox = Sandbox()
            self.sandbox.start()
        except SandboxError as error:
            self.sandbox, reason = None, str(error)
        if not trainer.strategy.reduce_boolean_decision(self.sandbox is not None):
            self._skipped = set(names)
            print(f"AgentEval skips {', '.join(names)}: {reason}")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.at_start and trainer.global_step == 0:
            self._run(trainer, pl_module, "start", log=False)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets the last evaluation: nobody shall take it for one of this epoch."""
        for name in list(trainer.callback_metrics):
            if name in self.keys or name.startswith(tuple(f"eval/{key}/" for key in self.keys)):
                del trainer.callback_metrics[name]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
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

    # the evaluation

    def _run(self, trainer: L.Trainer, module: Any, name: str, log: bool) -> None:
        """Evaluates every agent on every data set; `name` is that of the folder."""
        start = time.perf_counter()
        weights = fingerprint(module)
        table = EvalTable(self._first)
        for key, (data, agent) in zip(self.keys, itertools.product(self.tasks, self.agents)):
            if agent in self._skipped:
                continue
            begin = time.perf_counter()
            runs = {
                arm: evaluate_on_all_ranks(
                    trainer,
                    module,
                    plan=Plan(self.agents[agent], tasks, self.samples, self.seed),
                    executors=Executors(
                        module.engines() | module.other_engines | self.engines,
                        self.inference.by_role(),
                        sandbox=self.sandbox,
                        deterministic=module.inference.deterministic,
                    ),
                    output=Output(
                        eval_folder(trainer, name) / f"{key}{arm}",
                        identity=self._identity(trainer, module, weights) | identity,
                        about=self._about(trainer, module, data),
                        set_aside=True,
                    ),
                    label=f"{key}{arm}",
                )
                for arm, (tasks, identity) in self._arms[data].items()
            }
            gain = self._gain(trainer, key, runs[""].samples)
            metrics = table.add(key, runs, gain)
            metrics["total_seconds"] = time.perf_counter() - begin
            if trainer.state.fn == "fit":
                check_logged(trainer, key, metrics, eval_folder(trainer, name) / key)
            if log:
                values = {f"eval/{key}/{metric}": float(value) for metric, value in metrics.items()}
                module.log_dict(values, batch_size=len(self.tasks[data]), rank_zero_only=True)
                accuracy = metrics["accuracy"]
                module.log(key, accuracy, prog_bar=True, logger=False, rank_zero_only=True)
        if trainer.state.fn == "fit":
            self._first = self._first or name
        if trainer.is_global_zero and table.summaries:
            seconds = time.perf_counter() - start
            table.print(console_of(trainer), f"agents after {name} ({seconds:.0f} s)")

    def _identity(self, trainer: L.Trainer, module: PolicyModule, weights: str) -> dict[str, Any]:
        """What identifies an evaluation besides its plan."""
        return {
            "weights": weights,
            "policy": module.policy.path,
            **({"frozen": module.frozen} if module.frozen else {}),
            "ranks": trainer.world_size,
            **module.policy.template_identity,
        }

    def _about(self, trainer: L.Trainer, module: PolicyModule, data: str) -> dict[str, Any]:
        """What else the manifest says."""
        run = {"run": module.run, "control": control.get()} if trainer.state.fn == "fit" else {}
        return {
            **{name: value for name, value in run.items() if value is not None},
            "source": self.names[data],
            "split": self.split if trainer.state.fn == "fit" else str(trainer.state.fn.value),
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            # of training so far; some may have led to no step
            "batches": max(trainer.fit_loop.epoch_loop.total_batch_idx + 1, 0),
            "configuration": configuration.get(),
        }

    def _gain(self, trainer: L.Trainer, key: str, samples: Samples) -> Comparison | None:
        """The paired difference to the first evaluation of this training run; None if there is none
        of the same problems.
        """
        if self._first is None or trainer.state.fn != "fit":
            return None
        folder = eval_folder(trainer, self._first) / key
        try:
            return compare({self._first: read_samples(folder), "now": samples})[0]
        except (FileNotFoundError, ValueError) as error:
            if trainer.is_global_zero:
                print(f"{key} is not compared with {self._first}: {visible(str(error))}")
            return None


def eval_folder(trainer: L.Trainer, name: str) -> Path:
    return Path(trainer.default_root_dir) / "eval" / name
