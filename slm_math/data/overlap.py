"""Contamination: problems to test on that are among those to train on, alike, alike but for
printing, or in part.

A 13-gram is thirteen words of normalized text in a row (Brown et al. 2020, appendix C), a sign
being a word; a text of fewer words is one gram. A gram that more than `PHRASE` test problems have
is a phrase, not a problem, and does not count in those that have others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slm_math.data.normalized import normalized
from slm_math.types import Image, Problem, Task

GRAM = 13  # words
PHRASE = 10  # problems
NEAR = 0.9  # of the test problem's 13-grams, in one training problem
SHOWN = 3  # findings in an error

Kind = Literal["exact", "normalized", "13-gram"]
KINDS: tuple[Kind, ...] = ("exact", "normalized", "13-gram")

_SIGNS = frozenset("+-*/^=<>%")
_COUNTS = frozenset(
    (
        *(
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ),
        *(
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
            "thirty",
        ),
        *(
            "forty",
            "fifty",
            "sixty",
            "seventy",
            "eighty",
            "ninety",
            "hundred",
            "thousand",
            "million",
            "billion",
        ),
        *("half", "third", "quarter", "fifth", "twice", "thrice", "double", "triple", "dozen"),
    )
)


@dataclass(frozen=True)
class Finding:
    """The training problem closest to a test problem; both by their places in what was compared.

    `anywhere` is the share of the test problem's 13-grams that all training problems have together,
    `together` the share that this one has. `near_exact`: they are the same problem, see
    `near_exact`.
    """

    test: int
    train: int
    kind: Kind
    anywhere: float
    together: float
    near_exact: bool


@dataclass(frozen=True)
class Overlap:
    """The closest finding of each test problem that has one, in order, of
    `problems` test problems.
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
    """What of `test` is in `train`. Choices belong to a problem's text; the same text about other
    images is no match.

    Memory grows with the test problems only.
    """
    tests = [_read(problem) for problem in test]
    index = _index(tests)
    met: dict[int, set[int]] = defaultdict(set)
    best: dict[int, tuple[tuple[bool, int, float], int]] = {}
    trained = 0
    for place, problem in enumerate(train):
        trained += 1
        mine = _read(problem)
        shared: Counter[int] = Counter()
        for gram in mine.grams:
            for number in index.get(gram, ()):
                shared[number] += 1
                met[number].add(gram)
        for number, count in shared.items():
            closeness = _closeness(tests[number], mine, count)
            if closeness is not None and (number not in best or closeness > best[number][0]):
                best[number] = closeness, place
    findings = []
    for number, ((near, level, together), place) in sorted(best.items()):
        anywhere = len(met[number]) / len(tests[number].grams)
        findings.append(Finding(number, place, KINDS[2 - level], anywhere, together, near))
    return Overlap(trained, len(tests), tuple(findings))


def near_exact(train: Sequence[str], test: Sequence[str]) -> dict[int, int]:
    """The places of texts of `test` that are problems of `train`, each with the place of that one.

    They are equal when normalized, or the training text has `NEAR` of the test problem's 13-grams
    (of at least 13 words), the last one included, and the same numbers, signs and variables there:
    a template with other numbers, or another question about the same story, is another problem.
    More text before and behind makes no difference.
    """
    problems = ([Problem(str(i), text) for i, text in enumerate(texts)] for texts in (train, test))
    return {found.test: found.train for found in overlap(*problems).near_exact}


def refuse_overlap(train: Sequence[Task], test: Sequence[Task], where: str) -> None:
    """Raises ValueError when training problems are near-exactly among those of the evaluation
    called `where`.
    """
    found = overlap([task.problem for task in train], [task.problem for task in test]).near_exact
    if not found:
        return
    pairs = [f"{_id(test[f.test].problem)} = {_id(train[f.train].problem)}" for f in found[:SHOWN]]
    told = ", ".join(pairs) + (", ..." if len(found) > SHOWN else "")
    raise ValueError(
        f"{len(found)} of the {len(test)} problems of {where} are among the training problems "
        f"({told}): "
        "leave them out of training, or set allow_overlap: true"
    )


@dataclass(frozen=True)
class _Text:
    """A problem as it is compared; `grams` are hashes."""

    text: str
    words: tuple[str, ...]
    grams: frozenset[int]
    images: tuple[str, ...]


def _read(problem: Problem) -> _Text:
    text = "\n".join((problem.text, *problem.choices))
    words = tuple(normalized(text).split())
    return _Text(
        text.strip(), words, frozenset(_grams(words)), tuple(map(_image_digest, problem.images))
    )


def _grams(words: Sequence[str]) -> Iterator[int]:
    if words:
        for i in range(max(len(words) - GRAM, 0) + 1):
            yield _gram(words, i)


def _gram(words: Sequence[str], place: int) -> int:
    return hash(tuple(words[place : place + GRAM]))


def _index(tests: list[_Text]) -> dict[int, list[int]]:
    """Where each gram is; phrases are taken out of the problems that have other grams too."""
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
    """(near-exact, place in `KINDS` counted from its end, share of grams), greater for closer; None
    for no match.
    """
    together = count / len(test.grams)
    if test.images != train.images:
        return (False, 0, together) if len(test.words) >= GRAM else None
    if test.words == train.words:
        return True, 2 if test.text == train.text else 1, together
    return together >= NEAR and _same_question(test, train), 0, together


def _same_question(test: _Text, train: _Text) -> bool:
    """Whether a training text ends its question as the test problem does, and has its numbers,
    signs and variables.

    Between the first and the last 13-gram in common; before it the test problem may have other
    words, but no numbers.
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
    """How often each number, sign and variable stands in a text."""
    return Counter(
        word
        for word in words
        if word[0].isdigit()
        or word in _COUNTS
        or word in _SIGNS
        or (len(word) == 1 and word.isalpha() and word not in "ai")
    )


def _image_digest(image: Image) -> str:
    """What identifies an image, wherever its file lies."""
    source = image.source
    data = source.encode("utf-8", "surrogatepass")
    if not source.startswith("data:") and Path(source).is_file():
        data = Path(source).read_bytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _id(problem: Problem) -> str:
    return problem.id if problem.id.isprintable() else repr(problem.id)
