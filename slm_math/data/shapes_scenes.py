"""The scenes of `Shapes`: the nine cells of a grid as words and as pixels.

A grid holds colored shapes, a bar covers half cells in a row or a column, and two lines go from the
middle to two of the cells around it. Pixels are computed with whole numbers, so that they are the
same on every machine.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import TypeAlias

from slm_math.data.base import Split
from slm_math.images import store_image

CELL = 28  # pixels; a Qwen2-VL makes one token of a cell
SIDE = 3 * CELL
COLORS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 220),
    "yellow": (240, 200, 20),
}
FORMS = ("circle", "square", "triangle")
EMPTY = "-"
_PAPER, _RULE = 0, 1  # colors of the palette before those of `COLORS`
_INK = {name: number for number, name in enumerate(COLORS, 2)}
_PALETTE = [255, 255, 255, 225, 225, 225, *(part for color in COLORS.values() for part in color)]
# the eight cells around the middle, counterclockwise from the right: column, row, of 0 to 2
_AROUND = ((2, 1), (2, 0), (1, 0), (0, 0), (0, 1), (0, 2), (1, 2), (2, 2))


@dataclass(frozen=True)
class Grid:
    """Colored shapes; `shapes` has color and form of each cell, row by row, None for an empty
    one.
    """

    shapes: tuple[tuple[str, str] | None, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        return tuple(EMPTY if shape is None else " ".join(shape) for shape in self.shapes)

    def count(self, color: str | None = None, form: str | None = None) -> int:
        """The number of shapes of this color and this form; None is any."""
        return sum(self.which(color, form))

    def which(self, color: str | None = None, form: str | None = None) -> tuple[bool, ...]:
        """Whether each cell has such a shape."""
        return tuple(
            shape is not None and color in (None, shape[0]) and form in (None, shape[1])
            for shape in self.shapes
        )

    def paint(self, pixels: bytearray) -> None:
        for place, shape in enumerate(self.shapes):
            if shape is not None:
                row, column = divmod(place, 3)
                _paste(pixels, _shape(*shape), column * CELL, row * CELL)


@dataclass(frozen=True)
class Bar:
    """A bar of `length` half cells in the row (if `upright`, the column) `line`, of which it leaves
    `start` half cells free.
    """

    color: str
    upright: bool
    line: int
    start: int
    length: int

    @property
    def cells(self) -> tuple[str, ...]:
        """How many halves of each cell it covers."""
        covered = [0] * 9
        for half in range(self.start, self.start + self.length):
            column, row = (self.line, half // 2) if self.upright else (half // 2, self.line)
            covered[3 * row + column] += 1
        return tuple(str(count) if count else EMPTY for count in covered)

    def paint(self, pixels: bytearray) -> None:
        across = range(self.line * CELL + 9, self.line * CELL + 19)
        along = range(self.start * CELL // 2, (self.start + self.length) * CELL // 2)
        for a, b in product(along, across):
            x, y = (b, a) if self.upright else (a, b)
            pixels[y * SIDE + x] = _INK[self.color]


@dataclass(frozen=True)
class Lines:
    """Two lines from the middle to two of the eight cells around it, numbered counterclockwise from
    the right.
    """

    first: tuple[int, str]
    second: tuple[int, str]

    @property
    def degrees(self) -> int:
        apart = abs(self.first[0] - self.second[0])
        return 45 * min(apart, 8 - apart)

    @property
    def cells(self) -> tuple[str, ...]:
        cells = [EMPTY] * 9
        for direction, color in (self.first, self.second):
            column, row = _AROUND[direction]
            cells[3 * row + column] = f"{color} line"
        return tuple(cells)

    def paint(self, pixels: bytearray) -> None:
        for direction, color in (self.first, self.second):
            right, down = (place - 1 for place in _AROUND[direction])
            for step in range(SIDE // 2 - 2):
                x, y = SIDE // 2 + right * step, SIDE // 2 + down * step
                for dx, dy in product(range(-2, 2), repeat=2):
                    pixels[(y + dy) * SIDE + x + dx] = _INK[color]


Scene: TypeAlias = Grid | Bar | Lines


def reading(scene: Scene, numbers: tuple[int | None, ...] = (), word: int = 1) -> str:
    """The text of the nine cells, a line for each row of the grid.

    Args:
        scene: the scene.
        numbers: what a solution counts at each cell, None for a cell that does not count.
        word: where a number is written in its cell: 0 behind the color, 1 behind the form.
    """
    cells = list(scene.cells)
    for place, number in enumerate(numbers):
        if number is not None:
            words = cells[place].split()
            words.insert(word + 1, str(number))
            cells[place] = " ".join(words)
    return "\n".join(", ".join(cells[row : row + 3]) for row in (0, 3, 6))


def split_of(scene: Scene) -> Split:
    """The split of a scene, whatever is asked about it."""
    bucket = zlib.crc32(repr(scene).encode()) % 8
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


@lru_cache(maxsize=1 << 16)
def image_of(scene: Scene) -> str:
    """The path of a PNG of the scene, which is written if it is not there."""
    from PIL import Image as Pillow

    pixels = bytearray(_paper())
    scene.paint(pixels)
    image = Pillow.frombytes("P", (SIDE, SIDE), bytes(pixels))
    image.putpalette(_PALETTE)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return store_image(sink.getvalue())


def draw_grid(draw: random.Random) -> Grid:
    """Any number of shapes; often many of them have one color, or one form."""
    color, form = draw.choice(list(COLORS)), draw.choice(FORMS)
    same_color, same_form = draw.random(), draw.random()
    places = set(draw.sample(range(9), draw.randint(0, 9)))
    shapes = [
        (
            color if draw.random() < same_color else draw.choice(list(COLORS)),
            form if draw.random() < same_form else draw.choice(FORMS),
        )
        if place in places
        else None
        for place in range(9)
    ]
    return Grid(tuple(shapes))


@cache
def all_bars() -> tuple[Bar, ...]:
    return tuple(
        Bar(color, upright, line, start=start, length=length)
        for color, upright, line in product(COLORS, (False, True), range(3))
        for start in range(6)
        for length in range(1, 7 - start)
    )


@cache
def all_lines() -> tuple[Lines, ...]:
    return tuple(
        Lines((first, one), (second, other))
        for first, second in product(range(8), repeat=2)
        for one, other in product(COLORS, repeat=2)
        if first < second
    )


@cache
def _paper() -> bytes:
    """An empty grid: white, with a gray rule around each cell."""
    ends = {0, CELL - 1}
    return bytes(
        _RULE if x % CELL in ends or y % CELL in ends else _PAPER
        for y, x in product(range(SIDE), repeat=2)
    )


@cache
def _shape(color: str, form: str) -> tuple[tuple[int, int, bytes], ...]:
    """A shape in a cell: the runs of pixels (x, y, pixels) that it covers."""
    return tuple((start, y, bytes([_INK[color]]) * (end - start)) for y, start, end in _runs(form))


def _runs(form: str) -> Iterator[tuple[int, int, int]]:
    """(y, first x, first x behind) of each line of pixels that a form covers in its cell."""
    for y in range(5, 23):
        if form == "square":
            yield y, 5, 23
        elif form == "triangle":
            half = (y - 4) // 2
            yield y, 14 - half, 14 + half
        else:  # twice the distances to the middle, which lies between two pixels
            half = next(w for w in range(10, 0, -1) if (2 * w - 1) ** 2 + (2 * y - 27) ** 2 <= 324)
            yield y, 14 - half, 14 + half


def _paste(
    pixels: bytearray, runs: tuple[tuple[int, int, bytes], ...], left: int, top: int
) -> None:
    for x, y, run in runs:
        start = (top + y) * SIDE + left + x
        pixels[start : start + len(run)] = run
