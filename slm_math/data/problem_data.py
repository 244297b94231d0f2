"""The data module of GRPO and of evaluations: problems."""

from __future__ import annotations

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.batches import Batches, ItemBatch, SourceData, empty_batches
from slm_math.data.selection import sample_tasks
from slm_math.types import Task


class ProblemData(SourceData):
    """Problems for agents: a batch holds `Task`s.

    Args:
        source: the data set.
        batch_size: problems per training step, over all ranks.
        limit: train on a random sample of at most this many problems.
        seed: of the order and the sample; by default the seed of the run (`--seed_everything`).
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 16,
        limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(source, batch_size, seed, limit)

    def setup(self, stage: str) -> None:
        splits: dict[str, Split] = {"fit": "train", "validate": "validation"}
        split = splits.get(stage, "test")
        self.tasks = sample_tasks(
            read_tasks(self.source, split),
            self.limit if stage == "fit" else None,
            self.seed,
        )
        if not self.tasks:
            raise ValueError(f"{self.source.name} has no problems in the split for {stage}")
        self._say_about(split)
        if stage == "fit":
            self._share_out([task.problem.tags.get("source", "") for task in self.tasks])

    def train_dataloader(self) -> Batches[Task]:
        return self._training_batches(self.tasks, parts=self.parts)

    def draw_batch(self) -> ItemBatch[Task]:
        """This rank's share of one further batch of training problems (dynamic sampling)."""
        assert self._loader is not None
        return self._loader.draw()

    more = draw_batch  # the old name, kept for one version

    def val_dataloader(self) -> Batches[None]:
        return empty_batches()

    test_dataloader = predict_dataloader = val_dataloader
