"""Reports: evaluations as one HTML file, with figures and tables for papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["report"]


def report(
    folders: Sequence[str],
    out: str = "report.html",
    plots: str | None = None,
    transcripts: int = 300,
    image_mb: float = 20.0,
    over: Literal["seeds"] | None = None,
    filter: str | None = None,
    cluster: str | None = None,
) -> None:
    """Writes one HTML file about evaluations, with their transcripts; the page loads nothing from
    elsewhere.

    Args:
        folders: output folders of `slm-math eval`, folders of single agents in them, `eval/<epoch>`
            folders, the folder of a training run (the page then shows its last evaluation and the
            curves of training), or a folder that holds several of these. Or files of completions,
            as `grade` reads them.
        out: the HTML file.
        plots: folder for every figure as PNG and SVG, and for summary.md and summary.tex.
        transcripts: the most transcripts of each agent in the page, which says which ones it has.
        image_mb: the most MB that thumbnails of images take in the page; 0 shows none.
        over: with "seeds", also whether a method is better and not only these weights, as `compare
            --over seeds` says it: the first half of the folders are runs of the baseline with
            different seeds, the second half those of the method, in the same order.
        filter: of files of lm-eval, the filter whose rows count (strict-match): what it left of the
            replies is graded.
        cluster: a tag of the problems, or images: problems with the same value are one unit of
            intervals and tests, by default the instances of a template, as in `compare`.
    """
    from slm_math.records.outputs import check_output
    from slm_math.report.assemble import report as write

    options = {"filter": filter, "over_seeds": over == "seeds", "cluster": cluster}
    check_output("report", out, folders)
    file = write(folders, out, plots, transcripts=transcripts, image_mb=image_mb, **options)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    if plots is not None:
        print(f"{plots}: figures, summary.md, summary.tex")
