"""Contamination: exact, normalized and 13-gram matches between test and training problems.

A 13-gram is thirteen successive words of normalized text (Brown et al. 2020, appendix C), where a
sign is a word; a shorter text is one gram. A gram that occurs in more than `PHRASE` test problems
is a common phrase, and is ignored in those of them that have other grams.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from slm_math.data.identity import image_hashes
from slm_math.data.normalized import COUNTS, normalized
from slm_math.types import Problem

GRAM = 13  # words
PHRASE = 10  # problems
NEAR = 0.9  # of the test problem's 13-grams, in one training problem
SHOWN = 3  # matches that an error names
TOLD = 3  # words by which a text is told from a test problem with the same numbers

Kind = Literal["exact", "normalized", "13-gram"]
KINDS: tuple[Kind, ...] = ("exact", "normalized", "13-gram")

_SIGNS = frozenset("+-*/^=<>%")
_LETTER = re.compile(r"[^\W\d_]")
_digits = re.compile(r"[0-9]+").findall
_JOINED = re.compile(r",[0-9}]")


@dataclass(frozen=True)
class Finding:
    """The closest training problem of a test problem; `test` and `train` are their indices.

    `anywhere` is the share of the test problem's 13-grams that occur in any training problem,
    `together` the share that occurs in this one. `near_exact` means that both are the same problem
    (see the function `near_exact`).
    """

    test: int
    train: int
    kind: Kind
    anywhere: float
    together: float
    near_exact: bool


@dataclass(frozen=True)
class Overlap:
    """The findings of `problems` test problems among `trained` training problems: one for each test
    problem with a match, in their order.
    """

    trained: int
    problems: int
    findings: tuple[Finding, ...]

    def count(self, kind: Kind) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def near_exact(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.near_exact)


def overlap(train: Iterable[Problem], test: Sequence[Problem]) -> Overlap:
    """The matches of test problems among training problems. The choices belong to the text of a
    problem; the same text about other images is no match.

    The memory needed depends on the number of test problems only.
    """
    tests = [_read(problem) for problem in test]
    index = _index(tests)
    lettered = all(map(_has_words_everywhere, tests))
    seen_grams: dict[int, set[int]] = defaultdict(set)
    best: dict[int, tuple[tuple[bool, int, float], int]] = {}
    trained = 0
    for train_index, problem in enumerate(train):
        trained += 1
        if lettered and _has_no_letters(problem):  # equations: no gram of a test problem is in it
            continue
        text = _read(problem)
        shared: Counter[int] = Counter()
        for gram in text.grams:
            for number in index.get(gram, ()):
                shared[number] += 1
                seen_grams[number].add(gram)
        for number, count in shared.items():
            closeness = _closeness(tests[number], text, count)
            if closeness is not None and (number not in best or closeness > best[number][0]):
                best[number] = closeness, train_index
    findings = []
    for number, ((near, level, together), match) in sorted(best.items()):
        anywhere = len(seen_grams[number]) / len(tests[number].grams)
        findings.append(
            Finding(
                number,
                match,
                kind=KINDS[2 - level],
                anywhere=anywhere,
                together=together,
                near_exact=near,
            )
        )
    return Overlap(trained, len(tests), tuple(findings))


def near_exact(train: Sequence[Problem], test: Sequence[Problem]) -> dict[int, int]:
    """Index of a test problem -> index of the training problem that is the same problem.

    Two problems are the same if texts and choices are equal after normalization, and so are the
    images. A test problem of at least
    13 words is also the same if the training text has the share `NEAR` of its 13-grams, including
    the last one, and the same numbers, signs and variables in that part. So a template with other
    numbers, or another question about the same story, is another problem, while text before or
    after makes no difference.
    """
    screen = Screen(test)
    places = [place for place, problem in enumerate(train) if screen.passes(_whole(problem))]
    found = overlap([train[place] for place in places], test).near_exact
    return {finding.test: places[finding.train] for finding in found}


def refuse_overlap(train: Sequence[Problem], test: Sequence[Problem], where: str) -> None:
    """Raises ValueError if near-exact matches of test problems are among the training problems;
    `where` names the test problems in the error.
    """
    matches = near_exact(train, test)
    if not matches:
        return
    pairs = [
        f"{_id(test[own])} = {_id(train[other])}" for own, other in islice(matches.items(), SHOWN)
    ]
    examples = ", ".join(pairs) + (", ..." if len(matches) > SHOWN else "")
    raise ValueError(
        f"{len(matches)} of the {len(test)} problems of {where} are among the training problems "
        f"({examples}): remove them from the training data, or set allow_overlap: true"
    )


class Screen:
    """Tells texts that are certainly none of the test problems (see `near_exact`), without
    normalizing them: a text that is one has all its numbers and the words of its end.
    """

    def __init__(self, test: Sequence[Problem]) -> None:
        read = [_read(problem) for problem in test]
        signs = {
            (frozenset(_digits(" ".join(each.words))) - {"0"}, frozenset(_plain_words(each)))
            for each in read
        }
        often = Counter(one for numbers, words in signs for one in (*numbers, *words))
        self._all = not all(numbers for numbers, _ in signs)
        self._lettered = all(words for _, words in signs)
        self._by_rarest: dict[str, list[tuple[frozenset[str], tuple[str, ...]]]] = defaultdict(list)
        for numbers, words in signs if not self._all else ():
            rarest = min(numbers, key=lambda number: (often[number], number))
            rare = sorted(words, key=lambda word: (often[word], word))[:TOLD]
            self._by_rarest[rarest].append((numbers, tuple(rare)))

    def passes(self, text: str) -> bool:
        """Whether a problem's text, its choices below it, may be a test problem."""
        if self._all or _may_be_rewritten(text):
            return True
        if self._lettered and _LETTER.search(text) is None:  # equations
            return False
        numbers, lower = set(_digits(text)), ""
        for number in numbers:
            for own, words in self._by_rarest.get(number, ()):
                if own <= numbers:
                    lower = lower or text.lower()
                    if all(word in lower for word in words):
                        return True
        return False


