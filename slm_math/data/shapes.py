"""Shapes: generated questions about small drawn scenes, so easy that a small model with eyes learns
them from random weights on a CPU, in minutes.

A problem of the family "color" about a grid of nine cells, and its worked solution:

    How many red shapes are there?

    red 1 circle, -, blue square
    -, red 2 square, -
    -, -, yellow triangle
    #### 2
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from slm_math.data.arithmetic_families import ANSWERS_ONLY, DEMONSTRATED
from slm_math.data.base import Source, Split
from slm_math.data.shapes_scenes import (
    COLORS,
    FORMS,
    Bar,
    Grid,
    Lines,
    Scene,
    all_bars,
    all_lines,
    draw_grid,
    image_of,
    reading,
    split_of,
)
from slm_math.prompts import Prompt
from slm_math.ranges import check_whole
from slm_math.types import Chat, Image, Problem, Task, assistant, user

READ = "What is in the cells?"  # the drill
# words that no dialogue explains
LOOKS = {"circle": "round", "square": "four-sided", "triangle": "three-sided"}
LIKE = {"red": "blood", "green": "grass", "blue": "the sky", "yellow": "the sun"}
MOST_DRAWS = 100_000


@dataclass(frozen=True)
class Question:
    """A question about a scene: its answer, for several choices also the value of the right one,
    and for a count also which cells count, and by which word of them.
    """

    text: str
    value: str
    choices: tuple[str, ...] = ()
    counted: tuple[bool, ...] = ()
    word: int = 1

    @property
    def answer(self) -> str:
        """The value, or the letter of its choice."""
        return chr(ord("A") + self.choices.index(self.value)) if self.choices else self.value


@dataclass(frozen=True)
class Family:
    """Questions of one form about scenes of one form. `kind` says whether dialogues demonstrate
    them; only reinforcement learning can teach the others, whose words no dialogue explains.
    `counts` are the values that problems have equally often, so that guessing one does not pay.
    """

    name: str
    kind: str
    scene: type[Scene]
    ask: Callable[[random.Random, Scene], Question]
    counts: range | None = None


def _of_color(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    color = draw.choice(list(COLORS))
    return _counted(f"How many {color} shapes are there?", scene.which(color), word=0)


def _of_form(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    form = draw.choice(FORMS)
    return _counted(f"How many {form}s are there?", scene.which(form=form))


def _all(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    return _counted("How many shapes are there?", scene.which())


def _counted(text: str, cells: tuple[bool, ...], word: int = 1) -> Question:
    return Question(text, str(sum(cells)), counted=cells, word=word)


def _chosen(draw: random.Random, scene: Scene) -> Question:
    asked = _of_color(draw, scene)
    near = [n for n in range(10) if n != int(asked.value) and abs(n - int(asked.value)) <= 4]
    choices = [asked.value, *map(str, draw.sample(near, 3))]
    draw.shuffle(choices)
    return replace(asked, choices=tuple(choices))


def _length(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Bar)
    return Question("How many half cells long is the bar?", str(scene.length))


def _angle(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Lines)
    return Question("How many degrees are between the lines?", str(scene.degrees))


def _described(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    form = draw.choice(FORMS)
    return Question(f"How many shapes are {LOOKS[form]}?", str(scene.count(form=form)))


def _likened(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    color = draw.choice(list(COLORS))
    return Question(f"How many shapes look like {LIKE[color]}?", str(scene.count(color)))


def _removed(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    color = draw.choice(list(COLORS))
    left = scene.count() - scene.count(color)
    return Question(f"All {color} shapes are taken away. How many shapes are left?", str(left))


def _added(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    color, more = draw.choice(list(COLORS)), draw.randint(1, 3)
    text = f"{more} {color} shapes are added. How many {color} shapes are there now?"
    return Question(text, str(scene.count(color) + more))


def _compared(draw: random.Random, scene: Scene) -> Question:
    assert isinstance(scene, Grid)
    one, other = draw.sample(list(COLORS), 2)
    counts = scene.count(one), scene.count(other)
    value = "as many" if counts[0] == counts[1] else one if counts[0] > counts[1] else other
    return Question(f"Are there more {one} or more {other} shapes?", value, (one, other, "as many"))


FAMILIES = (
    Family("color", DEMONSTRATED, Grid, _of_color, counts=range(7)),
    Family("form", DEMONSTRATED, Grid, _of_form, counts=range(7)),
    Family("all", DEMONSTRATED, Grid, _all, counts=range(1, 10)),
    Family("color, choices", DEMONSTRATED, Grid, _chosen, counts=range(7)),
    Family("length", DEMONSTRATED, Bar, _length),
    Family("angle", DEMONSTRATED, Lines, _angle),
    Family("form, other words", ANSWERS_ONLY, Grid, _described, counts=range(7)),
    Family("color, other words", ANSWERS_ONLY, Grid, _likened, counts=range(7)),
    Family("remove", ANSWERS_ONLY, Grid, _removed, counts=range(8)),
    Family("add", ANSWERS_ONLY, Grid, _added, counts=range(1, 9)),
    Family("compare", ANSWERS_ONLY, Grid, _compared),
)


class Shapes(Source):
    """Questions about drawn scenes of 84 x 84 pixels: counts, lengths, angles, comparisons. The
    images are written into the cache folder.

    Args:
        seed: of the random draws; the split of a scene does not depend on it.
        train: number of training problems, evenly over the families.
        validation: number of validation problems, each about another scene; at most 550.
        test: number of test problems, each about another scene; at most 550.
        scenes: number of images that the dialogues are about.
        solve: number of worked solutions, all of demonstrated families.
        drills: number of drills, which read the cells of an image and answer nothing.
    """

    name = "shapes"

    def __init__(
        self,
        seed: int = 0,
        train: int = 4000,
        validation: int = 300,
        test: int = 300,
        scenes: int = 5000,
        solve: int = 10000,
        drills: int = 10000,
    ) -> None:
        counts = {"train": train, "validation": validation, "test": test}
        counts |= {"solve": solve, "drills": drills}
        for name, count in counts.items():
            check_whole(f"Shapes.{name}", count, low=0)
        check_whole("Shapes.scenes", scenes, low=1)
        self.seed, self.scenes = seed, scenes
        self.sizes: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        for split in ("validation", "test"):
            if self.sizes[split] > (largest := largest_size(split)):
                raise ValueError(
                    f"Shapes has at most {largest} {split} problems about different scenes, evenly "
                    f"over its families; {split} is {self.sizes[split]}"
                )
        self.solve, self.drills = solve, drills

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split; `tags` has the family and the kind."""
        draw = random.Random(f"{self.seed} tasks {split}")
        tasks: list[Task] = []
        seen: set[Scene] = set()
        while len(tasks) < self.sizes[split]:
            family = FAMILIES[len(tasks) % len(FAMILIES)]
            scene, asked = _posed(draw, family, split)
            if split == "train" or scene not in seen:
                tasks.append(_task(f"{self.name}/{split}/{len(tasks)}", family, scene, asked))
                seen.add(scene)
        return tasks

    def dialogues(self, split: Split, prompt: str = "solve_plain") -> list[Chat]:
        """The demonstrations in the order of training, worked solutions and drills mixed; for
        validation and test 5 % of them.
        """
        draw = random.Random(f"{self.seed} dialogues {split}")
        share = 1.0 if split == "train" else 0.05
        demonstrated = [family for family in FAMILIES if family.kind == DEMONSTRATED]
        pool = [
            _posed(draw, demonstrated[n % len(demonstrated)], split)[0]
            for n in range(max(round(self.scenes * share), 1))
        ]
        chats: list[Chat] = []
        for _ in range(round(self.solve * share)):
            scene = draw.choice(pool)
            family = draw.choice([each for each in demonstrated if type(scene) is each.scene])
            task = _task("", family, scene, _asked_of(draw, family, scene))
            chats.append(task.problem.ask(Prompt(prompt)) + assistant(task.solution or ""))
        for _ in range(round(self.drills * share)):
            scene = draw.choice(pool)
            chats.append(user(READ, [Image(image_of(scene))]) + assistant(reading(scene)))
        draw.shuffle(chats)
        return chats


