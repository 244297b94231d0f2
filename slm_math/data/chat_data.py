"""The data module of supervised fine-tuning: tokenized dialogues."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from slm_math.collection import without_collection
from slm_math.data.base import Source, Split, read_dialogues, read_tasks
from slm_math.data.batches import Batches, Draw, SourceData, empty_batches
from slm_math.data.rows import Row
from slm_math.data.tags import pass_rates
from slm_math.data.written import Rows, Written
from slm_math.images import chat_images
from slm_math.ranges import check_number, check_whole
from slm_math.starting import starting
from slm_math.types import Chat, Image


class ChatData(SourceData):
    """Demonstrations, tokenized with the chat template of the policy: a batch holds `Row`s, and one
    batch is one optimizer step.

    The loss tokens are those of the assistant's turns, with the token that ends each turn. Prompts,
    user turns and tool output are context.

    Args:
        source: the data set.
        batch_size: rows per optimizer step, over all ranks.
        prompt: the prompt template that asks for a solution; use that of the evaluated agents.
        max_length: leave out rows of more tokens than this, or than the model's context; their
            number is printed. No row is truncated.
        prompt_weight: loss weight of the tokens outside of the assistant's turns; 0 masks them.
        limit: train on a random sample of at most this many rows.
        shuffle: use a new order in every epoch, with rows of similar length in a batch; False keeps
            the order of the source (a curriculum).
        seed: of the order and the sample; by default the seed of the run (`--seed_everything`).
        tags: a file of measured tags (`slm-math tag`) for the training problems.
        where: train only on worked solutions of problems with these tags, for example {level: [4,
            5]}, or, of measured tags, in a range: {pass_rate: [0.1, 0.9]}.
        draw: `uniform` shows every row once an epoch; `by_difficulty` draws a row whose problem has
            the pass rate p in proportion to p (1 - p); `easy_to_hard` shows every row once an
            epoch, the highest pass rates first. Problems without a pass rate count as the mean of
            the others, and rows of different length share a batch.
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
        tags: str | None = None,
        where: dict[str, Any] | None = None,
        draw: Draw = "uniform",
    ) -> None:
        super().__init__(source, batch_size, seed, limit=limit, tags=tags, where=where, draw=draw)
        check_whole("data.max_length", max_length, low=2)
        check_number("data.prompt_weight", prompt_weight, low=0)
        if not shuffle and source.weights is not None:
            raise ValueError(
                "data.shuffle: false keeps the order of the source, which weights change"
            )
        if not shuffle and draw != "uniform":
            raise ValueError(
                f"data.shuffle: false keeps the order of the source, which data.draw {draw} "
                "changes: leave one of them out"
            )
        self.shuffle = shuffle
        self.prompt = prompt
        self.max_length = max_length
        self.prompt_weight = prompt_weight
        self.rows: dict[Split, Sequence[Row]] = {}
        self.rates: list[float | None] = []  # of the problems of the training rows
        self._read: list[Chat] = []  # the training dialogues, until training begins

    def setup(self, stage: str) -> None:
        splits: tuple[Split, ...] = ("train", "validation") if stage == "fit" else ("validation",)
        for split in splits:
            if split not in self.rows:
                starting(f"reading {self.source.name}/{split}")
                with without_collection():
                    self.rows[split] = self.tokenize(split)
                self._say_about(split)
        if stage == "fit" and not self.rows["train"]:
            longest, reason = self._longest()
            short = "" if self._unsolved("train") else f" (of at most {longest} tokens: {reason})"
            answers = "" if short else ": answers alone are for GRPO (grpo/solver)"
            raise ValueError(
                f"{self.source.name} has no worked solutions to train on{short or answers}"
            )

    def tokenize(self, split: Split) -> Rows:
        """The rows of a split; training rows only up to `limit`. What nothing here depends on is
        encoded when it is trained on.
        """
        module: Any = self.trainer.lightning_module
        chat, role = module.chat, module.train_roles[0]
        closed = chat.closed_thoughts
        rows: list[Row | Written] = []
        origins: list[tuple[str, float | None]] = []  # parts and pass rates of the rows
        refused: list[str] = []
        shown = False  # whether there is an image
        for name, rate, dialogue in self._dialogues(split):
            images = chat_images(dialogue)
            shown = shown or bool(images)
            if images and chat.sight is None:
                raise ValueError(
                    f"{self.source.name}/{split} has images, and the model takes text only: it "
                    "would learn to answer without seeing them (docs/vision.md has models that see)"
                )
            try:
                made = chat.written(dialogue, self.prompt_weight)
                if images:
                    chat.sight.extent(images)  # whether they can be seen
                    made = [replace(each, images=images) for each in made]
            except ValueError as error:
                refused.append(f"dialogue {dialogue[0].text[:60] if dialogue else ''!r}: {error}")
            else:
                rows += made
                origins += [(name, rate)] * len(made)
        if split == "train":
            self._say_if_unseeing(shown)
        if refused and not rows:
            raise ValueError(f"{self.source.name}/{split}, {refused[0]}")
        self._report(split, len(refused), "dialogues cannot be learned from", refused[:1])
        self._report(split, self._unsolved(split), "problems have no worked solution")
        closed = chat.closed_thoughts - closed
        if closed and self.trainer.is_global_zero:
            print(
                f"{self.source.name}/{split}: the chat template opens a thought, and {closed} "
                "solutions have none: they close it at once, which teaches not to think (use data "
                "with thoughts, or chat_template_kwargs if the template can leave them out)"
            )
        longest, reason = self._longest()
        all_rows = Rows(rows, lambda each: _row(*chat.row(each), role, each.images, chat.sight))
        fitting = [n for n in range(len(rows)) if all_rows.fits(n, longest, chat.sight)]
        what = f"of {len(rows)} rows have more than {longest} tokens ({reason})"
        self._report(split, len(rows) - len(fitting), what)
        if split == "train" and self.limit is not None:
            size = min(self.limit, len(fitting))
            fitting = random.Random(f"limit {self.seed}").sample(fitting, size)
        if split == "train":
            self._share_out([origins[n][0] for n in fitting])
            self.rates = [origins[n][1] for n in fitting]
        return all_rows.chosen(fitting)

    def _dialogues(self, split: Split) -> Iterator[tuple[str, float | None, Chat]]:
        """The dialogues of a split, each with the name of the part of a mixture that it is from,
        and with the pass rate of its problem if rows are drawn by it.
        """
        source = self._source(split)
        if split == "train":
            self._read = []
        for name, part in (source.parts() or {"": source}).items():
            dialogues = read_dialogues(part, split, self.prompt)
            rates: list[float | None] = [None] * len(dialogues)
            if split == "train":
                self._read += dialogues
            if split == "train" and self.draw_by != "uniform":
                rates = pass_rates([t for t in read_tasks(part, split, False) if t.solution])
            for rate, dialogue in zip(rates, dialogues, strict=True):
                yield name, rate, dialogue

    def training_dialogues(self) -> list[Chat]:
        """The dialogues that are trained on: those that `setup` read, as long as training has not
        begun.
        """
        return self._read or self.training_source.dialogues("train", self.prompt)

    def _longest(self) -> tuple[int, str]:
        """The most tokens of a row, and what says so: `max_length`, or the model's context, beyond
        which a model fails, or trains on positions that it cannot use.
        """
        context = self.trainer.lightning_module.policy.context()
        if context is not None and context < self.max_length:
            return context, f"the model's context; max_length is {self.max_length}"
        return self.max_length, "max_length"

    def _unsolved(self, split: Split) -> int:
        """The number of problems without a worked solution, where these are the dialogues."""
        source = self._source(split)
        return sum(
            not task.solution
            for part in source.parts().values() or [source]
            if part.answers_problems()
            for task in read_tasks(part, split, graded=False)
        )

    def _source(self, split: Split) -> Source:
        return self.training_source if split == "train" else self.source

    def _report(self, split: Split, count: int, what: str, example: Sequence[str] = ()) -> None:
        if count and self.trainer.is_global_zero:
            first = "".join(f"; the first, {text}" for text in example)
            print(f"{self.source.name}/{split}: {count} {what} and are left out{first}")

    def train_dataloader(self) -> Batches[Row]:
        module: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        sight = module.chat.sight
        length = (lambda row: row.width(sight)) if self.shuffle else None
        self._read = []
        return self._training_batches(
            self.rows["train"], self.rates, shuffle=self.shuffle, length=length
        )

    def val_dataloader(self) -> Any:
        rows = self.rows["validation"]
        return self._batches(rows, shuffle=False, restart=True) if rows else empty_batches()

    def test_dataloader(self) -> Batches[None]:
        return empty_batches()

    predict_dataloader = test_dataloader


def _row(
    ids: Sequence[int],
    weights: Sequence[float],
    role: str,
    images: tuple[Image, ...],
    sight: Any,
) -> Row:
    """A row of a dialogue with these images. What stands for them is never learned."""
    if not images:
        return Row(tuple(ids), tuple(weights), role=role)
    shown = images[: list(ids).count(sight.placeholder_id)]  # a row may end before the dialogue
    mask = tuple(0.0 if id in sight.banned else w for id, w in zip(ids, weights))
    return Row(tuple(ids), mask, images=shown, role=role)