def _plain_words(text: _Text) -> Iterator[str]:
    """The words of a text's last gram that its own ASCII spelling has, too."""
    return (word for word in text.words[-GRAM:] if word.isascii() and word.isalpha())


def _may_be_rewritten(text: str) -> bool:
    """Whether normalization may join or split digits or letters, remove them or write some; it may
    begin .5 with a 0.
    """
    return (
        not text.isascii()
        or "\\" in text
        or "'" in text
        or "$" in text
        or ("," in text and _JOINED.search(text) is not None)
        or "frac" in text.lower()
    )


@dataclass(frozen=True)
class _Text:
    """A problem in the form that is compared; `grams` are hashes."""

    text: str
    words: tuple[str, ...]
    grams: frozenset[int]
    images: tuple[str, ...]


def _read(problem: Problem) -> _Text:
    text = _whole(problem)
    words = tuple(normalized(text).split())
    return _Text(
        text.strip(),
        words,
        frozenset(_grams(words)),
        image_hashes(problem),
    )


def _whole(problem: Problem) -> str:
    return "\n".join((problem.text, *problem.choices))


def _has_words_everywhere(text: _Text) -> bool:
    """Whether every gram of a text has a letter."""
    words = text.words
    places = range(max(len(words) - GRAM, 0) + 1)
    return all(any(map(_LETTER.search, words[i : i + GRAM])) for i in places)


def _has_no_letters(problem: Problem) -> bool:
    """Whether a problem certainly has no letter when it is normalized."""
    return all(
        text.isascii() and _LETTER.search(text) is None for text in (problem.text, *problem.choices)
    )


def _grams(words: Sequence[str]) -> Iterator[int]:
    if words:
        for i in range(max(len(words) - GRAM, 0) + 1):
            yield _gram(words, i)


def _gram(words: Sequence[str], place: int) -> int:
    return hash(tuple(words[place : place + GRAM]))


def _index(tests: list[_Text]) -> dict[int, list[int]]:
    """Gram -> the test problems with it. Removes phrases from problems that have other grams."""
    often = {
        gram
        for gram, count in Counter(g for text in tests for g in text.grams).items()
        if count > PHRASE
    }
    index: dict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(tests):
        own = text.grams - often or text.grams
        tests[number] = _Text(text.text, text.words, own, text.images)
        for gram in own:
            index[gram].append(number)
    return index


def _closeness(test: _Text, train: _Text, count: int) -> tuple[bool, int, float] | None:
    """(near-exact, index in `KINDS` from its end, share of grams), greater for a closer match; None
    if there is no match.
    """
    together = count / len(test.grams)
    if test.images != train.images:
        return (False, 0, together) if len(test.words) >= GRAM else None
    if test.words == train.words:
        return True, 2 if test.text == train.text else 1, together
    return together >= NEAR and _same_question(test, train), 0, together


def _same_question(test: _Text, train: _Text) -> bool:
    """Whether a training text contains the last 13-gram of the test problem, and the same numbers,
    signs and variables between the first and the last 13-gram in common.

    Before the first one, the test problem may have other words, but no numbers.
    """
    last = len(test.words) - GRAM
    if last < 0 or _gram(test.words, last) not in train.grams:
        return False
    first = next(i for i in range(last + 1) if _gram(test.words, i) in train.grams)
    at = [
        i
        for i in range(len(train.words))
        if train.words[i : i + GRAM] == test.words[first : first + GRAM]
    ]
    end = [i for i in range(len(train.words)) if train.words[i : i + GRAM] == test.words[last:]]
    span = train.words[at[0] : end[-1] + GRAM]
    return not _amounts(test.words[:first]) and _amounts(test.words[first:]) == _amounts(span)


def _amounts(words: Sequence[str]) -> Counter[str]:
    """The number of occurrences of each number, sign and variable in a text."""
    return Counter(
        word
        for word in words
        if word[0].isdigit()
        or word in COUNTS
        or word in _SIGNS
        or (len(word) == 1 and word.isalpha() and word not in "ai")
    )


def _id(problem: Problem) -> str:
    return problem.id if problem.id.isprintable() else repr(problem.id)
