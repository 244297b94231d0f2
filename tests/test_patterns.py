"""A pattern that is compiled later is that of `re.compile`."""

import re

import pytest

from slm_math.patterns import lazy_pattern

METHODS = ("match", "fullmatch", "search", "split", "findall")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_that_of_the_compiled_pattern(method: str) -> None:
    lazy, compiled = lazy_pattern("(b)|c", re.IGNORECASE), re.compile("(b)|c", re.IGNORECASE)
    for text in ("aBc", "C", ""):
        for _ in range(2):
            found, wanted = getattr(lazy, method)(text), getattr(compiled, method)(text)
            if isinstance(wanted, re.Match):
                found, wanted = found.regs, wanted.regs
            assert found == wanted


def test_attributes_are_those_of_the_compiled_pattern() -> None:
    lazy = lazy_pattern("(?P<name>b)", re.ASCII)
    assert (lazy.pattern, lazy.groups) == ("(?P<name>b)", 1)
    assert dict(lazy.groupindex) == {"name": 1}


def test_nothing_is_compiled_before_the_first_use() -> None:
    lazy = lazy_pattern("(")
    assert lazy.pattern == "("
    with pytest.raises(re.error):
        lazy.search("")
