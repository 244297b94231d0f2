"""LightningDataModules: problems for agents, tokenised dialogues for imitation."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import lightning as L

from slm_math.data.base import Source, Split
from slm_math.data.rows import Row
from slm_math.types import Task

T = TypeVar("T")


class Items(Generic[T]):
    """A batch of plain values. Opaque on purpose: Lightning would walk into lists and dataclasses
    to move tensors.
    """

    def __init__(self, items: list[T]) -> None:
        self.items = items


class Batches(Generic[T]):
    """Batches of `items`, reshuffled every epoch by (seed, epoch); its position is part of a
    checkpoint.

    `size` counts over all ranks; each rank gets its share of every batch. With `length`, items of
    like length meet in a batch (within windows of 16 batches), which keeps padding low. A last
    batch that is not full is dropped in training, except when it is the only one.
    """

    def __init__(
        self,
        items: Sequence[T],
        size: int,
        seed: int = 0,
        shuffle: bool = True,
        length: Callable[[T], int] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        if not items:
            raise ValueError("there is no data to make batches of")
        self.items = items
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.length = length
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0
        self.position = 0  # batches of this epoch that were handed out
        self._plan: tuple[int, list[list[int]]] | None = None  # of which epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.items), self.size)
        return whole + (rest > 0 and (whole == 0 or not self.shuffle))

    def __iter__(self) -> Iterator[Items[T]]:
        """As many batches as an epoch has, from the position on.

        So a trainer that is limited to fewer batches an epoch goes through all of the data in the
        end.
        """
        for _ in range(len(self)):
            yield self.draw()

    def draw(self) -> Items[T]:
        """This rank's share of the next batch; past the end of the order a new one begins."""
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = self.epoch, self.plan()
        if self.position >= len(self._plan[1]):
            self.epoch, self.position = self.epoch + 1, 0
            self._plan = self.epoch, self.plan()
        chosen = self._plan[1][self.position]
        self.position += 1
        return Items([self.items[i] for i in chosen[self.rank :: self.ranks]])

    def plan(self) -> list[list[int]]:
        """The item indices of every batch of this epoch."""
        order = list(range(len(self.items)))
        draw = random.Random(f"{self.seed} {self.epoch}")
        if self.shuffle:
            draw.shuffle(order)
        if self.length is not None:
            window = 16 * self.size
            lengths = [self.length(item) for item in self.items]
            order = [
                i
                for start in range(0, len(order), window)
                for i in sorted(order[start : start + window], key=lengths.__getitem__)
            ]
        batches = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        batches = batches[: len(self)]
        if self.shuffle and self.length is not None:
            draw.shuffle(batches)
        return batches

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


def run_seed(seed: int | None) -> int:
    """`seed`, or when that is None the seed of the run (`--seed_everything`, which Lightning leaves
    here), or 0.
    """
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed


def nothing() -> Batches[None]:
    """A loader for loops that have nothing to do themselves: agents are evaluated by callbacks."""
    return Batches([None], 1, shuffle=False)


class _Module(L.LightningDataModule):
    """Keeps the training loader, so that its position goes into checkpoints."""

    def __init__(self, source: Source, batch_size: int, seed: int | None) -> None:
        super().__init__()
        self.source = source
        self.batch_size = batch_size
        self.seed = run_seed(seed)
        self._loader: Batches[Any] | None = None
        self._state: dict[str, int] | None = None

    def _batches(self, items: Sequence[Any], **options: Any) -> Batches[Any]:
        trainer = self.trainer
        return Batches(
            items,
            self.batch_size,
            self.seed,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
            **options,
        )

    def _training_batches(self, items: Sequence[Any], **options: Any) -> Batches[Any]:
        self._loader = self._batches(items, **options)
        if self._state is not None:
            self._loader.load_state_dict(self._state)
        return self._loader

    def state_dict(self) -> dict[str, Any]:
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch


def take(tasks: list[Task], limit: int | None, seed: int = 0) -> list[Task]:
    """The first `limit` of the tasks in an order shuffled by `seed`, so that a limit is a fair
    sample; all for None.
    """
    if limit is None or limit >= len(tasks):
        return tasks
    chosen = sorted(random.Random(f"take {seed}").sample(range(len(tasks)), limit))
    return [tasks[i] for i in chosen]


