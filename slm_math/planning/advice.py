"""What to change so that a run fits on its device, each with what it would then take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from slm_math.planning.devices import Device
from slm_math.planning.phases import RunPlan
from slm_math.planning.predict import Setup
from slm_math.policy.lora import Lora

Again = Callable[[Setup], RunPlan]
LEAST = 1024  # positions of a micro-batch; below, a GPU has little to do


@dataclass(frozen=True)
class Change:
    """A change of a configuration.

    Args:
        options: as they are written on the command line.
        plan: what the run takes with it, and with all changes before it.
    """

    options: str
    plan: RunPlan


def changes(setup: Setup, plan: RunPlan, device: Device, again: Again) -> list[Change]:
    """Changes, one after the other, until the run fits; none if it does. The cheapest ones come
    first, and one that saves nothing is left out.

    Args:
        setup: the configuration.
        plan: what it takes.
        device: where it should fit.
        again: the plan of another configuration.
    """
    found: list[Change] = []
    for options, changed in _options(setup, plan, device):
        if plan.peak <= device.memory:
            break
        tried = changed(setup)
        if tried == setup:
            continue
        made = again(tried)
        if made.peak < 0.98 * plan.peak:
            setup, plan = tried, made
            found.append(Change(options, made))
    return found


def _options(
    setup: Setup, plan: RunPlan, device: Device
) -> Iterator[tuple[str, Callable[[Setup], Setup]]]:
    """The options that there are, and what each makes of a configuration."""
    slots = max((setup.slots or 256) // 4, 8)
    yield f"--model.inference.slots {slots}", lambda s: replace(s, slots=slots)
    tokens = min(setup.tokens, plan.positions) // 2
    while tokens >= LEAST:
        fewer = tokens
        yield (
            f"--model.tokens_per_batch {fewer}",
            lambda s, fewer=fewer: replace(s, tokens=fewer),
        )
        tokens //= 2
    if not setup.policy.compile:
        yield (
            "--model.policy.gradient_checkpointing true",
            lambda s: replace(s, policy=replace(s.policy, gradient_checkpointing=True)),
        )
    if setup.policy.quantize == "none" and setup.precision != "bf16-true":
        yield "--trainer.precision bf16-true", lambda s: replace(s, precision="bf16-true")
    if setup.reference == "model":
        yield "--model.objective.beta 0", lambda s: replace(s, reference="none")
    if not setup.policy.has_adapters and len(setup.roles) == 1:
        yield (
            "--model.policy.lora '{}'",
            lambda s: replace(
                s,
                policy=replace(s.policy, lora=Lora(), compile=False),
                reference="base" if s.reference == "model" else s.reference,
            ),
        )
