"""`slm-math plan`: what a training run will take, before it starts."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from slm_math.callbacks.agent_eval import AgentEval
from slm_math.eval_options import apply_eval_options
from slm_math.modules.trainer_checks import check_fsdp2, check_precision, check_strategy
from slm_math.planning.advice import Change, changes
from slm_math.planning.devices import DEVICES, Device, device_named, here
from slm_math.planning.of_run import check_sizes, read_for_plan, setup_of, workload_of
from slm_math.planning.phases import RunPlan
from slm_math.planning.predict import predict
from slm_math.planning.process import resident
from slm_math.planning.workload import Workload
from slm_math.policy.threads import set_threads
from slm_math.training import TrainingCLI

FULL = 0.9  # of the memory: more is close to its end


class PlanCLI(TrainingCLI):
    """Builds the module and the data of a config, and neither a trainer nor a run."""

    def before_instantiate_classes(self) -> None:
        config = self.config[str(self.subcommand)]
        apply_eval_options(config)
        if config.trainer.precision is not None:
            check_precision(config.trainer.precision)
        set_threads(config.torch_threads)

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate_classes(self.config)
        self.model = self._get(self.config_init, "model")
        self.datamodule = self._get(self.config_init, "data")

    def after_instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    @property
    def settings(self) -> Any:
        """The options of the trainer."""
        return self._get(self.config_init, "trainer", default={})


def plan(device: str | None = None, json: bool = False) -> None:
    """Predicts what `fit` will take with the same options: memory by phase, tokens and time of a
    step, and what to change if it does not fit. Nothing is trained, and no weights are loaded.

    Takes all options of `fit`, such as --config FILE and --model.tokens_per_batch 2048.

    Args:
        device: cpu, h200, h100, a100, l40s or 4090; by default that of this machine. A CPU is
            measured, GPUs have the figures of their data sheets.
        json: print the plan as JSON.
    """
    run_plan([], device, json)


def run_plan(arguments: Sequence[str], device: str | None, as_json: bool) -> None:
    """`plan` with the options of `fit`."""
    if device is not None and device not in DEVICES:
        raise ValueError(f"--device {device}: it is one of {', '.join(DEVICES)}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # what data modules say of rows that they leave out
        built = PlanCLI(args=["fit", *arguments])
        module, data, settings = built.model, built.datamodule, built.settings
        found = device_named(device or here())
        strategy = str(settings.get("strategy") or "auto")
        check_strategy(strategy)
        ranks, here_too = _ranks(settings)
        if not found.is_gpu:  # whose memory ranks of one machine share
            found = replace(found, memory=found.memory // here_too)
        notes = _read(module, data, ranks)
        if ranks > 1:
            part = "" if found.is_gpu else f", and a machine's is divided among {here_too} of them"
            notes.append(f"{ranks} ranks: the memory is that of each{part}")
        check_sizes(module, data)
        callbacks = settings.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        evaluations = [each for each in callbacks if isinstance(each, AgentEval)]
        workload = workload_of(module, data, evaluations, ranks)
        idle = resident()
        sliced = "fsdp2" in strategy.lower()
        if sliced:
            check_fsdp2(module.policy, module.optim, settings.get("precision"))
        setup = setup_of(module, _precision(settings, found, sliced), ranks, sliced)
        sizes = setup.sizes()

        def again(changed: Any) -> RunPlan:
            own = None if changed.policy != setup.policy else sizes
            return predict(changed, workload, found, idle, sizes=own)

        made = again(setup)
        wanted = changes(setup, made, found, again)
    everything = (*notes, *workload.notes)
    if as_json:
        print(json.dumps(as_dict(made, found, workload, wanted=wanted, notes=everything)))
    else:
        console = Console(width=min(Console().width, 80))
        show(console, made, found, wanted=wanted, notes=everything)


def _ranks(settings: Any) -> tuple[int, int]:
    """Processes in all, and on one machine. Raises ValueError for a number that the machine of the
    run would decide.
    """
    devices = settings.get("devices")
    text = str("auto" if devices is None else devices).strip("[] ")
    if "," in text or isinstance(devices, list):
        own = len(text.rstrip(",").split(","))
    elif text in ("auto", "-1"):
        own = 1
        if devices is not None and text == "-1":
            raise ValueError("trainer.devices -1 is as many as there are: name the number")
    else:
        own = int(text)
    return own * int(settings.get("num_nodes") or 1), own


def _precision(settings: Any, device: Device, sliced: bool) -> str:
    """The trainer's precision on the device."""
    given = settings.get("precision")
    if given is None:
        rounded = "bf16-true" if sliced else "bf16-mixed"
        return rounded if device.is_gpu else "32-true"
    names = {"32": "32-true", "bf16": "bf16-mixed"}
    return names.get(str(given), str(given))


