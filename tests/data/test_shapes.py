"""The drawn scenes: the answers are those of the pixels, splits share no scene, and all is the same
again.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image as Pillow

from slm_math.answers import grade_reply
from slm_math.data.arithmetic_families import ANSWERS_ONLY
from slm_math.data.base import read_dialogues, read_tasks
from slm_math.data.shapes import FAMILIES, READ, Shapes, corpus
from slm_math.images import check_image, image_hash
from slm_math.types import Chat, Image, Task

SPLITS = ("train", "validation", "test")
NAMES = {(214, 39, 40): "red", (44, 160, 44): "green", (31, 80, 220): "blue"}
NAMES |= {(240, 200, 20): "yellow", (255, 255, 255): ""}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLM_MATH_CACHE", str(folder))
        yield folder  # type: ignore[misc]


@pytest.fixture(scope="module")
def source() -> Shapes:
    return Shapes(train=140, validation=36, test=36, scenes=60, solve=60, drills=60)


@pytest.fixture(scope="module")
def tasks(source: Shapes) -> dict[str, list[Task]]:
    return {split: source.tasks(split) for split in SPLITS}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dialogues(source: Shapes) -> dict[str, list[Chat]]:
    return {split: source.dialogues(split) for split in SPLITS}  # type: ignore[arg-type]


def color_at(image: Pillow.Image, x: int, y: int) -> str:
    return NAMES[image.convert("RGB").getpixel((x, y))]  # type: ignore[index]


def seen(path: str) -> list[str]:
    """What is in the nine cells of a grid, by the pixels in the middle and at two corners of a
    shape.
    """
    cells = []
    with Pillow.open(path) as image:
        for row in range(3):
            for column in range(3):
                x, y = 28 * column, 28 * row
                color = color_at(image, x + 14, y + 14)
                above, below = color_at(image, x + 6, y + 6), color_at(image, x + 6, y + 22)
                form = "square" if above else "triangle" if below else "circle"
                cells.append(f"{color} {form}" if color else "-")
    return cells


def of_family(tasks: list[Task], name: str) -> list[Task]:
    return [task for task in tasks if task.problem.tags["family"] == name]


def value(task: Task) -> str:
    """The answer; of a letter its choice."""
    choices = task.problem.choices
    return choices["ABCD".index(task.gold)] if choices else task.gold


@pytest.mark.parametrize("split", SPLITS)
def test_counts_are_those_of_the_pixels(tasks: dict[str, list[Task]], split: str) -> None:
    for task in tasks[split]:
        cells = seen(task.problem.images[0].source)
        words = re.findall(r"\w+", task.problem.text)
        colors = [word for word in words if word in NAMES.values()]
        forms = [word.rstrip("s") for word in words if word.rstrip("s") in ("circle", "square")]
        forms += ["triangle"] * ("triangles" in words)
        shapes = [cell for cell in cells if cell != "-"]
        family = task.problem.tags["family"]
        if family in ("length", "angle", "compare", "fewer"):
            continue  # they have tests of their own
        matching = [s for s in shapes if all(word in s for word in colors[:1] + forms[:1])]
        expected = len(shapes) - len(matching) if "remove" in family else len(matching)
        expected += int(words[0]) if "add" in family else 0
        assert value(task) == str(expected), task.problem.text


@pytest.mark.parametrize("family", ["compare", "fewer"])
def test_comparisons_are_those_of_the_pixels(tasks: dict[str, list[Task]], family: str) -> None:
    for task in of_family(tasks["train"], family):
        words = re.findall(r"\w+", task.problem.text)
        number, color = words[-3:-1]
        count = sum(color in cell for cell in seen(task.problem.images[0].source))
        holds = count > int(number) if family == "compare" else count < int(number)
        assert task.problem.choices == ("yes", "no")
        assert value(task) == ("yes" if holds else "no")


def test_lengths_are_those_of_the_pixels(tasks: dict[str, list[Task]]) -> None:
    for task in of_family(tasks["train"], "length"):
        with Pillow.open(task.problem.images[0].source) as image:
            counts = Counter(image.convert("RGB").getdata())
        [ink] = [count for color, count in counts.items() if NAMES.get(color)]
        assert ink == 10 * 14 * int(task.gold)  # ten pixels wide


def test_angles_are_those_of_the_pixels(tasks: dict[str, list[Task]]) -> None:
    around = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
    for task in of_family(tasks["train"], "angle"):
        with Pillow.open(task.problem.images[0].source) as image:
            inked = [bool(color_at(image, 42 + 30 * x, 42 + 30 * y)) for x, y in around]
        first, second = [number for number, is_inked in enumerate(inked) if is_inked]
        apart = 45 * (second - first)
        assert int(task.gold) == min(apart, 360 - apart)


def test_a_solution_reads_the_cells_and_then_answers(tasks: dict[str, list[Task]]) -> None:
    for task in tasks["train"]:
        assert (task.solution is None) == (task.problem.tags["kind"] == ANSWERS_ONLY)
        if task.solution is None:
            continue
        assert grade_reply(task.solution, task).correct
        *lines, last = task.solution.split("\n")
        assert last == f"#### {task.gold}"
        family = task.problem.tags["family"]
        if family in ("length", "angle"):
            continue
        cells = ", ".join(lines[:3]).split(", ")
        plain = [re.sub(r" \d", "", cell) for cell in cells]
        assert plain == seen(task.problem.images[0].source)
        numbers = list(map(int, re.findall(r"\d", " ".join(lines[:3]))))
        start = int(task.problem.text[0]) if family == "add" else 0
        assert numbers == [start + n for n in range(1, len(numbers) + 1)]
        if family != "compare":
            assert start + len(numbers) == int(task.gold)


def test_the_difference_of_directions_is_the_angle(tasks: dict[str, list[Task]]) -> None:
    for task in of_family(tasks["train"], "angle"):
        sums = (task.solution or "").split("\n")[3:-1]
        assert sums[-1].endswith(f"={task.gold}")
        for line in sums:
            first, second, difference = map(int, re.findall(r"\d+", line))
            assert first - second == difference


def test_a_drill_reads_the_cells(dialogues: dict[str, list[Chat]]) -> None:
    drills = [chat for chat in dialogues["train"] if chat[0].text == READ]
    grids = [chat for chat in drills if re.search("circle|square|triangle", chat[1].text)]
    assert len(drills) == 60
    for chat in grids:
        assert ", ".join(chat[1].text.split("\n")).split(", ") == seen(shown([chat])[0])


def shown(chats: list[Chat]) -> list[str]:
    """The images of dialogues."""
    return [part.source for chat in chats for part in chat[0].content if isinstance(part, Image)]


def test_no_scene_is_in_two_splits(
    tasks: dict[str, list[Task]], dialogues: dict[str, list[Chat]]
) -> None:
    hashes = {
        split: {image_hash(task.problem.images[0].source) for task in tasks[split]}
        | {image_hash(source) for source in shown(dialogues[split])}
        for split in SPLITS
    }
    assert not hashes["train"] & hashes["test"]
    assert not hashes["train"] & hashes["validation"]
    assert not hashes["validation"] & hashes["test"]


def test_held_out_problems_are_about_different_scenes(tasks: dict[str, list[Task]]) -> None:
    for split in ("validation", "test"):
        assert len({task.problem.images for task in tasks[split]}) == len(tasks[split]) == 36
    with pytest.raises(ValueError, match=r"at most .* test problems about different scenes"):
        Shapes(test=850)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_most_problems_that_the_options_allow(split: str) -> None:
    largest = Shapes(train=0, validation=714, test=714)
    assert len({task.problem.images for task in largest.tasks(split)}) == 714  # type: ignore[arg-type]


def test_all_is_the_same_again(
    tasks: dict[str, list[Task]], dialogues: dict[str, list[Chat]]
) -> None:
    again = Shapes(train=140, validation=36, test=36, scenes=60, solve=60, drills=60)
    assert again.tasks("train") == tasks["train"]
    assert again.dialogues("train") == dialogues["train"]
    assert Shapes(seed=1, train=90).tasks("train") != tasks["train"]
    assert list(corpus()) == list(corpus())


def test_pixels_are_those_of_every_machine(source: Shapes) -> None:
    """One scene as it was drawn once."""
    import hashlib

    from slm_math.data.shapes_scenes import Bar, Grid, Lines, image_of

    shapes = (("red", "circle"), None, ("blue", "square"), None, ("green", "triangle"))
    scenes = (
        Grid((*shapes, *[None] * 4)),
        Bar("red", True, 1, 2, 3),
        Lines((0, "red"), (3, "blue")),
    )
    digest = hashlib.sha256()
    for scene in scenes:
        with Pillow.open(image_of(scene)) as image:
            digest.update(image.convert("RGB").tobytes())
    assert digest.hexdigest()[:16] == "091f240da87aaa71"


def test_families_kinds_and_sizes(source: Shapes) -> None:
    tasks = read_tasks(source, "train")
    assert Counter(task.problem.tags["family"] for task in tasks) == {
        family.name: 10 for family in FAMILIES
    }
    assert {check_image(task.problem.images[0].source) for task in tasks} == {(84, 84)}
    assert len(read_dialogues(source, "train", "solve_plain")) == 120
    assert len(read_dialogues(source, "validation", "solve_plain")) == 6


def test_images_are_few_and_in_the_cache(cache: Path) -> None:
    before = set(cache.rglob("*.png"))
    chats = Shapes(seed=7, scenes=10, solve=50, drills=50).dialogues("train")
    assert len(set(shown(chats))) <= 10
    assert len(set(cache.rglob("*.png")) - before) <= 10


def test_the_corpus_draws_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    from slm_math.data import shapes

    def refused(scene: object) -> str:
        raise AssertionError

    monkeypatch.setattr(shapes, "image_of", refused)
    texts = list(corpus())
    assert any("#### 135" in text for text in texts)
    assert any(text.startswith(READ) for text in texts)
