"""The table of digests is a mapping, whatever collides in it."""

import random

from slm_math.records.places import Places, digest


def test_a_table_that_grows_is_a_mapping() -> None:
    draw = random.Random(0)
    table, wanted = Places(), {}
    for number in range(5000):
        key = draw.choice((draw.randrange(1, 1 << 64), 1024 * draw.randrange(1, 2000)))
        first = wanted.setdefault(key, number)
        assert table.setdefault(key, number) == first
    assert len(table) == len(wanted)
    assert all(table.get(key) == value for key, value in wanted.items())
    assert table.get(12345) is None
    table.set(next(iter(wanted)), 77)
    assert table.get(next(iter(wanted))) == 77
    assert len(table) == len(wanted)


def test_totals_tell_tables_apart_and_do_not_depend_on_the_order() -> None:
    one, same, other = Places(), Places(), Places()
    for key in range(1, 100):
        one.set(key, key)
        same.set(100 - key, 0)
        other.set(key + 1, key)
    assert one.total == same.total != other.total


def test_numbers_and_texts_are_different_keys() -> None:
    assert len({digest(1), digest("1"), digest((1,)), digest(None)}) == 4
