"""Rows that change ranks keep their signals, and none is lost or read twice."""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ranks import forked, run_program, wait

RANKS = 3


def work(rank: int, out: Path) -> None:
    """The micro-batches of a rank that has few rows, many, or none."""
    import torch.distributed as dist

    from slm_math.data.rows import Row
    from slm_math.policy.batches import Reading
    from slm_math.policy.teacher import TeacherScores
    from slm_math.rollout.signals import Signals
    from slm_math.rollout.updates import training_batches

    meet = f"file://{out}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=RANKS)
    draw = random.Random(rank)
    rows = []
    for n in range((3, 12, 0)[rank]):
        size = draw.randint(3, 40)
        ids = tuple(1000 * rank + 50 * n + place for place in range(size))
        rows.append(Row(ids, mask=(0.0, 0.0, *(1.0,) * (size - 2)), rollout=n))
    # the signal of a token is its id
    own = torch.tensor([float(each) for row in rows for each in row.ids[2:]])
    teacher = TeacherScores(own, own, states=own[:, None].repeat(1, 4))
    signals = Signals(own + 1, weights=own + 2, old=own + 3, teacher=teacher)
    batches = training_batches(
        rows,
        signals,
        needs_all_rows=True,
        tokens=64,
        device=torch.device("cpu"),
        reading=Reading(packs=True),
    )
    columns: Any = [[], [], [], [], [], []]
    for batch, part in batches:
        assert part.teacher is not None
        values = (batch.targets, part.advantages, part.weights, part.old, part.teacher.logprobs)
        for column, each in zip(columns, (*values, part.teacher.states)):
            column.append(each)
    torch.save([torch.cat(column) for column in columns], out / f"{rank}.pt")
    dist.destroy_process_group()


def test_rows_change_ranks_with_their_signals(tmp_path: Path) -> None:
    run_program(__file__, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    tokens = [len(rank[0]) for rank in ranks]
    assert max(tokens) <= 1.2 * sum(tokens) / RANKS
    ids = torch.cat([rank[0] for rank in ranks])
    assert len(ids.unique()) == len(ids)
    for rank in range(RANKS):
        draw = random.Random(rank)
        sizes = [draw.randint(3, 40) for _ in range((3, 12, 0)[rank])]
        made = {1000 * rank + 50 * n + at for n, size in enumerate(sizes) for at in range(2, size)}
        assert {each for each in ids.tolist() if each // 1000 == rank} == made
    for targets, *signals, teacher, states in ranks:
        for more, signal in enumerate(signals, 1):
            assert torch.equal(signal, targets.float() + more)
        assert torch.equal(teacher, targets.float())
        assert torch.equal(states, targets.float()[:, None].repeat(1, 4))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    wait(*(forked(partial(work, rank, Path(sys.argv[1]))) for rank in range(RANKS)))
