"""Plans of what LightningCLI built: a module, its data, and the settings of a trainer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from slm_math.data.base import read_tasks
from slm_math.data.rows import Row
from slm_math.data.selection import sample_tasks
from slm_math.engines.settings import Inference
from slm_math.modules.base import PolicyModule
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.rollouts import RolloutModule
from slm_math.planning.memory import ReferenceKind
from slm_math.planning.network import teacher_weights
from slm_math.planning.predict import Setup
from slm_math.planning.sharing import Sharing
from slm_math.planning.workload import (
    Decoded,
    Step,
    Workload,
    assumed_rows,
    prompt_of,
    step_of_tasks,
    steps_of_rows,
    without_images,
)
from slm_math.policy.loading import config_of
from slm_math.types import Task

MOST_LAYERS = 1000  # of a network, more than any has
MOST_TOKENS = 1 << 26  # of a step, each of which is looked at
ASKED = 32  # problems of an evaluation whose prompts are looked at


def check_sizes(module: PolicyModule, data: Any) -> None:
    """Raises ValueError for a network or a step of a size that nobody means, at once: a plan would
    build them for hours, if only without numbers.
    """
    scratch = module.policy.scratch
    if scratch is not None:
        layers = scratch.layers
    else:
        text = config_of(module.policy.base).get_text_config(decoder=True)
        layers = getattr(text, "num_hidden_layers", 0)
    if layers > MOST_LAYERS:
        raise ValueError(
            f"the model has {layers:,} layers, and a plan takes at most {MOST_LAYERS:,}"
        )
    problems, longest = data.batch_size, module.policy.context() or 1 << 30
    if isinstance(module, RolloutModule):
        problems = min(problems, len(getattr(data, "tasks", None) or ()) or problems)
        sampled = max(
            module.inference.sampling_of(role).max_new_tokens for role in module.train_roles
        )
        rows, longest = problems * module.group_size, min(longest, sampled)
        options = "data.batch_size, model.group_size or inference.sampling.max_new_tokens"
    else:
        known = len(getattr(data, "rows", {}).get("train") or ())
        rows, longest = min(problems, known or problems), min(longest, data.max_length)
        options = "data.batch_size or data.max_length"
    if rows * longest > MOST_TOKENS:
        raise ValueError(
            f"a step of {rows:,} rows of up to {longest:,} tokens is larger than a plan takes "
            f"({MOST_TOKENS:,} tokens): lower {options}"
        )


def setup_of(module: PolicyModule, precision: str, ranks: int = 1, sliced: bool = False) -> Setup:
    """The configuration of a module's run on so many ranks, with a slice on each if `sliced`."""
    grpo = module if isinstance(module, GRPOModule) else None
    entropy: Any = "nothing"
    if grpo is not None:
        entropy = "gradient" if grpo.objective.entropy else "value"
    return Setup(
        policy=module.policy,
        roles=tuple(module.train_roles),
        frozen=dict(module.frozen),
        chat=module.chat,
        tokens=module.tokens_per_batch,
        precision=precision,
        optimizer=module.optim.kind,
        reference=_reference(module),
        entropy=entropy,
        teacher=_teacher(module),
        slots=module.inference.slots,
        sharing=Sharing(
            kind="slices" if sliced else "moments" if module.optim.sharded else "copies",
            ranks=ranks,
            copy=not module.inference.vllm.servers,
        ),
    )


def _reference(module: PolicyModule) -> ReferenceKind:
    if not module.needs_reference:
        return "none"
    if not module.policy.has_adapters:
        return "model"
    return "copies" if module.policy.adapter or module.moves_reference else "base"


def _teacher(module: PolicyModule) -> int:
    """Bytes of a teacher's own copies; the policy's base serves its adapters, too."""
    teaching = module.teaching if isinstance(module, GRPOModule) else None
    if teaching is None:
        return 0
    teacher = teaching.teacher
    own = set(teacher.paths(module.train_roles).values())
    each = 2 if teacher.dtype in ("bfloat16", "float16") else 4
    return sum(each * teacher_weights(path) for path in own)


def workload_of(
    module: PolicyModule, data: Any, evaluations: Sequence[Any], ranks: int = 1
) -> Workload:
    """What a run does; `data` may have been read, or not.

    Args:
        module: what learns.
        data: its data module; rows and problems are taken to be as long as they may be if they were
            not read.
        evaluations: the trainer's callbacks of that kind.
        ranks: processes, which share the rows of a step.
    """
    size = max(data.batch_size // ranks, 1)
    evaluated = [each for one in evaluations for each in _evaluated(module, data, one)]
    notes: list[str] = []
    if isinstance(module, RolloutModule):
        tasks = list(getattr(data, "tasks", None) or [])
        if not tasks:
            notes.append("the problems are not here: their prompts are taken to have 256 tokens")
        steps = [problems_step(module, some) for some in _samples(tasks, size)]
        notes.append("replies are taken to be as long as they may be, and to have one turn")
        made = tuple(sorted(steps, key=lambda step: step.tokens))
    else:
        rows: Sequence[Row] = getattr(data, "rows", {}).get("train") or ()
        if not rows:
            length = min(data.max_length, module.policy.context() or data.max_length)
            rows = assumed_rows(length, size)
            notes.append(f"the data is not here: all rows are taken to have {length} tokens")
        by_length = bool(getattr(data, "shuffle", False)) and data.draw_by == "uniform"
        made = steps_of_rows(seen_rows(module, rows), size, by_length)
    return Workload(made, tuple(evaluated), tuple(notes))


def seen_rows(module: PolicyModule, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows as long as the module's network reads them, without their images."""
    return _Seen(rows, module.chat.sight)


class _Seen(Sequence[Row]):
    """Rows as long as a network with eyes reads them, without their images."""

    def __init__(self, rows: Sequence[Row], sight: Any) -> None:
        self._rows, self._sight = rows, sight

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        row = self._rows[index]
        return without_images(row, self._sight) if row.images else row


def problems_step(module: RolloutModule, tasks: Sequence[Task | None]) -> Step:
    """The step on these problems."""
    return step_of_tasks(module, tasks, module.inference.slots)


def _samples(tasks: Sequence[Task], size: int) -> list[list[Task | None]]:
    """A few samples of `size` problems."""
    if not tasks:
        return [[None] * size]
    draw = random.Random(0)
    count = min(size, len(tasks))
    return [list(draw.sample(list(tasks), count)) for _ in range(4)]


def _evaluated(module: PolicyModule, data: Any, one: Any) -> list[Decoded]:
    """What an `AgentEval` decodes."""
    inference: Inference = one.inference
    slots = module.inference.slots
    made = []
    for source in one.sources.values() if one.sources else [data.source]:
        try:
            tasks = sample_tasks(read_tasks(source, one.split), one.limit)
        except (OSError, ValueError):  # not downloaded
            tasks = []
        count = len(tasks) or one.limit or ASKED
        for agent in one.agents.values():
            role = agent.roles[0]
            seen = [prompt_of(module, agent, task, role) for task in tasks[:ASKED] or [None]]
            lengths = [len(seen[n % len(seen)]) for n in range(count)]
            sampling = inference.sampling_of(role)
            made.append(Decoded(tuple(lengths), one.samples, sampling, slots))
    return made


def read_for_plan(module: PolicyModule, data: Any, ranks: int = 1) -> None:
    """Reads the training data as a trainer would."""
    data.trainer = _Standing(module, ranks)
    data.setup("fit")


class _Standing:
    """What data modules ask a trainer for."""

    is_global_zero, global_rank, overfit_batches = False, 0, 0.0

    def __init__(self, module: PolicyModule, ranks: int) -> None:
        self.lightning_module, self.world_size = module, ranks
