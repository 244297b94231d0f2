"""The end of a run in which nothing is learned any more."""

from __future__ import annotations

import lightning as L


class IdleBatches:
    """Counts batches in a row without an update, such as those of GRPO whose groups have equal
    rewards.

    `max_steps` counts updates, so a run in which no group teaches would never reach it. It ends
    after as many batches in a row without an update as `max_steps` asks for updates.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._updates = 0

    def state(self) -> list[int]:
        """For a checkpoint."""
        return [self.in_a_row, self._updates]

    def load(self, state: list[int]) -> None:
        self.in_a_row, self._updates = state

    def is_over(self, trainer: L.Trainer) -> bool:
        """Whether as many batches in a row led to no update as `max_steps` asks for."""
        return 0 < trainer.max_steps <= self.in_a_row

    def batch_ended(self, trainer: L.Trainer) -> None:
        """Counts a batch of training, and stops the trainer, on all ranks alike, if that was one
        too many.
        """
        updated = trainer.global_step != self._updates
        self.in_a_row = 0 if updated else self.in_a_row + 1
        self._updates = trainer.global_step
        if self.is_over(trainer):
            trainer.should_stop = True
            if trainer.is_global_zero:
                print(
                    f"training stopped: {self.in_a_row} batches in a row led to no update, as many "
                    f"as max_steps; {self._updates} of {trainer.max_steps} updates were made. No "
                    "group had different rewards (train/frac_reward_zero_std): try easier "
                    "problems, a larger group_size or a higher temperature",
                    flush=True,
                )
