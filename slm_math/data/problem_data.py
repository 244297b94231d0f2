"""The data module of GRPO and of evaluations: problems."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.batches import Batches, Draw, ItemBatch, SourceData, empty_batches
from slm_math.data.selection import sample_tasks
from slm_math.data.tags import pass_rates
from slm_math.starting import starting
from slm_math.types import Task


class ProblemData(SourceData):
    """Problems for agents: a batch holds `Task`s.

    Args:
        source: the data set.
        batch_size: problems per training step, over all ranks.
        limit: train on a random sample of at most this many problems.
        seed: of the order and the sample; by default the seed of the run (`--seed_everything`).
        tags: a file of measured tags (`slm-math tag`) for the training problems.
        where: train only on problems with these tags, for example {level: [4, 5]}, or, of measured
            tags, in a range: {pass_rate: [0.1, 0.9]}.
        draw: `uniform` shows every problem once an epoch; `by_difficulty` draws a problem with the
            pass rate p in proportion to p (1 - p), the variance of its reward; `easy_to_hard` shows
            every problem once an epoch, the highest pass rates first. Problems without a pass rate
            count as the mean of the others.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 16,
        limit: int | None = None,
        seed: int | None = None,
        tags: str | None = None,
        where: dict[str, Any] | None = None,
        draw: Draw = "uniform",
    ) -> None:
        super().__init__(source, batch_size, seed, limit=limit, tags=tags, where=where, draw=draw)

    def setup(self, stage: str) -> None:
        splits: dict[str, Split] = {"fit": "train", "validate": "validation"}
        split = splits.get(stage, "test")
        starting(f"reading {self.source.name}/{split}")
        self.tasks = sample_tasks(
            read_tasks(self.training_source if stage == "fit" else self.source, split),
            self.limit if stage == "fit" else None,
            self.seed,
        )
        if not self.tasks:
            where = f" with {self.where}" if stage == "fit" and self.where else ""
            raise ValueError(f"{self.source.name} has no problems in the split for {stage}{where}")
        self._say_about(split)
        if stage == "fit":
            self._say_if_unseeing(any(task.problem.images for task in self.tasks))
            self._share_out([task.problem.tags.get("source", "") for task in self.tasks])

    def leave_out(self, problems: Collection[str], reason: str) -> None:
        """Trains without some problems, named by their ids, and says how many there are.

        Raises ValueError if no other one is left.
        """
        kept = [task for task in self.tasks if task.problem.id not in problems]
        what = f"{len(self.tasks) - len(kept)} of {len(self.tasks)} problems {reason}"
        if not kept:
            raise ValueError(f"{self.source.name}: {what}, and there are no others")
        self.tasks = kept
        if self.trainer is None or self.trainer.is_global_zero:
            print(f"{self.source.name}: {what} and are left out", flush=True)
        self._share_out([task.problem.tags.get("source", "") for task in kept])

    def train_dataloader(self) -> Batches[Task]:
        return self._training_batches(self.tasks, pass_rates(self.tasks))

    def draw_batch(self) -> ItemBatch[Task]:
        """This rank's share of one further batch of training problems (dynamic sampling)."""
        assert self._loader is not None
        return self._loader.draw()

    def next_batch(self) -> ItemBatch[Task]:
        """This rank's share of the batch that training will take next."""
        assert self._loader is not None
        return self._loader.peek()

    more = draw_batch  # the old name, kept for one version

    def val_dataloader(self) -> Batches[None]:
        return empty_batches()

    test_dataloader = predict_dataloader = val_dataloader