def _read(module: Any, data: Any, ranks: int) -> list[str]:
    """Reads the data; what is wrong if it is not here."""
    try:
        read_for_plan(module, data, ranks)
    except OSError as error:
        return [f"the data cannot be read here ({str(error).splitlines()[0]})"]
    return []


def size(number: float) -> str:
    """Bytes for people."""
    if number >= 10 * 2**30:
        return f"{number / 2**30:.1f} GiB"
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def seconds(number: float) -> str:
    return f"{number:.3g} s"


def show(
    console: Console,
    plan: RunPlan,
    device: Device,
    wanted: Sequence[Change],
    notes: Sequence[str],
) -> None:
    """Prints a plan in at most 80 columns."""
    table = Table(title="memory and time by phase", title_justify="left")
    for name in ("phase", "memory at most", "time of a step"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for phase in plan.phases:
        shown = "" if phase.seconds is None else seconds(phase.seconds)
        table.add_row(phase.name, size(phase.bytes), shown)
    table.add_section()
    table.add_row("all", size(plan.peak), seconds(plan.seconds))
    console.print(table)
    stays = plan.resident
    lines = [
        f"model: {plan.sizes.weights:,} weights, {plan.sizes.trained:,} of them trained",
        f"stays: process {size(plan.idle)}, weights {size(stays.weights)}, reference "
        f"{size(stays.reference + stays.teacher)}, moments {size(stays.moments)}, "
        f"gradients {size(stays.gradients)}",
        f"step: {plan.rows} rows, {plan.tokens:,.0f} tokens; the largest in "
        f"{plan.micro_batches} micro-batches of at most {plan.positions:,} positions",
        f"device {device.name}: {size(device.memory)}, {device}",
        *(f"assumed: {note}" for note in notes),
        *advice(plan, device, wanted),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)


def advice(plan: RunPlan, device: Device, wanted: Sequence[Change]) -> list[str]:
    """What to change."""
    share = plan.peak / device.memory
    if share <= 1:
        tight = " (tight: other programs need memory, too)" if share > FULL else ""
        return [f"it fits: {share:.0%} of the memory, most of it while {plan.highest.name}{tight}"]
    lines = [f"it does not fit: {share:.0%} of the memory, while {plan.highest.name}; change"]
    lines += [f"  {each.options}: {size(each.plan.peak)}" for each in wanted]
    last = wanted[-1].plan.peak if wanted else plan.peak
    if last > device.memory:
        lines.append("  and take a smaller model or a larger device: it still does not fit")
    return lines


def as_dict(
    plan: RunPlan,
    device: Device,
    workload: Workload,
    wanted: Sequence[Change],
    notes: Sequence[str],
) -> dict[str, Any]:
    """A plan as JSON: bytes and seconds."""
    return {
        "device": device.name,
        "device_bytes": device.memory,
        "speeds_measured": device.measured,
        "phases": [vars(phase) for phase in plan.phases],
        "peak_bytes": plan.peak,
        "seconds_per_step": plan.seconds,
        "tokens_per_step": plan.tokens,
        "rows_per_step": plan.rows,
        "micro_batches": plan.micro_batches,
        "positions": plan.positions,
        "flops_per_step": plan.flops,
        "idle_bytes": plan.idle,
        "resident_bytes": vars(plan.resident),
        "weights": plan.sizes.weights,
        "trained": plan.sizes.trained,
        "fits": plan.peak <= device.memory,
        "changes": [{"options": c.options, "peak_bytes": c.plan.peak} for c in wanted],
        "notes": list(notes),
    }
