"""The questions of `Shapes`: families, each about scenes of one form, and questions from them.

Some families are *demonstrated*: dialogues show how to answer them. Others are *answers only*: they
ask the same with words that no dialogue explains, or of another property; only reinforcement
learning from right and wrong answers can teach them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from slm_math.data.arithmetic_families import ANSWERS_ONLY, DEMONSTRATED
from slm_math.data.shapes_scenes import COLORS, FORMS, Bar, Grid, Lines, Scene


@dataclass(frozen=True)
class Question:
    """A question about a scene: its answer, for several choices the value of the right one.

    `numbers` are what a solution counts at each of the nine cells, None for a cell that does not
    count, and `word` says behind which word of its cell a number stands: 0 the color, 1 the form.
    `steps` are the lines between what is in the cells and the answer.
    """

    text: str
    value: str
    choices: tuple[str, ...] = ()
    numbers: tuple[int | None, ...] = ()
    word: int = 1
    steps: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The value, or the letter of its choice."""
        return chr(ord("A") + self.choices.index(self.value)) if self.choices else self.value


Ask: TypeAlias = Callable[[random.Random, Scene], Question]


@dataclass(frozen=True)
class Family:
    """Questions of one form about scenes of one form. `kind` says whether dialogues demonstrate
    them. `counts` are the values that problems have equally often, so that guessing one does not
    pay.
    """

    name: str
    kind: str
    scene: type[Scene]
    ask: Ask
    counts: range | None = None


def _counting(text: str, but: bool = False) -> Ask:
    """Questions for a count: of the shapes of a drawn {color} and {form}, or (`but`) of all others,
    with {more} that are added.
    """

    def ask(draw: random.Random, scene: Scene) -> Question:
        assert isinstance(scene, Grid)
        color = draw.choice(list(COLORS)) if "{color}" in text else None
        form = draw.choice(FORMS) if "{form}" in text else None
        more = draw.randint(2, 4) if "{more}" in text else 0
        cells = scene.which(color, form)
        if but:
            cells = tuple(there and not one for there, one in zip(scene.which(), cells))
        asked = text.format(color=color, form=form, more=more)
        return _counted(asked, cells, word=0 if color and not form else 1, start=more)

    return ask


def _more(draw: random.Random, scene: Scene) -> Question:
    return _compared(draw, scene, "more", sign=1)


def _fewer(draw: random.Random, scene: Scene) -> Question:
    return _compared(draw, scene, "fewer", sign=-1)


def _length(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Bar)
    return Question("How many half cells long is the bar?", str(scene.length))


def _angle(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Lines)
    low, high = sorted((45 * scene.first[0], 45 * scene.second[0]))
    steps = [f"{high}-{low}={high - low}"]
    if high - low > 180:
        steps.append(f"360-{high - low}={scene.degrees}")
    text = "How many degrees are between the lines?"
    return Question(text, str(scene.degrees), steps=tuple(steps))


def _counted(text: str, cells: Sequence[bool], word: int = 1, start: int = 0) -> Question:
    """A count of cells, which begins behind `start`."""
    numbers = [start + sum(cells[: n + 1]) if counts else None for n, counts in enumerate(cells)]
    return Question(text, str(start + sum(cells)), numbers=tuple(numbers), word=word)


def _compared(draw: random.Random, scene: Scene, relation: str, sign: int) -> Question:
    """Whether there are more, or fewer, shapes of a color than a number near theirs: mostly as
    often yes as no.
    """
    assert isinstance(scene, Grid)
    color = draw.choice([color for color in COLORS if scene.count(color)] or list(COLORS))
    near = max(scene.count(color) - sign * draw.choice((-1, 0, 1, 2)), 0)
    text = f"Are there {relation} than {near} {color} shapes?"
    value = "yes" if sign * (scene.count(color) - near) > 0 else "no"
    return replace(_counted(text, scene.which(color), word=0), value=value, choices=("yes", "no"))


LEFT = "All {color} shapes are taken away. How many shapes are left?"
ADDED = "{more} {color} shapes are added. How many {color} shapes are there now?"
LEAVE = "All {color} shapes leave. How many are left?"
FORM_ADDED = "{more} {form}s are added. How many {form}s are there now?"

FAMILIES = (
    Family(
        "color",
        DEMONSTRATED,
        Grid,
        _counting("How many {color} shapes are there?"),
        counts=range(7),
    ),
    Family("form", DEMONSTRATED, Grid, _counting("How many {form}s are there?"), counts=range(7)),
    Family("all", DEMONSTRATED, Grid, _counting("How many shapes are there?"), counts=range(1, 10)),
    Family("remove", DEMONSTRATED, Grid, _counting(LEFT, but=True), counts=range(8)),
    Family("add", DEMONSTRATED, Grid, _counting(ADDED), counts=range(2, 9)),
    Family("compare", DEMONSTRATED, Grid, _more),
    Family("length", DEMONSTRATED, Bar, _length),
    Family("angle", DEMONSTRATED, Lines, _angle),
    Family(
        "color, other words",
        ANSWERS_ONLY,
        Grid,
        _counting("How many shapes are {color}?"),
        counts=range(7),
    ),
    Family("count", ANSWERS_ONLY, Grid, _counting("Count the {color} shapes."), counts=range(7)),
    Family(
        "color and form",
        ANSWERS_ONLY,
        Grid,
        _counting("How many {color} {form}s are there?"),
        counts=range(7),
    ),
    Family("remove, other words", ANSWERS_ONLY, Grid, _counting(LEAVE, but=True), counts=range(8)),
    Family("add a form", ANSWERS_ONLY, Grid, _counting(FORM_ADDED), counts=range(2, 9)),
    Family("fewer", ANSWERS_ONLY, Grid, _fewer),
)
