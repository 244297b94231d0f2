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
from collections.abc import Iterator

from slm_math.data.arithmetic_families import DEMONSTRATED
from slm_math.data.arithmetic_twins import OTHER
from slm_math.data.base import Source, Split
from slm_math.data.shapes_families import FAMILIES, Family, Question
from slm_math.data.shapes_scenes import (
    Bar,
    Grid,
    Scene,
    all_bars,
    all_lines,
    draw_grid,
    image_of,
    reading,
    split_of,
)
from slm_math.data.twins import as_twin
from slm_math.prompts import Prompt
from slm_math.ranges import check_whole
from slm_math.types import Chat, Image, Problem, Task, assistant, user

READ = "What is in the cells?"  # the drill
MOST_DRAWS = 100_000


class Shapes(Source):
    """Questions about drawn scenes of 84 x 84 pixels: counts, lengths, angles, comparisons. The
    images are written into the cache folder.

    Args:
        seed: of the random draws; the split of a scene does not depend on it.
        train: number of training problems, evenly over the families.
        validation: number of validation problems, each about another scene; at most 714.
        test: number of test problems, each about another scene; at most 784.
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

    def twins(self, split: Split) -> list[Task]:
        """To each problem a question of the same family, with another answer, about a scene that
        nothing trains on: for test problems of the validation split, and the reverse.
        """
        if split not in OTHER:
            return []
        draw = random.Random(f"{self.seed} twins {split}")
        twins: list[Task] = []
        seen: set[Scene] = set()
        by_name = {family.name: family for family in FAMILIES}
        for parent in self.tasks(split):
            family = by_name[parent.problem.tags["family"]]
            for _ in range(MOST_DRAWS):
                scene, asked = _posed(draw, family, OTHER[split])
                if scene not in seen and asked.answer != parent.gold:
                    seen.add(scene)
                    twins.append(as_twin(_task("", family, scene, asked), parent.problem))
                    break
        return twins

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
    """What is in the cells, counted on the way, then the answer."""
    steps = [reading(scene, asked.numbers, asked.word), *asked.steps]
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
    return (
        max(drawn, key=lambda asked: sum(n is not None for n in asked.numbers))
        if family.counts
        else drawn[0]
    )


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