def solution_of(scene: Scene, asked: Question) -> str:
    """What is in the cells, counted on the way, then the answer; before a letter the value and the
    choices up to it.
    """
    steps = [reading(scene, asked.counted, asked.word)]
    if asked.choices:
        upto = asked.choices[: asked.choices.index(asked.value) + 1]
        steps += [asked.value, *(f"{chr(ord('A') + n)} {choice}" for n, choice in enumerate(upto))]
    return "\n".join([*steps, f"#### {asked.answer}"])


def _task(id: str, family: Family, scene: Scene, asked: Question) -> Task:
    problem = Problem(
        id,
        asked.text,
        answer_type="mc" if asked.choices else "num",
        choices=asked.choices,
        images=(Image(image_of(scene)),),
        tags={"family": family.name, "kind": family.kind},
    )
    return Task(
        problem, asked.answer, solution_of(scene, asked) if family.kind == DEMONSTRATED else None
    )


def _posed(draw: random.Random, family: Family, split: Split) -> tuple[Scene, Question]:
    """A scene of the split and a question about it."""
    wanted = None if family.counts is None else str(draw.choice(family.counts))
    for _ in range(MOST_DRAWS):
        scene = _drawn(draw, family.scene)
        asked = family.ask(draw, scene)
        if wanted in (None, asked.value) and split_of(scene) == split:
            return scene, asked
    raise ValueError(f"{family.name!r} has no problem in the {split} split")


def _asked_of(draw: random.Random, family: Family, scene: Scene) -> Question:
    """A question about a given scene; of three draws the one with the highest count, since most
    colors and forms are in few cells, and who learns to answer 0 learns nothing.
    """
    drawn = [family.ask(draw, scene) for _ in range(3)]
    return max(drawn, key=lambda asked: sum(asked.counted)) if family.counts else drawn[0]


def _drawn(draw: random.Random, form: type[Scene]) -> Scene:
    """A random scene; every length, and every angle, is as frequent as any other."""
    if form is Grid:
        return draw_grid(draw)
    if form is Bar:
        length = draw.randint(1, 6)
        return draw.choice([bar for bar in all_bars() if bar.length == length])
    degrees = draw.choice((45, 90, 135, 180))
    return draw.choice([lines for lines in all_lines() if lines.degrees == degrees])


def largest_size(split: Split) -> int:
    """The most problems about different scenes, evenly over the families."""
    scenes = (all_bars(), all_lines())
    least = min(sum(split_of(scene) == split for scene in some) for some in scenes)
    return least * len(FAMILIES)


def corpus() -> Iterator[str]:
    """The text that a tokenizer is trained on: the same for every seed and size, from the training
    split only. No image is drawn.
    """
    draw = random.Random("corpus")
    for family in FAMILIES * 60:
        scene, asked = _posed(draw, family, "train")
        yield Problem("", asked.text, choices=asked.choices).statement
        yield solution_of(scene, asked)
        yield f"{READ}\n{reading(scene)}"
