"""Whether the rows of a file that name one problem are of one problem."""

from __future__ import annotations

from array import array

from slm_math.evaluation.plain import plain
from slm_math.grading.scoring import GradedSample
from slm_math.records.places import Places, digest

_LOW = (1 << 32) - 1


class Problems:
    """What the rows of the file `where` have said of each problem, in 29 to 46 bytes a problem."""

    def __init__(self, where: str = "the file") -> None:
        self.where = where
        self._places = Places()  # problem -> number
        self._asked, self._golds, self._lines = array("I"), array("I"), array("I")

    def check(self, sample: GradedSample) -> None:
        """Raises ValueError unless a sample has the text, the choices and the reference answer that
        an earlier one of its problem has: samples of two problems are no sample of either.
        """
        asked, gold = digest(sample.asked) & _LOW, digest(sample.gold_hash) & _LOW
        number = self._places.setdefault(digest(sample.problem), len(self._lines))
        if number == len(self._lines):
            self._asked.append(asked)
            self._golds.append(gold)
            self._lines.append(sample.line)
            return
        line = self._lines[number]
        name = "the problem" if sample.id is None else f"the id {plain(sample.id)!r}"
        if self._asked[number] != asked and sample.id is not None:  # else the text is the name
            raise ValueError(
                f"{self.where}, line {sample.line}: {name} is that of another problem in line "
                f"{line}: split the file, or remove its ids"
            )
        if self._golds[number] != gold:
            raise ValueError(
                f"{self.where}, line {sample.line}: {name} has another reference answer in line "
                f"{line}: split the file, or correct the reference"
            )
