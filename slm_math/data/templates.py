"""The template of a problem: its words without numbers and names, and which training problems have
the template of a test problem.

Sets such as GSM-Symbolic (Mirzadeh et al. 2024) are rewritten test problems: other names, other
numbers, other things that are counted. Hardly any thirteen words in a row stay as they are:

    Natalia sold clips to 48 of her friends in April   ->  @ sold clips to # of his friends in @
    Ben sold stamps to twenty of his friends in May    ->  @ sold stamps to # of his friends in @

Two templates are compared by the changes that make one of the other, where the same change counts
once however often it is made: clips become stamps everywhere.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain, islice
from statistics import median_low

from slm_math.data.identity import image_hashes
from slm_math.data.normalized import COUNTS, normalized
from slm_math.types import Problem

SAME = 0.75  # of the words of the test problem's template stay, in one of the same template
SHORTEST = 8  # words of a template that are no masks; a shorter one says too little
SHINGLE = 3  # successive words by which candidates are found
CANDIDATE = 0.2  # of the test problem's shingles, in one training problem
ORDERED = 0.6  # of the test problem's words, in their order in a candidate
PHRASE = 20  # test problems; a shingle of more of them is a common phrase
WINDOW = 3  # times the length of the test problem, of a longer training text
FIRST = 100  # training problems that show which words are around all of them
AROUND = 0.95  # of them have these words
FEWEST = 20  # training problems; the words that fewer have in common may be their own

NUMBER, NAME = "#", "@"
_LETTER = "ʘ"  # stands for a name until the text is normalized; no problem has this letter
_WORD = re.compile(r"\\[a-zA-Z]+|[^\W\d_]+(?:['’-][^\W\d_]+)*")
# words that begin a sentence with a capital and are no names
_PLAIN = frozenset(
    """a about after all along also although always among an and another any are around as assume at
    because before being between both but by calculate can compute consider could did do does during
    each either every evaluate except express find first for from given half has have he her here
    his how however i if in initially instead into is it its itself last later let many most much my
    next no not now of on once one only or other others our out over per simplify since so solve
    some suppose than that the their them then there these they this those though through to today
    together tomorrow total two under until up was we were what when where which while who whose why
    will with without would write yesterday you your""".split()  # noqa: SIM905
)
_PRONOUNS = dict.fromkeys(("he", "she", "they"), "he") | dict.fromkeys(
    "his her hers him their theirs them himself herself themselves".split(), "his"  # noqa: SIM905
)  # fmt: skip
_ORDINALS = frozenset(
    "first second fourth sixth seventh eighth ninth tenth halves thirds fourths quarters".split()  # noqa: SIM905
)
_OF_NUMBERS = frozenset(("times", "percent", "%", "th", "st", "nd", "rd", "/", "-", "+", "€", "£"))


@dataclass(frozen=True)
class TemplateMatch:
    """A training problem with the template of a test problem; both are indices. `shared` is the
    share of the words of the test problem's template that stay as they are.
    """

    test: int
    train: int
    shared: float


def template(problem: Problem) -> tuple[str, ...]:
    """The words of a problem and its choices with `#` for numbers and `@` for names.

    Fractions, percents, amounts of money and numbers in words are numbers; a name is a word with a
    capital that is no common first word of a sentence. The third person has one gender.
    """
    return _template("\n".join((problem.text, *problem.choices)))


@lru_cache(maxsize=1 << 15)
def _template(text: str) -> tuple[str, ...]:
    words: list[str] = []
    for word in normalized(_WORD.sub(_masked, text)).split():
        if word == _LETTER:
            mask = NAME
        elif word[0].isdigit() or word in COUNTS or word in _ORDINALS:
            mask = NUMBER
        elif words and words[-1] == NUMBER and word in _OF_NUMBERS:
            continue
        else:
            words.append(_PRONOUNS.get(word, word))
            continue
        if not words or words[-1] != mask:  # "New York", "twenty five" and "1 / 2" are one
            words.append(mask)
    return tuple(words)


def _masked(match: re.Match[str]) -> str:
    word = match[0]
    base = re.split("['’]", word, maxsplit=1)[0].casefold()
    is_name = len(word) > 1 and word[0].isupper() and base not in _PLAIN and base not in COUNTS
    return f" {_LETTER} " if is_name else word


def same_template(train: Iterable[Problem], test: Sequence[Problem]) -> tuple[TemplateMatch, ...]:
    """The closest training problem with the template of each test problem that has one, in the
    order of the test problems. Problems of fewer than `SHORTEST` words have none, and the same
    question about another image is another problem.

    The memory needed depends on the number of test problems only.
    """
    problems = iter(train)
    first = list(islice(problems, FIRST))
    matcher = _Matcher(test)
    before, after = _around([template(problem) for problem in first])
    for problem in chain(first, problems):
        words = template(problem)
        matcher.add(words[before : len(words) - after], image_hashes(problem))
    return tuple(matcher.best[number] for number in sorted(matcher.best))


def _around(some: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    """The number of words with which nearly all of some problems begin, and end: a prompt around
    them.
    """
    return _shared_start(some), _shared_start([words[::-1] for words in some])


def _shared_start(some: Sequence[tuple[str, ...]]) -> int:
    length, same = 0, list(some) if len(some) >= FEWEST else []
    while same:
        word, _ = Counter(words[length : length + 1] for words in same).most_common(1)[0]
        same = [words for words in same if words[length : length + 1] == word]
        if not word or len(same) < AROUND * len(some):
            break
        length += 1
    return length


class _Matcher:
    """Finds the templates of test problems among those of training problems."""

    def __init__(self, test: Sequence[Problem]) -> None:
        self._tests = tests = [template(problem) for problem in test]
        self._images = [image_hashes(problem) for problem in test]
        self._masks = [_positions(words) for words in tests]
        self._shingles: dict[int, list[int]] = defaultdict(list)
        self.best: dict[int, TemplateMatch] = {}
        self._trained = 0
        shingles = [
            set(_shingles(words)) if _says_enough(words) else set() for words in self._tests
        ]
        often = Counter(shingle for some in shingles for shingle in some)
        for number, some in enumerate(shingles):
            own = {shingle for shingle in some if often[shingle] <= PHRASE} or some
            for shingle in own:
                self._shingles[shingle].append(number)
        self._least = [max(1, int(CANDIDATE * len(some))) for some in shingles]

    def add(self, words: tuple[str, ...], images: tuple[str, ...] = ()) -> None:
        """Compares the template of the next training problem with those of all test problems about
        the same images.
        """
        places: dict[int, list[int]] = defaultdict(list)  # test problem -> where it shares shingles
        for place, shingle in enumerate(_shingles(words)):
            for number in self._shingles.get(shingle, ()):
                places[number].append(place)
        for number, shared in places.items():
            if len(shared) >= self._least[number] and images == self._images[number]:
                self._compare(number, words, median_low(shared))
        self._trained += 1

    def _compare(self, number: int, words: tuple[str, ...], middle: int) -> None:
        """Compares a test problem with a training text, of a long one with the part around the
        place `middle`.
        """
        test = self._tests[number]
        if len(words) > WINDOW * len(test):
            start = max(0, middle - WINDOW * len(test) // 2)
            words = words[start : start + WINDOW * len(test)]
        if _common(self._masks[number], len(test), words) < ORDERED * len(test):
            return
        share = 1 - _changes(test, words) / len(test)
        best = self.best.get(number)
        if share >= SAME and (best is None or share > best.shared):
            self.best[number] = TemplateMatch(number, self._trained, share)


def _says_enough(words: Sequence[str]) -> bool:
    return sum(word not in (NUMBER, NAME) for word in words) >= SHORTEST


def _shingles(words: tuple[str, ...]) -> Iterator[int]:
    return (hash(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


def _changes(test: tuple[str, ...], words: tuple[str, ...]) -> int:
    """How many words change between two templates, each change counted once."""
    changes: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    blocks = SequenceMatcher(None, test, words, autojunk=False).get_opcodes()
    for kind, start, stop, other_start, other_stop in blocks:
        old, new = test[start:stop], words[other_start:other_stop]
        if kind != "equal" and len(old) == len(new):
            changes |= {((one,), (other,)): 1 for one, other in zip(old, new)}
        elif kind != "equal":
            changes[old, new] = max(len(old), len(new))
    return sum(changes.values())


def _positions(words: Sequence[str]) -> dict[str, int]:
    """Word -> the set of its places, as the bits of a number."""
    places: dict[str, int] = defaultdict(int)
    for place, word in enumerate(words):
        places[word] |= 1 << place
    return dict(places)


def _common(places: dict[str, int], length: int, words: Sequence[str]) -> int:
    """The length of the longest common subsequence (Hyyro 2004, all places of a word at once)."""
    whole = (1 << length) - 1
    free = whole
    for word in words:
        matched = free & places.get(word, 0)
        free = ((free + matched) | (free - matched)) & whole
    return length - free.bit_count()
