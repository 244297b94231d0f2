"""`slm-math fit | validate | test | predict`: LightningCLI in subclass mode."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch

# warnings of Lightning and torch about each other's internals, which a user cannot change
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
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
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

import callbacks  # noqa: E402
import slm_math.short_names  # noqa: E402, F401
from slm_math.config_files import ConfigFile  # noqa: E402
from slm_math.data.chat_data import ChatData  # noqa: E402, F401
from slm_math.data.problem_data import ProblemData  # noqa: E402, F401
from slm_math.modules.base import PolicyModule  # noqa: E402
from slm_math.modules.grpo import GRPOModule  # noqa: E402, F401
from slm_math.modules.sft import SFTModule  # noqa: E402, F401
from slm_math.parsing import ENV_PREFIX, Parser  # noqa: E402
from slm_math.policy.chat import template_identity  # noqa: E402
from slm_math.policy.loading import free_cores, weights_hash  # noqa: E402
from slm_math.records.environment import environment  # noqa: E402
from slm_math.records.files import configuration, write_json  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)

ROOT = "runs/default"  # default_root_dir of a run whose config sets none


class TrainingParser(Parser, LightningArgumentParser):
    """LightningCLI's parser with short errors."""

    renamed: ClassVar[dict[str, str]] = {
        f"model.{name}": f"model.inference.{name}"
        for name in ("sampling", "engine", "slots", "vllm")
    }


class TrainingCLI(LightningCLI):
    """Builds trainer, module and data from configs; every run has a progress bar, a CSV log and
    checkpoints.
    """

    def __init__(self, args: list[str] | None = None, run: bool = True) -> None:
        super().__init__(
            PolicyModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={"default_env": True, "env_prefix": ENV_PREFIX},
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.pop("dump_header", None)
        parser = TrainingParser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigFile,
            help="a YAML file; may be given several times, later files win",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--torch_threads",
            type=int,
            default=None,
            help="CPU threads of torch; by default the number of free cores",
        )
        quiet = {"trainer.enable_model_summary": False}
        parser.set_defaults(
            {"trainer.num_sanity_val_steps": 0, "trainer.log_every_n_steps": 1} | quiet
        )

    def before_instantiate_classes(self) -> None:
        configuration.set(json.loads(self.parser.dump(self.config, format="json", skip_none=False)))
        config = self.config[self.subcommand] if self.subcommand else self.config
        trainer = config.trainer
        if trainer.gradient_clip_val:
            raise ValueError("trainer.gradient_clip_val has no effect here: set model.optim.clip")
        if trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "trainer.accumulate_grad_batches has no effect here: one optimizer step takes "
                "data.batch_size rows or problems, and model.tokens_per_batch limits the size of a "
                "forward pass"
            )
        folder = Path(trainer.default_root_dir or ROOT) / "checkpoints"
        if config.get("ckpt_path") == "last" and not any(folder.glob("last*.ckpt")):
            raise ValueError(f"--ckpt_path last: there is no checkpoint in {folder}")
        torch.set_num_threads(config.torch_threads or free_cores())
        torch.set_float32_matmul_precision("high")

    def before_fit(self) -> None:
        """Writes the manifest of the run: command, start, weights, engine and environment. The
        configuration is in logs/*/config.yaml.
        """
        path = self.model.policy.path
        data = {
            "command": sys.argv[1:],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "policy": path,
            "weights": None if path is None else weights_hash(path),
            **template_identity(self.model.policy.chat_template),
            "engine": self.model.serving.describe(self.trainer),
            "environment": environment(),
        }
        if self.trainer.is_global_zero:
            write_json(Path(self.trainer.default_root_dir) / "manifest.json", data)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self._get(self.config_init, "trainer", default={})
        root = Path(kwargs.get("default_root_dir") or config.get("default_root_dir") or ROOT)
        extra: list[L.Callback] = [callbacks.RolloutLog(), callbacks.Watchdog()]
        if config.get("enable_progress_bar") is not False:
            extra.append(callbacks.Progress())
        if config.get("enable_checkpointing") is not False:
            extra.append(callbacks.Checkpoints(root / "checkpoints"))
        configured = config.get("callbacks") or []
        configured = configured if isinstance(configured, list) else [configured]
        present = {type(callback) for callback in configured}
        extra = [callback for callback in extra if type(callback) not in present]
        if config.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(root, name="logs")
        if config.get("precision") is None:
            kwargs["precision"] = default_precision(config.get("accelerator"))
        kwargs["default_root_dir"] = str(root)
        self.trainer_defaults["callbacks"] = extra
        return super().instantiate_trainer(**kwargs)


def default_precision(accelerator: str | None) -> str:
    """bf16 autocast over fp32 weights on a GPU with bf16, otherwise fp32."""
    gpu = accelerator in (None, "auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
