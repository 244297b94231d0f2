"""Batches that are made when they are asked for are those that were made all at once."""

import random

import pytest

from slm_math.data.batches import Batches


def at_once(lengths: list[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """All batches of an epoch: shuffled, sorted by length in windows of 16, shuffled."""
    draw = random.Random(f"{seed} {epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    window = 16 * size
    windows = [order[start : start + window] for start in range(0, len(order), window)]
    order = [index for one in windows for index in sorted(one, key=lengths.__getitem__)]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    batches = batches[: max(len(lengths) // size, 1)]
    draw.shuffle(batches)
    return batches


@pytest.mark.parametrize("n", [3, 64, 300, 333])
@pytest.mark.parametrize("epoch", [0, 1])
def test_batches_of_similar_lengths(n: int, epoch: int) -> None:
    draw = random.Random(n)
    lengths = [draw.randint(1, 9) for _ in range(n)]
    loader = Batches(range(n), 4, seed=5, length=lengths.__getitem__)
    loader.epoch = epoch
    assert list(loader.plan()) == at_once(lengths, 4, seed=5, epoch=epoch)


def test_a_batch_needs_the_lengths_of_its_window_alone() -> None:
    asked: list[int] = []

    def length(item: int) -> int:
        asked.append(item)
        return item % 7

    Batches(range(4096), 4, length=length).draw()
    assert len(asked) == len(set(asked)) == 64