def choose(
    tasks: list[Task],
    where: Mapping[str, Any] | None = None,
    shuffle: int | None = None,
    limit: int | None = None,
) -> list[Task]:
    """Those of the tasks whose tags are as `where` says (a value or a list of them), in an order
    shuffled by a seed.

    `limit` takes the first of a shuffled order, else a fair sample (`take`). Raises ValueError for
    a tag, or a value of it, that no problem has.
    """
    every = tasks
    for tag, wanted in (where or {}).items():
        values = {
            str(value) for value in (wanted if isinstance(wanted, (list, tuple)) else [wanted])
        }
        known = {task.problem.tags[tag] for task in every if tag in task.problem.tags}
        if not values <= known:
            has = (
                f"its values are {', '.join(sorted(known))}"
                if known
                else "no problem has such a tag"
            )
            raise ValueError(f"where names {tag} {', '.join(sorted(values - known))}; {has}")
        tasks = [task for task in tasks if task.problem.tags.get(tag) in values]
    if shuffle is None:
        return take(tasks, limit)
    return random.Random(f"shuffle {shuffle}").sample(tasks, len(tasks))[:limit]


class ProblemData(_Module):
    """Problems as they are, for GRPO and evaluation: a batch holds `Task`s.

    Args:
        source: where problems come from.
        batch_size: problems per training step, over all ranks.
        limit: use only so many training problems.
        seed: of the order; the run's own (`--seed_everything`) when left out.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 16,
        limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(source, batch_size, seed)
        self.limit = limit

    def setup(self, stage: str) -> None:
        split: dict[str, Split] = {"fit": "train", "validate": "validation"}
        self.tasks = take(
            self.source.tasks(split.get(stage, "test")),
            self.limit if stage == "fit" else None,
            self.seed,
        )
        if not self.tasks:
            raise ValueError(f"{self.source.name} has no problems in the split for {stage}")
        twice = [
            name for name, n in Counter(task.problem.id for task in self.tasks).items() if n > 1
        ]
        if twice:
            raise ValueError(
                f"{self.source.name}: {len(twice)} problem ids occur twice, for example {twice[0]}"
            )

    def train_dataloader(self) -> Batches[Task]:
        return self._training_batches(self.tasks)

    def more(self) -> Items[Task]:
        """This rank's share of one more batch of training problems, from where the data stand."""
        assert self._loader is not None
        return self._loader.draw()

    def val_dataloader(self) -> Batches[None]:
        return nothing()

    test_dataloader = predict_dataloader = val_dataloader


class ChatData(_Module):
    """Worked dialogues, tokenised with the policy's chat template: a batch holds `Row`s, one batch
    is one step.

    Assistant turns are learnt, with the token that ends them; prompts, user turns and tool output
    are context.

    Args:
        source: where dialogues come from.
        batch_size: rows per optimiser step, over all ranks.
        prompt: the template that problems are asked with; use the one that the evaluated agents
            use.
        max_length: longer rows are left out (and counted aloud), never cut.
        prompt_weight: loss weight of what is outside of assistant turns; 0 masks it.
        limit: use only so many training rows.
        shuffle: a new order every epoch, rows of like length together; False keeps the source's
            order (a curriculum).
        seed: of the order; the run's own (`--seed_everything`) when left out.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 32,
        prompt: str = "solve",
        max_length: int = 1536,
        prompt_weight: float = 0.0,
        limit: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(source, batch_size, seed)
        self.shuffle = shuffle
        self.prompt = prompt
        self.max_length = max_length
        self.prompt_weight = prompt_weight
        self.limit = limit
        self.rows: dict[Split, list[Row]] = {}

    def setup(self, stage: str) -> None:
        wanted: tuple[Split, ...] = ("train", "validation") if stage == "fit" else ("validation",)
        for split in wanted:
            if split not in self.rows:
                self.rows[split] = self.tokenise(split)
        if stage == "fit" and not self.rows["train"]:
            raise ValueError(
                f"{self.source.name} has no worked solutions to learn from (max_length "
                f"{self.max_length})"
            )

    def tokenise(self, split: Split) -> list[Row]:
        chat = self.trainer.lightning_module.chat
        rows = []
        dropped = 0
        for dialogue in self.source.dialogues(split, self.prompt):
            for ids, weights in chat.dialogue(dialogue, self.prompt_weight):
                if len(ids) > self.max_length:
                    dropped += 1
                else:
                    rows.append(Row(tuple(ids), tuple(weights)))
        if dropped and self.trainer.is_global_zero:
            print(
                f"{self.source.name}/{split}: {dropped} of {dropped + len(rows)} rows are longer "
                f"than "
                f"max_length {self.max_length} tokens and are left out"
            )
        if split == "train" and self.limit is not None:
            rows = random.Random(f"limit {self.seed}").sample(rows, min(self.limit, len(rows)))
        return rows

    def train_dataloader(self) -> Batches[Row]:
        length = (lambda row: len(row.ids)) if self.shuffle else None
        return self._training_batches(self.rows["train"], shuffle=self.shuffle, length=length)

    def val_dataloader(self) -> Any:
        rows = self.rows["validation"]
        return self._batches(rows, shuffle=False) if rows else nothing()

    def test_dataloader(self) -> Batches[None]:
        return nothing()

    predict_dataloader = test_dataloader
