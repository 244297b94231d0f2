"""`slm-math fit | validate | test | predict`: LightningCLI in subclass mode."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml

# warnings of Lightning and torch about each other's internals, which a user cannot change
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
warnings.filterwarnings("ignore", message=".*no pre-optimization state was saved.*")
# callbacks and modules log metrics that are already those of all ranks
warnings.filterwarnings("ignore", message=r".*sync_dist=True.*")
# correct, and intended, if the first batch has no loss tokens
warnings.filterwarnings("ignore", message=r".*lr_scheduler.step\(\)` before `optimizer.step.*")

import lightning as L  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

import slm_math.short_names  # noqa: E402, F401
from slm_math import callbacks  # noqa: E402
from slm_math.callbacks.monitors import check_monitors  # noqa: E402
from slm_math.command_table import form  # noqa: E402
from slm_math.config_files import ConfigFile  # noqa: E402
from slm_math.control_arms import begin_arm, check_images, chosen_arms, make_arm  # noqa: E402
from slm_math.data.chat_data import ChatData  # noqa: E402, F401
from slm_math.data.problem_data import ProblemData  # noqa: E402, F401
from slm_math.eval_options import add_eval_options, agent_evals, apply_eval_options  # noqa: E402
from slm_math.evaluation.controls import print_arms  # noqa: E402
from slm_math.modules.base import PolicyModule  # noqa: E402
from slm_math.modules.grpo import GRPOModule  # noqa: E402, F401
from slm_math.modules.sft import SFTModule  # noqa: E402, F401
from slm_math.modules.trainer_checks import (  # noqa: E402
    check_callbacks,
    check_devices,
    check_end,
    check_precision,
    check_shared,
    check_strategy,
    check_trainer,
)
from slm_math.parsing import CONFIG_HELP, ENV_PREFIX, RENAMED, Parser  # noqa: E402
from slm_math.policy.threads import set_threads  # noqa: E402
from slm_math.records.files import configuration, control  # noqa: E402
from slm_math.records.redaction import without_secrets  # noqa: E402
from slm_math.records.run_folder import read_run  # noqa: E402
from slm_math.resuming import begin, is_first_rank  # noqa: E402
from slm_math.run_loggers import loggers_of, prepare_loggers, remove_empty  # noqa: E402
from slm_math.stopping import say  # noqa: E402
from slm_math.trackio_logger import TrackioLogger  # noqa: E402, F401

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # their reports

ROOT = "runs/default"  # default_root_dir of a run whose config sets none


class TrainingParser(Parser, LightningArgumentParser):
    """LightningCLI's parser with short errors."""

    renamed: ClassVar[dict[str, str]] = RENAMED

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The text of a configuration. All of it was checked when it was parsed, and is not checked
        again, which takes as long as to parse it.
        """
        return super().dump(*args, **({"skip_validation": True} | kwargs))


class SaveConfig(SaveConfigCallback):
    """Writes the configuration beside the log of metrics, and hands it to all loggers as
    hyper-parameters, in both without secrets.
    """

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        values = plain(self.parser, self.config)
        for logger in trainer.loggers:
            logger.log_hyperparams(values)
        logs = [logger.log_dir for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        # ours is the last one; without a logger, the trainer's root
        folder = Path(logs[-1] if logs else trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / "config.yaml.new"
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        new.write_text(text, encoding="utf-8")
        new.replace(folder / "config.yaml")


class TrainingCLI(LightningCLI):
    """Builds trainer, module and data from configs; every run has a progress bar, a CSV log and
    checkpoints. With `arm` the run is that control arm of the run that the arguments describe.
    """

    def __init__(
        self, args: list[str] | None = None, run: bool = True, arm: str | None = None
    ) -> None:
        self._command = args[0] if args and run else None
        self.arm = arm
        self.arms: list[str] = []  # which shall follow
        super().__init__(
            PolicyModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
            auto_configure_optimizers=False,
            parser_kwargs={"default_env": True, "env_prefix": ENV_PREFIX},
            args=args,
            run=run,
        )

    def subcommands(self) -> dict[str, set[str]]:
        """Lightning's subcommands, and what their methods take; of a command that is known only its
        own, because the parser of each takes a while.
        """
        known = super().subcommands()
        return {name: known[name] for name in known if name == self._command or not self._command}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.pop("dump_header", None)
        parser = TrainingParser(**{"usage": form(self._command or "fit")} | kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigFile,
            help=CONFIG_HELP,
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--torch_threads",
            type=int,
            default=None,
            help="CPU threads of torch; by default the number of free cores (of all cores if "
            "inference.deterministic), and on resume that of the interrupted run",
        )
        parser.add_argument(
            "--controls",
            type=str | list[str] | None,
            default=None,
            help="control arms that `fit` trains after the run, in <root>/controls: random_reward, "
            "format_only, shuffled_gold, blank_images; several with commas between them",
        )
        add_eval_options(parser)
        quiet = {"trainer.enable_model_summary": False}
        parser.set_defaults(
            {"trainer.num_sanity_val_steps": 0, "trainer.log_every_n_steps": 1} | quiet
        )

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        apply_eval_options(config)
        self._set_arms(config)
        configuration.set(plain(self.parser, self.config))
        trainer = config.trainer
        if trainer.gradient_clip_val:
            raise ValueError("trainer.gradient_clip_val has no effect here: set model.optim.clip")
        if trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "trainer.accumulate_grad_batches has no effect here: one optimizer step takes "
                "data.batch_size rows or problems, and model.tokens_per_batch limits the size of a "
                "forward pass"
            )
        check_devices(trainer.devices, trainer.accelerator)
        check_strategy(str(trainer.strategy))  # by its name, before its packages are asked for
        if trainer.precision is not None:
            check_precision(trainer.precision)
        prepare_loggers(trainer.logger, Path(trainer.default_root_dir or ROOT))
        if self.subcommand is not None:
            begin(self.subcommand, config, Path(trainer.default_root_dir or ROOT))
        set_threads(
            config.torch_threads, bool(config.get("model.init_args.inference.deterministic"))
        )
        torch.set_float32_matmul_precision("high")

    def _set_arms(self, config: Any) -> None:
        """Finds the arms that shall follow, or makes the configuration that of an arm."""
        if self.subcommand != "fit":
            return
        config.trainer.default_root_dir = config.trainer.default_root_dir or ROOT
        root = Path(config.trainer.default_root_dir)
        if chosen := chosen_arms(config):
            for evaluation in agent_evals(config):
                evaluation["init_args"]["at_start"] = True  # gains are since then
        if self.arm is None:
            self.arms = chosen
            control.set(None)
        else:
            make_arm(config, self.arm)
            control.set({"arm": self.arm, "run": read_run(root).get("run")})

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self._get(self.config_init, "trainer", default={})
        root = Path(kwargs.get("default_root_dir") or config.get("default_root_dir") or ROOT)
        if config.get("fast_dev_run"):  # a trial leaves nothing behind, as Lightning promises
            self._trial = tempfile.TemporaryDirectory(prefix="slm-math-")
            root = Path(self._trial.name)
        extra: list[L.Callback] = [
            callbacks.RolloutLog(),
            callbacks.Status(),
            callbacks.StopReason(),
            callbacks.Summary(),
            callbacks.Watchdog(),
        ]
        if config.get("enable_progress_bar") is not False:
            extra.append(callbacks.Progress())
        if config.get("enable_checkpointing") is not False:
            extra.append(callbacks.Checkpoints())
        configured = config.get("callbacks") or []
        configured = configured if isinstance(configured, list) else [configured]
        extra = [new for new in extra if not any(isinstance(old, type(new)) for old in configured)]
        kwargs["logger"] = loggers_of(config.get("logger"), root)
        if config.get("precision") is None:
            strategy = str(kwargs.get("strategy") or config.get("strategy"))
            kwargs["precision"] = default_precision(config.get("accelerator"), strategy)
        kwargs["default_root_dir"] = str(root)
        self.trainer_defaults["callbacks"] = extra
        for callback in configured:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                # Lightning's default is a folder of the logger, a new one in every session
                callback.dirpath = str(root.absolute() / "checkpoints")
        trainer = super().instantiate_trainer(**kwargs)
        check_trainer(trainer)
        check_callbacks(trainer)
        return trainer

    def after_instantiate_classes(self) -> None:
        if self.subcommand == "fit":
            # also before other ranks are started, which would say the same
            check_shared(self.trainer, self.model)
            check_end(self.trainer, self.model.optim)
            check_monitors(self.trainer, self.model)
            check_images(self.arms, self.datamodule.source)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            if is_first_rank():
                remove_empty(self.trainer)
            raise


def train(arguments: list[str]) -> TrainingCLI | None:
    """A training command, then the control arms that its configuration names, one after the other
    in this process.
    """
    cli = TrainingCLI(args=arguments)
    arms, root = cli.arms, Path(cli.trainer.default_root_dir)
    if not arms or cli.trainer.fast_dev_run:
        return cli
    del cli  # before the next model is loaded
    for number, arm in enumerate(arms, 1):
        begin_arm(root, arm)
        say(f"control arm {arm} ({number} of {len(arms)})")
        TrainingCLI(args=arguments, arm=arm)
    if is_first_rank():
        print_arms(root)
    return None


def default_precision(accelerator: str | None, strategy: str = "auto") -> str:
    """On a GPU with bf16, bf16 autocast over fp32 weights, or, where these are shared out, weights
    that are rounded to bf16; otherwise fp32.
    """
    gpu = accelerator in (None, "auto", "gpu", "cuda") and torch.cuda.is_available()
    if not gpu or not torch.cuda.is_bf16_supported():
        return "32-true"
    return "bf16-true" if "fsdp2" in strategy.lower() else "bf16-mixed"


def plain(parser: Any, config: Any) -> Any:
    """A configuration as plain data, without secrets."""
    return without_secrets(json.loads(parser.dump(config, format="json", skip_none=False)))
