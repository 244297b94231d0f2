"""Draws of generated data are those of `random`."""

from __future__ import annotations

import random

import pytest

from slm_math.data.draws import Draw


def test_choices_and_samples_are_those_of_random() -> None:
    draw, expected = Draw("a seed"), random.Random("a seed")
    for size in range(1, 40):
        items = range(100, 100 + size)
        assert [draw.choice(items) for _ in range(50)] == [
            expected.choice(items) for _ in range(50)
        ]
        for number in range(size + 1):
            assert draw.some(items, number) == expected.sample(items, number)
    assert draw.random() == expected.random()


def test_draws_that_cannot_be_made_are_refused_as_by_random() -> None:
    with pytest.raises(IndexError):
        Draw(0).choice(())
    with pytest.raises(ValueError, match="larger than population"):
        Draw(0).some((1, 2), 3)
