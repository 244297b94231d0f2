"""The loader: order, position, ranks."""

from itertools import islice

from slm_math.data.batches import Batches


def seen(loader: Batches[int], n: int) -> list[int]:
    return [item for batch in islice(loader, n) for item in batch.items]


def test_an_epoch_shows_every_item_once_in_a_new_order() -> None:
    loader = Batches(range(12), 3)
    first, second = seen(loader, 4), seen(loader, 4)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_short_epochs_go_on_where_the_last_one_stopped() -> None:
    loader = Batches(range(10), 2)
    taken = [seen(loader, 4) for _ in range(5)]
    assert all(len(items) == 8 for items in taken)
    flat = [item for items in taken for item in items]
    assert all(sorted(flat[start : start + 10]) == list(range(10)) for start in range(0, 40, 10))


def test_state_resumes_in_the_middle() -> None:
    straight = Batches(range(20), 4, seed=1)
    seen(straight, 3)
    resumed = Batches(range(20), 4, seed=1)
    resumed.load_state_dict(straight.state_dict())
    assert seen(straight, 5) == seen(resumed, 5)


def test_ranks_share_every_batch() -> None:
    whole = Batches(range(12), 4)
    parts = [Batches(range(12), 4, rank=rank, ranks=2) for rank in range(2)]
    for batch, one, two in zip(whole, *parts):
        assert sorted(batch.items) == sorted(one.items + two.items)


def test_items_of_like_length_meet() -> None:
    loader = Batches(list(range(64)), 8, length=lambda item: item)
    assert all(max(batch.items) - min(batch.items) == 7 for batch in loader)


def test_repeated_batches_are_those_of_the_first_epoch() -> None:
    straight = Batches(range(24), 4, seed=3)
    begin = seen(straight, 2)
    again = Batches(range(24), 4, seed=3, repeat=2)
    assert seen(again, 2) == seen(again, 2) == seen(again, 2) == begin


def test_repeated_batches_resume_in_the_middle_and_at_the_end() -> None:
    for done in (1, 2, 3):
        straight = Batches(range(24), 4, repeat=2)
        for _ in range(done):
            straight.draw()
        resumed = Batches(range(24), 4, repeat=2)
        resumed.load_state_dict(straight.state_dict())
        assert seen(straight, 3) == seen(resumed, 3)


def test_validation_begins_with_the_first_batch() -> None:
    loader = Batches(range(10), 3, shuffle=False, restart=True)
    assert seen(loader, 2) == seen(loader, 2) == [0, 1, 2, 3, 4, 5]
    assert seen(loader, 4) == list(range(10))
