"""How figures are drawn: one font size, one color per run, SVG text in the color of the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from slm_math.report.colors import COLORS
from slm_math.report.text import line

HATCHES = ("", "///", "...", "xxx")
DASHES = ("-", "--", ":", "-.")
INK = "#1a1b1c"  # no other element has this color; the page replaces it by its text color
WIDTH = 4.6  # inches; on a phone, the text is then still four fifths of its size
TITLE = 0.28  # inches, of the title of a saved figure
ROW = 0.2  # inches, of a legend

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Plot:
    """A figure with its caption. `name` is what its files are called."""

    name: str
    title: str
    caption: str
    figure: Figure

    def inline(self) -> str:
        """The figure as an SVG element for a page."""
        text = re.sub(r"^.*?(?=<svg)", "", self.svg(), count=1, flags=re.DOTALL)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
        text = re.sub(r'<g id="[^"]*"', "<g", text)
        return text.replace(INK, "currentColor").replace(
            "<svg", '<svg class="plot" aria-hidden="true"', 1
        )

    def svg(self) -> str:
        file = io.StringIO()
        # ids in the file must not be random
        salted: dict[Any, Any] = {**STYLE, "svg.hashsalt": self.name}
        with rc_context(salted), _any_script():
            self.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue()

    def save(self, folder: Path) -> None:
        """Writes `<name>.svg` and, for programs that do not read SVG, `<name>.png` on white."""
        folder.mkdir(parents=True, exist_ok=True)
        self.put_title()
        with rc_context(STYLE), _any_script():
            self.figure.savefig(folder / f"{self.name}.png", dpi=200, facecolor="white")
        (folder / f"{self.name}.svg").write_text(self.svg(), encoding="utf-8")

    def put_title(self) -> None:
        """Makes the figure higher, and writes the title above all that it had, also above its
        legend; nothing else moves.
        """
        figure = self.figure
        with rc_context(STYLE), _any_script():
            figure.canvas.draw()
            width, height = figure.get_size_inches()
            share = height / (height + TITLE)
            figure.set_layout_engine("none")
            figure.set_size_inches(width, height + TITLE)
            for axes in figure.axes:
                x, y, w, h = axes.get_position().bounds
                axes.set_position((x, y * share, w, h * share))
            for legend in figure.legends:
                legend.set_bbox_to_anchor((0, 0, 1, share), figure.transFigure)
            figure.text(0.01, 0.99, line(self.title, 60), fontweight="bold", va="top")


@contextmanager
def _any_script() -> Iterator[None]:
    """Silences warnings about characters that matplotlib's font lacks: a page has its own fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@contextmanager
def drawing(height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure `height` inches high, and the axes of its columns."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])


def color(place: int) -> str:
    return COLORS[place % len(COLORS)]


def face(place: int) -> dict[str, Any]:
    """The style of a run's bars: its color, and hatches once all colors are in use."""
    hatch = HATCHES[place // len(COLORS) % len(HATCHES)]
    return {
        "facecolor": color(place),
        "edgecolor": INK if hatch else "none",
        "hatch": hatch,
        "linewidth": 0.4,
    }


def stroke(place: int) -> dict[str, Any]:
    """The style of a run's lines."""
    return {
        "color": color(place),
        "linestyle": DASHES[place // len(COLORS) % len(DASHES)],
        "linewidth": 1.4,
    }


def bars(
    axes: Axes,
    places: Sequence[float],
    shares: Sequence[tuple[float, float, float]],
    height: float,
    style: dict[str, Any],
    upright: bool = False,
) -> None:
    """Bars of (share, low, high) with whiskers, horizontal or upright; `height` is their extent
    along the axis of the places.
    """
    values = [share for share, _, _ in shares]
    ends = [
        [max(share - low, 0) for share, low, _ in shares],
        [max(high - share, 0) for share, _, high in shares],
    ]
    style = {"alpha": 0.85} | style
    whiskers: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 0.9, "capsize": 2}
    if upright:
        axes.bar(places, values, width=height, **style)
        axes.errorbar(places, values, yerr=ends, **whiskers)
    else:
        axes.barh(places, values, height=height, **style)
        axes.errorbar(values, places, xerr=ends, **whiskers)


def rows(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names the rows of horizontal bars, the first one on top."""
    axes.set_yticks(places, names)
    axes.set_ylim(max(places) + 0.55, min(places) - 0.55)


def shares_axis(axis: Any, label: str) -> None:
    """An axis from 0 to 100 %, with its label."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axis.set_major_locator(MultipleLocator(0.25))
    axis.axes.grid(True, axis=axis.axis_name)
    (axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim)(0, 1)
    axis.set_label_text(label)


def key(figure: Figure, axes: Axes, entries: int) -> None:
    """A legend above the figure, which grows by it, if there are two or more entries."""
    if entries > 1:
        handles, labels = axes.get_legend_handles_labels()
        # as many as fit side by side
        columns = max(1, min(entries, 60 // (max(map(len, labels)) + 7)))
        # each figure has room for one row
        figure.set_figheight(figure.get_figheight() + ROW * (ceil(entries / columns) - 1))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def label(text: object, limit: int = 34) -> str:
    """A name that fits beside an axis."""
    return line(text, limit)
