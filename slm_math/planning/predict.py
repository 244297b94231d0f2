"""The plan of a run: what each phase takes in memory and time, and how much of it there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from slm_math.losses.logprobs import Wanted
from slm_math.planning.devices import CONTEXT, Device
from slm_math.planning.memory import (
    ReferenceKind,
    Resident,
    cache_bytes,
    logits_bytes,
    muon_bytes,
    resident_bytes,
    running,
    slot_bytes,
)
from slm_math.planning.network import Sizes, captures, network, on_cpu, others_of
from slm_math.planning.phases import Phase, RunPlan, merged
from slm_math.planning.rehearsal import LAYERS, Rehearsed, rehearse, shapes_only
from slm_math.planning.sharing import ALONE, Sharing
from slm_math.planning.workload import Decoded, Workload
from slm_math.policy.architectures import packs
from slm_math.policy.batches import Reading, collate
from slm_math.policy.compiling import layers_of
from slm_math.policy.config import Policy
from slm_math.policy.forward import Inputs, hidden_states, inner, language_head
from slm_math.policy.loaded import LoadedPolicy, batch_logprobs, loss_states

# What glibc's heap holds in gaps, as a multiple of all arrays below 32 MiB that the forward pass of
# a layer makes: torch asks for aligned blocks, for which a gap that one of the same size left is
# too small. With adapters, what is saved of their few ranks lies between the large arrays, so that
# gaps do not grow together. Both were measured (docs/planning.md).
GAPS, ADAPTER_GAPS = 2.0, 3.2


@dataclass(frozen=True)
class Setup:
    """What decides how much a run takes, besides its data.

    Args:
        policy: the model.
        roles: the trained roles.
        frozen: roles with adapters that are never trained.
        chat: the policy's chat format.
        tokens: the most positions of a forward and backward pass.
        precision: the trainer's.
        optimizer: its kind.
        reference: what the reference is.
        entropy: what the loss needs of the entropy.
        teacher: bytes of a teacher's weights.
        slots: requests that are decoded at once.
        sharing: what ranks share.
    """

    policy: Policy
    roles: tuple[str, ...]
    frozen: dict[str, str]
    chat: Any
    tokens: int
    precision: str
    optimizer: str
    reference: ReferenceKind = "none"
    entropy: Wanted = "nothing"
    teacher: int = 0
    slots: int | None = None
    sharing: Sharing = ALONE

    @property
    def rounded(self) -> bool:
        return self.precision == "bf16-true"

    def network(self, layers: int | None = None) -> LoadedPolicy:
        """The network, see `planning.network.network`."""
        return network(
            self.policy,
            self.roles,
            self.frozen,
            sight=self.chat.sight,
            tokenizer=self.chat.tokenizer,
            layers=layers,
            rounded=self.rounded,
        )

    def sizes(self) -> Sizes:
        return Sizes.of(self.network())

    def whole(self, sizes: Sizes) -> Resident:
        """What stays in memory if one process has all of it."""
        return resident_bytes(
            sizes,
            rounded=self.rounded,
            quantized=self.policy.quantize == "nf4",
            optimizer=self.optimizer,
            reference=self.reference,
            teacher=self.teacher,
        )

    def room(self, sizes: Sizes, memory: int) -> tuple[int, int, int]:
        """What decoding has on a device with so much memory: bytes of a token's keys and values,
        this memory, and positions of the context.
        """
        token = sizes.token // (2 if self.precision != "32-true" else 1)
        return token, memory, self.policy.context() or 1 << 30

    def casts(self) -> AbstractContextManager[Any]:
        """What forward passes run in."""
        if self.precision == "bf16-mixed":
            return torch.autocast("cpu", torch.bfloat16)
        return nullcontext()


def predict(
    setup: Setup, workload: Workload, device: Device, idle: int, sizes: Sizes | None = None
) -> RunPlan:
    """What a run takes.

    Args:
        setup: its configuration.
        workload: its steps.
        device: where it runs.
        idle: bytes of the process without a model.
        sizes: of the network, if they are known.
    """
    sizes = sizes or setup.sizes()
    step, sharing = workload.largest, setup.sharing
    process = CONTEXT if device.is_gpu else idle
    with _Stage(setup, sizes, device) as stage:
        chunks = step.chunks(setup.tokens, stage.packs)
        several = len(chunks) > 1
        shape = {"rounded": setup.rounded, "adapters": setup.policy.has_adapters, "again": several}
        # by every rank, into the processor's memory
        loading = process + setup.whole(sizes).networks
        resident = resident_of(setup, sizes, again=several)
        base = process + resident.networks
        if any(one.sampled for one in workload.steps) or workload.evaluated:
            base += sharing.decoding(sizes, setup.rounded)
        decodes = [each for one in workload.steps for each in one.sampled] + [*workload.evaluated]
        held = max(map(stage.held, decodes), default=0)
        stays = base + resident.moments
        update = stage.update(chunks[0], again=several)
        scale = workload.tokens / max(sum(len(row.ids) for row in chunks[0]), 1)
        phases = [Phase("loading", base if device.is_gpu else max(base, loading))]
        for each in step.sampled:
            phases.append(Phase("sampling", *stage.sampled(each, stays)))
        stays += held
        if setup.reference != "none":
            made = stage.scored(chunks[0])
            phases.append(Phase("reference", stays + made.bytes, made.seconds * scale))
        gradients = resident.gradients if several else 0
        most = max(update.bytes + gradients, resident.gradients) + sharing.passing(sizes, **shape)
        phases.append(Phase("update", stays + most, update.seconds * scale))
        moved = 28 * sizes.trained / device.bandwidth
        turned = muon_bytes(sizes) if setup.optimizer == "muon" else 0
        all_moments = stays + resident.gradients + turned
        phases.append(Phase("optimizer", all_moments, moved))
        for each in workload.evaluated:
            phases.append(Phase("evaluation", stage.sampled(each, base + resident.moments)[0]))
    return RunPlan(
        phases=tuple(merged(phases)),
        sizes=sizes,
        resident=resident,
        idle=idle,
        tokens=workload.tokens,
        positions=stage.positions,
        micro_batches=len(chunks),
        rows=len(step.rows),
        flops=update.flops * scale,
    )


def resident_of(setup: Setup, sizes: Sizes, again: bool) -> Resident:
    """What stays in the memory of a rank; `again` if a step has several micro-batches."""
    return setup.sharing.own(
        setup.whole(sizes),
        sizes,
        rounded=setup.rounded,
        adapters=setup.policy.has_adapters,
        again=again,
    )


class _Stage:
    """Where work is rehearsed: two layers of the network."""

    def __init__(self, setup: Setup, sizes: Sizes, device: Device) -> None:
        self.setup = setup
        self.sizes = sizes
        self.device = device
        self.positions = 0  # of the largest micro-batch
        self._mode: Any = None

    def __enter__(self) -> _Stage:
        loaded = self.setup.network(min(LAYERS, self.sizes.layers))
        self._mode = shapes_only()
        self._mode.__enter__()
        self.loaded = on_cpu(loaded)
        self.layer = layers_of(inner(self.loaded.model))[-1]
        self.packs = packs(self.loaded.model)
        return self

    def __exit__(self, *reason: Any) -> None:
        self._mode.__exit__(*reason)

    def _rehearsed(self, work: Callable[[], Any], gradients: int = 0) -> Rehearsed:
        made = rehearse(
            work, self.layer, others_of(self.sizes), device=self.device, gradients=gradients
        )
        factor = ADAPTER_GAPS if self.setup.policy.has_adapters else GAPS
        gaps = 0 if self.device.is_gpu else int(factor * made.cycled)
        return replace(made, bytes=made.bytes + gaps)

    def _batch(self, rows: Any) -> Any:
        with _real():
            return collate(rows, reading=Reading(packs=self.packs))

    def update(self, rows: Any, again: bool) -> Rehearsed:
        """A forward and backward pass; `again` if there are gradients already."""
        batch = self._batch(rows)
        self.positions = batch.positions
        own = sum(p.numel() * 4 for p in self.layer.parameters() if p.requires_grad)

        def work() -> None:
            with self.setup.casts(), self.loaded.use(batch.role) as model:
                states = loss_states(model, batch)
                logprobs, entropies, _ = batch_logprobs(model, batch, states, self.setup.entropy)
                loss = -(logprobs * batch.mask).sum()
                if self.setup.entropy == "gradient":
                    loss = loss - entropies.sum()
                loss.backward()

        if again:
            for parameter in self.loaded.parameters():
                parameter.grad = torch.zeros(parameter.shape, dtype=torch.float32)
            own = 0
        adapters = self.setup.policy.has_adapters
        return self._rehearsed(work, self.setup.sharing.gradients(own, adapters, again))

    def scored(self, rows: Any) -> Rehearsed:
        """A forward pass without gradients."""
        batch = self._batch(rows)

        def work() -> None:
            with torch.no_grad(), self.setup.casts(), self.loaded.use(batch.role) as model:
                batch_logprobs(model, batch, loss_states(model, batch))

        return self._rehearsed(work)

    def read(self, rows: int, tokens: int) -> Rehearsed:
        """The logits after the last of the tokens of so many prompts."""

        def work() -> None:
            model = self.loaded.model
            with torch.no_grad(), self.setup.casts():
                states = hidden_states(model, Inputs.of_rows(torch.zeros(rows, tokens).long()))
                language_head(model)(states[:, -1])

        return self._rehearsed(work)

    @cached_property
    def _captured(self) -> bool:
        """Whether decoding steps are captured."""
        return self.device.is_gpu and captures(self.loaded.model)

    def _room(self) -> tuple[int, int, int]:
        return self.setup.room(self.sizes, self.device.memory)

    def held(self, decoded: Decoded) -> int:
        """Bytes of keys and values that decoding leaves in use."""
        return slot_bytes(decoded, *self._room()) if self._captured else 0

    def sampled(self, decoded: Decoded, base: int) -> tuple[int, float]:
        """The most memory and the seconds of decoding, with `base` bytes in use."""
        device, sizes = self.device, self.sizes
        token, _, context = self._room()
        rows = running(decoded, token, device.memory)
        prompts = min(len(decoded.prompts), rows)
        longest = max(decoded.prompts)
        reads, steps = self.read(prompts, longest), self.read(rows, 1)
        cache = cache_bytes(decoded, *self._room(), captured=self._captured)
        chosen = logits_bytes(rows, sizes.vocabulary, {decoded.sampling.temperature: None})
        bytes_ = max(reads.bytes + prompts * longest * token, chosen + steps.bytes) + cache
        length = min(decoded.sampling.max_new_tokens, max(context - longest, 1))
        waves = -(-decoded.requests // rows)
        remembered = rows * (longest + length / 2) * token / device.bandwidth
        seconds = reads.seconds + length * (steps.seconds + remembered)
        return base + bytes_, waves * seconds


@contextmanager
def _real() -> Iterator[None]:
    """Tensors that are made inside have numbers, also within `shapes_only`."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():
        yield
