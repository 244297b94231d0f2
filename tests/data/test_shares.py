"""Shares of the draws: what an epoch draws of each part, and that no item is forgotten."""

from collections import Counter

import pytest

from slm_math.data.batches import Batches
from slm_math.data.shares import Part, parts_of, shares_line

NAMES = ["a"] * 30 + ["b"] * 10


def draws(weights: dict[str, float] | None) -> dict[str, int]:
    return {part.name: part.draws for part in parts_of(NAMES, weights)}


def test_without_weights_every_item_is_drawn_once() -> None:
    assert draws(None) == {"a": 30, "b": 10}


def test_weights_share_the_draws_out() -> None:
    assert draws({"a": 1, "b": 1}) == {"a": 20, "b": 20}
    assert draws({"a": 0.3, "b": 0.6}) == {"a": 13, "b": 27}  # 13.3 and 26.7 of 40


def test_a_part_with_a_weight_and_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match=r"c has the weight 0.5, and nothing to train on"):
        parts_of(NAMES, {"a": 1, "b": 1, "c": 0.5})


@pytest.mark.parametrize("count", [4, 10, 25])
def test_items_of_a_part_are_drawn_equally_often(count: int) -> None:
    part = Part("a", tuple(range(10)), count)
    drawn: Counter[int] = Counter()
    for epoch in range(7):
        own = part.drawn(epoch, seed=1)
        assert len(own) == count
        assert max(Counter(own).values()) <= -(-count // 10) + (count % 10 > 0)
        drawn.update(own)
    assert max(drawn.values()) - min(drawn[n] for n in range(10)) <= 1


def test_draws_are_decided_by_seed_and_epoch() -> None:
    part = Part("a", tuple(range(100)), 50)
    assert part.drawn(3, 1) == part.drawn(3, 1)
    assert part.drawn(3, 1) != part.drawn(3, 2)
    assert not set(part.drawn(0, 1)) & set(part.drawn(1, 1))


def test_batches_hold_the_shares_of_every_epoch() -> None:
    batches = Batches(NAMES, 4, parts=parts_of(NAMES, {"a": 1, "b": 1}))
    for _ in range(3):
        epoch = Counter(item for batch in batches for item in batch.items)
        assert epoch == {"a": 20, "b": 20}


def test_a_run_goes_on_with_the_same_draws() -> None:
    def batches() -> Batches[str]:
        return Batches(NAMES, 3, parts=parts_of(NAMES, {"a": 1, "b": 2}))

    whole, rest = batches(), batches()
    before = [whole.draw().items for _ in range(20)]
    rest.load_state_dict({"epoch": 1, "position": 3})
    assert len(whole) == 13
    assert [rest.draw().items for _ in range(4)] == before[16:]


def test_the_shares_in_a_line() -> None:
    line = shares_line(parts_of(NAMES, {"a": 1, "b": 1}))
    assert line == "a 30 rows drawn 20 times (50.0%), b 10 rows drawn 20 times (50.0%)"
