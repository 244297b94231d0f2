"""The page: one HTML file that loads nothing and runs only its own script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from slm_math.report.document import embedded, own, policy, rendered
from slm_math.report.drawing import Plot
from slm_math.report.tables import Table
from slm_math.report.text import clean


@dataclass(frozen=True)
class Section:
    """A section of the page: tables, figures, and tables that are folded."""

    id: str
    title: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    folded: Sequence[Table] = field(default=())


def page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    *,
    settings: Sequence[Table],
    shown: str,
    data: dict[str, Any],
) -> str:
    """The HTML of the page. `shown` says which transcripts are in `data` (see
    `transcripts.browser`).
    """
    script = own("page.js")
    values = {
        "title": clean(title),
        "lead": clean(lead),
        "policy": policy(script),
        "style": Markup(own("page.css")),
        "script": Markup(script),
        "sections": [_plain(section) for section in sections],
        "settings": [_cleaned(table) for table in settings],
        "shown": clean(shown),
        "data": Markup(embedded(data)),
    }
    return rendered(own("page.html.jinja"), values)


def _plain(section: Section) -> dict[str, Any]:
    plots = [
        {
            "title": clean(plot.title),
            "caption": clean(plot.caption),
            "svg": Markup(plot.inline()),
        }
        for plot in section.plots
    ]
    tables, folded = (list(map(_cleaned, some)) for some in (section.tables, section.folded))
    return {
        "id": section.id,
        "title": section.title,
        "tables": tables,
        "folded": folded,
        "plots": plots,
    }


def _cleaned(table: Table) -> dict[str, Any]:
    rows = [[clean(cell, 400) for cell in row] for row in table.rows]
    columns = [clean(name, 200) for name in table.columns]
    texts = {"title": clean(table.title), "note": clean(table.note)}
    return texts | {"columns": columns, "rows": rows, "names": table.names}
