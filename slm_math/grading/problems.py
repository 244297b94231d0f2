"""Whether the rows of a file that name one problem are of one problem."""

from __future__ import annotations

from array import array

from slm_math.answers import grade_answer
from slm_math.evaluation.plain import plain
from slm_math.foreign.texts import text_key
from slm_math.grading.scoring import GradedSample
from slm_math.records.names import Names
from slm_math.records.places import Places, digest
from slm_math.types import Problem, Task

_NO_TEXT = digest(text_key(""))


class Problems:
    """What the rows of the file `where` have said of each problem, in 33 to 50 bytes a problem and
    the different reference answers.
    """

    def __init__(self, where: str = "the file") -> None:
        self.where = where
        self._places = Places()  # problem -> number
        self._asked, self._golds, self._lines = array("Q"), array("I"), array("I")
        self._texts = Names()  # of reference answers

    def check(self, sample: GradedSample) -> None:
        """Raises ValueError unless a sample has the text and the choices that an earlier one of its
        problem has, after normalization, and an equal reference answer: samples of two problems
        are no sample of either.
        """
        asked, gold = digest(sample.asked), self._texts.number(sample.gold)
        number = self._places.setdefault(digest(sample.problem), len(self._lines))
        if number == len(self._lines):
            self._asked.append(asked)
            self._golds.append(gold)
            self._lines.append(sample.line)
            return
        line = self._lines[number]
        where = f"{self.where}, line {sample.line}"
        name = "the problem" if sample.id is None else f"the id {plain(sample.id)!r}"
        if self._asked[number] != asked and sample.id is not None:  # else the text is the name
            raise ValueError(
                f"{where}: {name} is that of another problem in line {line}, where the text or its "
                "choices are others: if these are two problems, name the field that tells them "
                "apart with --id, or split the file; if they are two wordings of one, name a field "
                "with --problem that all its samples share"
            )
        first = self._texts[self._golds[number]]
        if self._golds[number] != gold and not _equal(first, sample.gold):
            raise ValueError(
                f"{where}: {name} has another reference answer ({plain(sample.gold, 60)!r}) than "
                f"in line {line} ({plain(first, 60)!r}): correct one of them, or, if these are two "
                "problems, split the file"
            )

    @property
    def same_texts(self) -> int:
        """How many problems have another id and the text of an earlier one."""
        texts = [asked for asked in self._asked if asked != _NO_TEXT]
        return len(texts) - len(set(texts))


def _equal(one: str, other: str) -> bool:
    """Whether two references are one answer, whichever of them is the reference."""
    problem = Problem("", "")
    return (
        grade_answer(one, Task(problem, other)).equal
        and grade_answer(other, Task(problem, one)).equal
    )
