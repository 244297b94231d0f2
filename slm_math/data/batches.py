"""Batches that resume where a run stopped, and the part that the two data modules share."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import lightning as L

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.plans import Plan, dealt, weighted_draws
from slm_math.data.selection import Selected
from slm_math.data.shares import Part, parts_of, shares_line
from slm_math.data.tags import filled, variances
from slm_math.ranges import check_whole

T = TypeVar("T")
Draw: TypeAlias = Literal["uniform", "by_difficulty", "easy_to_hard"]


class ItemBatch(Generic[T]):
    """A batch of plain values. It is no list and no dataclass, because Lightning searches those for
    tensors to move to the device.
    """

    def __init__(self, items: list[T]) -> None:
        self.items = items


class Batches(Generic[T]):
    """Batches of `items` in an order that (seed, epoch) decides; checkpoints contain the position.

    A last batch that is not full is dropped in training, unless it is the only one.

    Args:
        items: what batches are made of.
        size: items per batch, over all ranks; each rank gets its share of every batch.
        seed: of the order.
        shuffle: use a new order in every epoch.
        length: the length of an item. Items of similar length then share a batch (within windows of
            16 batches), which reduces padding, and ranks get shares of about the same length.
        rank: the rank of this process.
        ranks: the number of processes.
        repeat: every epoch has the first so many batches of the first one, again and again.
        restart: every pass begins with the first batch, as a validation must.
        weights: draw each item as often as its weight says, instead of once an epoch. An item that
            was just drawn waits for its turn, so that no batch holds one twice.
        ranking: items come in ascending order of these numbers; equal ones are shuffled.
        parts: what an epoch draws of which items; by default every item once. They need `shuffle`.
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
        repeat: int | None = None,
        restart: bool = False,
        weights: Sequence[float] | None = None,
        ranking: Sequence[float] | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        check_whole("batch_size", size)
        if not items:
            raise ValueError("there is no data to make batches of")
        if weights is not None and (drawable := sum(weight > 0 for weight in weights)) < size:
            raise ValueError(
                f"only {drawable} of {len(items)} problems are drawn at all, fewer than the "
                f"batch_size of {size}"
            )
        self.items = items
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.length = length
        self.rank = rank
        self.ranks = ranks
        self.repeat = repeat
        self.restart = restart
        self.weights = weights
        self.ranking = ranking
        self.parts = parts
        self.epoch = 0
        self.position = 0  # batches of this epoch that were returned
        self.step_start = self.state_dict()  # before the last batch that a loop took
        self._plan: tuple[int, Sequence[list[int]]] | None = None  # (epoch, its batches)

    def __len__(self) -> int:
        full, rest = divmod(len(self.items), self.size)
        return full + (rest > 0 and (full == 0 or not self.shuffle))

    def __iter__(self) -> Iterator[ItemBatch[T]]:
        """As many batches as an epoch has, starting at the position.

        A trainer that stops an epoch early (`limit_train_batches`) therefore continues with the
        remaining data in the next epoch, unless batches `repeat`.
        """
        if self.restart:
            self.epoch = self.position = 0
        for _ in range(len(self)):
            self.step_start = self.state_dict()
            yield self.draw()

    def draw(self) -> ItemBatch[T]:
        """This rank's share of the next batch; a new order starts after the last batch."""
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = self.epoch, self.plan()
        if self.position >= len(self._plan[1]):
            self.epoch, self.position = self.epoch + 1, 0
            self._plan = self.epoch, self.plan()
        indices = self._plan[1][self.position]
        self.position += 1
        own = indices[self.rank :: self.ranks]
        if self._length_of is not None and self.ranks > 1:
            own = dealt(indices, self.ranks, self._length_of)[self.rank]
        return ItemBatch([self.items[i] for i in own])

    def peek(self) -> ItemBatch[T]:
        """What `draw` will return; the position stays."""
        epoch, position, plan = self.epoch, self.position, self._plan
        batch = self.draw()
        self.epoch, self.position, self._plan = epoch, position, plan
        return batch

    def plan(self) -> Sequence[list[int]]:
        """The item indices of every batch of this epoch."""
        epoch = 0 if self.repeat else self.epoch
        order = list(range(len(self.items)))
        if self.parts:
            order = [index for part in self.parts for index in part.drawn(epoch, self.seed)]
        draw = random.Random(f"{self.seed} {epoch}")
        if self.weights is not None:
            order = weighted_draws(self.weights, len(self) * self.size, self.size, draw)
        elif self.shuffle:
            draw.shuffle(order)
        if self.ranking is not None:
            order.sort(key=self.ranking.__getitem__)
        numbers = list(range(min(-(-len(order) // self.size), len(self))))
        if self.shuffle and self.length is not None:
            draw.shuffle(numbers)
        return Plan(order, self.size, numbers[: self.repeat], self._length_of)

    @property
    def _length_of(self) -> Callable[[int], int] | None:
        length = self.length
        return None if length is None else lambda index: length(self.items[index])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


def in_step(trainer: L.Trainer) -> bool:
    """Whether a training batch is taken and not yet trained."""
    batch = trainer.fit_loop.epoch_loop.batch_progress.state_dict()["current"]
    return batch["ready"] != batch["processed"]


def run_seed(seed: int | None) -> int:
    """`seed`; if it is None, the seed of the run (Lightning stores `--seed_everything` in the
    environment), or 0.
    """
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed


def empty_batches() -> Batches[None]:
    """A loader with one empty batch, for Lightning loops in which only callbacks work."""
    return Batches([None], 1, shuffle=False)


class SourceData(L.LightningDataModule):
    """A data module that reads a `Source`. Checkpoints contain the position of its training loader
    in the data.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int | None,
        limit: int | None = None,
        tags: str | None = None,
        where: dict[str, Any] | None = None,
        draw: Draw = "uniform",
    ) -> None:
        super().__init__()
        if draw != "uniform" and tags is None:
            raise ValueError(
                f"data.draw {draw} needs pass rates: measure them with slm-math eval and slm-math "
                "tag, and name the file in data.tags"
            )
        if draw != "uniform" and source.weights is not None:
            raise ValueError(
                f"data.draw {draw} and the weights of {source.name} both decide how often a "
                "problem is drawn: leave one of them out"
            )
        self.draw_by = draw
        check_whole("data.batch_size", batch_size)
        check_whole("data.limit", limit, optional=True)
        self.source = source
        self.where = where
        chosen = Selected(source, tags, where) if tags is not None or where else None
        self.training_source = chosen or source
        self.batch_size = batch_size
        self.limit = limit
        self.seed = run_seed(seed)
        self.parts: list[Part] = []  # of the training data, if it is a mixture
        self._loader: Batches[Any] | None = None
        self._loads_for: L.Trainer | None = None  # whose position the loader has
        self._state: dict[str, int] | None = None  # of a checkpoint, until a loader has it

    def _say_about(self, split: Split) -> None:
        """Prints what a split consists of, if its data set says so."""
        lines = [self.source.about(split)]
        if isinstance(self.training_source, Selected) and split == "train":
            lines.append(self._about_selection(self.training_source))
        for line in filter(None, lines):
            if self.trainer is None or self.trainer.is_global_zero:
                print(line, flush=True)

    def _say_if_unseeing(self, images: bool) -> None:
        """Says that a policy with eyes is trained on data without images, as a mistake may do."""
        chat = getattr(getattr(self.trainer, "lightning_module", None), "chat", None)
        if not images and getattr(chat, "sight", None) and self.trainer.is_global_zero:  # type: ignore[union-attr]
            print(
                f"{self.source.name}/train has no images, and the policy has eyes: it is trained "
                "as a model of text",
                flush=True,
            )

    def _about_selection(self, chosen: Selected) -> str:
        """How many training problems are selected, and how many have no measured tag."""
        all_, some = (len(read_tasks(each, "train", False)) for each in (self.source, chosen))
        untagged = chosen.untagged("train")
        return f"{self.source.name}/train: {some} of {all_} problems are selected" + (
            f"; {untagged} have no tag in {chosen.tags.file}" if untagged and chosen.tags else ""
        )

    def _share_out(self, names: Sequence[str]) -> None:
        """Decides how often the parts of the training data are drawn, and prints it; `names` are
        the parts of its items.
        """
        if not self.source.parts():
            return
        self.parts = parts_of(names, self.source.weights)
        if self.trainer is None or self.trainer.is_global_zero:
            line = shares_line(self.parts)
            print(f"{self.source.name}/train, an epoch: {line}", flush=True)

    def shares(self) -> dict[str, dict[str, int]]:
        """The training items of each part of a mixture, and how many of them an epoch draws."""
        return {part.name: {"items": len(part.indices), "draws": part.draws} for part in self.parts}

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

    def _training_batches(
        self, items: Sequence[Any], rates: Sequence[float | None], **options: Any
    ) -> Batches[Any]:
        """The batches of training, in the order that `draw` says; `rates` are the pass rates of the
        items, `options` those of uniform draws.
        """
        if self.draw_by == "by_difficulty":
            options = {"weights": variances(rates)}
        elif self.draw_by == "easy_to_hard":
            options = {"ranking": [-rate for rate in filled(rates)]}
        else:
            options |= {"parts": self.parts}
        state, self._state = self._state, None
        if state is None and self._loader is not None and self._loads_for is self.trainer:
            state = self._loader.state_dict()  # reloaded within a run
        self._loader, self._loads_for = self._batches(items, **options), self.trainer
        share = self.trainer.overfit_batches  # type: ignore[union-attr]
        if share:  # a number of batches, or a share of them
            count = share if isinstance(share, int) else int(share * len(self._loader))
            self._loader.repeat = max(count, 1)
        if state is not None:
            self._loader.load_state_dict(state)
            self._compare(state)
        return self._loader

    def _order(self) -> dict[str, int]:
        """What decides the order of the training data, besides the epoch."""
        assert self._loader is not None
        return {"items": len(self._loader.items), "batch_size": self.batch_size, "seed": self.seed}

    def _compare(self, state: dict[str, int]) -> None:
        """Says what of the order is not as it was when the state was saved."""
        changed = [
            f"{name} was {state[name]} and is {now}"
            for name, now in self._order().items()
            if state.get(name, now) != now
        ]
        if changed and self.trainer.is_global_zero:  # type: ignore[union-attr]
            print(
                f"the training data is not that of the interrupted run ({', '.join(changed)}): "
                "what is left of the epoch may repeat rows, or leave some out",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """The position in the data; inside a step, which will be repeated, that before it."""
        if self._loader is None:
            return self._state or {}
        inside = self.trainer is not None and in_step(self.trainer)
        position = self._loader.step_start if inside else self._loader.state_dict()
        return position | self._order()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch
