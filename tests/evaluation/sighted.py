"""Problems with images, and an engine that sees them: it answers by the color of an image, and
guesses 1 where there is none to see.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.one_by_one import OneByOne
from PIL import Image as Pillow

from slm_math.agents import Agent
from slm_math.data.base import Source, Split
from slm_math.engines.base import Request
from slm_math.images import open_image
from slm_math.types import Generate, Image, Problem, Task, Workflow, user

COLORS = {1: (200, 0, 0), 2: (0, 0, 200)}


def tasks(folder: Path, shown: int = 6, textual: int = 2) -> list[Task]:
    """Problems with an image, in turn red (1) and blue (2), and others without, whose answer is
    1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(shown):
        gold = 1 + i % 2
        file = folder / f"{i}.png"
        Pillow.new("RGB", (20 + i, 10), COLORS[gold]).save(file)
        problem = Problem(f"colors/test/{i}", f"Which of the colors is {i}?", "num")
        image = Image(str(file))
        made.append(Task(Problem(problem.id, problem.text, "num", images=(image,)), str(gold)))
    made += [Task(Problem(f"colors/test/t{i}", f"What is 1 + 0 * {i}?", "num"), "1")
             for i in range(textual)]  # fmt: skip
    return made


class Colors(Source):
    """The problems above, in a folder."""

    name = "colors"

    def __init__(self, folder: str, shown: int = 6, textual: int = 2) -> None:
        self.folder, self.shown, self.textual = folder, shown, textual

    def tasks(self, split: Split) -> list[Task]:
        return tasks(Path(self.folder), self.shown, self.textual)


class Blindfolded(Agent):
    """Asks about the text alone."""

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(user(problem.text))]
        return reply.text


class Sighted(OneByOne):
    """Sees red and blue."""

    def __init__(self) -> None:
        super().__init__(seen)


def seen(request: Request) -> str:
    images = [part for message in request.chat for part in message.content
              if isinstance(part, Image)]  # fmt: skip
    colors = [open_image(image.source).getpixel((0, 0)) for image in images]
    return r"\boxed{2}" if COLORS[2] in colors else r"\boxed{1}"
