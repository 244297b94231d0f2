"""The chart of a data card: the share of each part, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MOST = 20  # bars; what is beyond shares one
LONGEST = 40  # characters of a name


def draw_shares(file: Path, title: str, rows: Mapping[str, int]) -> None:
    """Draws the share of each part of a data set as a horizontal bar, as PNG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    total = sum(rows.values())
    bars = sorted(rows.items(), key=lambda part: -part[1])
    if len(bars) > MOST:
        others = bars[MOST - 1 :]
        bars = [*bars[: MOST - 1], (f"{len(others)} others", sum(n for _, n in others))]
    shares = [100 * count / total for _, count in bars]
    with rc_context({"font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(7, 1.3 + 0.3 * len(bars)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        drawn = axes.barh(range(len(bars)), shares, color="#0072b2", height=0.7)
        axes.bar_label(
            drawn, [f"{share:.1f} %  ({count:,})" for share, (_, count) in zip(shares, bars)],
            padding=4,
        )  # fmt: skip
        axes.set_yticks(range(len(bars)), [_shortened(name) for name, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.4 * max(shares))  # room for the labels
        axes.set_xlabel("share of the rows in %")
        axes.set_title(f"{_shortened(title, 2 * LONGEST)}: {total:,} rows", loc="left", pad=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="png")


def _shortened(text: str, most: int = LONGEST) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
