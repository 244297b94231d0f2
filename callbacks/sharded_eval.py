"""One agent's evaluation on all ranks of a trainer: each takes a share of the problems, all get all
records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L

from slm_math.callbacks.eval_rewards import TrainingRewards
from slm_math.evaluation.evaluate import Evaluation, Output, Plan, evaluate
from slm_math.evaluation.torch_metrics import AgentMetrics
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import summarize
from slm_math.modules.base import PolicyModule
from slm_math.policy.sharding import whole
from slm_math.records.files import data_hash, data_hash_by_id, write_json, write_records
from slm_math.records.record import Record
from slm_math.rollout.executors import Executors
from slm_math.types import Task


def evaluate_on_all_ranks(
    trainer: L.Trainer,
    module: PolicyModule,
    plan: Plan,
    executors: Executors,
    output: Output,
    label: str,
) -> Evaluation:
    """The evaluation of a plan, the same on all ranks; must be called on all of them.

    With several ranks, each writes its share to `<folder>/rank-<r>`, and rank 0 the whole. `label`
    names the evaluation in the progress display.
    """
    ranks, rank = trainer.world_size, trainer.global_rank
    share = replace(plan, tasks=plan.tasks[rank::ranks])
    folder = output.folder if ranks == 1 else output.folder / f"rank-{rank}"

    seen = correct = 0

    def progress(records: Sequence[Record], samples: int) -> None:
        nonlocal seen, correct
        correct += sum(one.correct for one in records[seen:])
        seen = len(records)
        module.progress(f"eval {label}, accuracy {correct / seen:.3f}", seen, samples)

    evaluation = evaluate(
        share,
        executors,
        replace(output, folder=folder),
        recorder=TrainingRewards(module, plan.seed),
        progress=progress,
    )
    if ranks == 1:
        return evaluation
    metrics = AgentMetrics().to(module.device)
    metrics.update(evaluation.records)
    order = {task.problem.id: number for number, task in enumerate(plan.tasks)}
    records = sorted(metrics.records(), key=lambda one: (order[one.id], one.sample))
    samples = Samples.of(records)
    summary = summarize(samples, uses_python=plan.agent.uses_python)
    of_all = Evaluation(records, samples, summary)
    if rank == 0:
        write_records(output.folder / "records.jsonl", records)
        _write_manifest(output.folder, folder, plan.tasks, len(records))
        data = summary.to_json() | {"partial": False}
        write_json(output.folder / "summary.json", data)
    trainer.strategy.barrier()  # other ranks may read the files, which must be complete
    return of_all


def _write_manifest(folder: Path, share: Path, tasks: Sequence[Task], records: int) -> None:
    """Writes the manifest of all ranks' records, made from that of rank 0's share."""
    data = json.loads((share / "manifest.json").read_text(encoding="utf-8"))
    data["identity"] |= {"problems": len(tasks), "data": data_hash(list(tasks))}
    data["about"] |= {"data_by_id": data_hash_by_id(tasks)}
    of_all = {"folder": folder.as_posix(), "records": records}
    write_json(folder / "manifest.json", data | of_all)


def fingerprint(module: PolicyModule) -> str:
    """A hash of the weights of all roles, trained or frozen; two evaluations of equal hashes ran
    the same model.
    """
    assert module.loaded is not None
    digest = hashlib.blake2b(digest_size=8)
    for parameter in [*module.loaded.parameters(), *module.loaded.frozen_parameters()]:
        digest.update(whole(parameter).detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
