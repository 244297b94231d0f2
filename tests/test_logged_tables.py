"""Tables of rollouts in TensorBoard, W&B and trackio: the same rows, and text that stays text."""

import json
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from slm_math.callbacks.rollout_table import COLUMNS, logged_rows
from slm_math.logged_tables import log_table, markdown_table
from slm_math.records.record import Record, TurnEvent
from slm_math.trackio_logger import TrackioLogger

HOSTILE = (
    "![x](http://evil/a.png) <img src=http://evil/b.png> <script>alert(1)</script>\n"
    "# head | cell | **bold** `code` [link](javascript:alert(1)) <http://evil/> &lt; \\| $x_1^2$\n"
    "- {{ 7*7 }} ~~~ === 1. https://evil/ **__a__** wö"
)


class Seen(HTMLParser):
    """The cells of an HTML table, and the names of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        elif tag == "br":
            self.cells[-1] += "\n"

    def handle_data(self, data: str) -> None:
        if data.strip() or (self.cells and self.lasttag == "td"):
            self.cells[-1] += data.strip("\n")


def test_tensorboard_shows_text_of_a_model_literally() -> None:
    plugin_util = pytest.importorskip("tensorboard.plugin_util", reason="needs the extra `loggers`")
    rows = [[3, HOSTILE, None, 0.25], [4, "plain", "b", -1.0]]
    html = plugin_util.markdown_to_safe_html(markdown_table(["step", "reply", "x", "y"], rows))
    seen = Seen()
    seen.feed(html)
    assert seen.elements <= {"table", "thead", "tbody", "tr", "th", "td", "br"}
    assert seen.cells == [
        "step",
        "reply",
        "x",
        "y",
        "3",
        HOSTILE,
        "",
        "0.25",
        "4",
        "plain",
        "b",
        "-1",
    ]


def test_rollout_is_a_row_for_each_role_of_bounded_length() -> None:
    turns = tuple(
        TurnEvent(role=role, reply=reply)
        for role, reply in (("solver", "a" * 9), ("verifier", "\x1b[2Jno"), ("solver", "b" * 50))
    )
    record = Record(
        "p",
        0,
        problem="1+1?",
        gold="2",
        events=turns,
        rewards={"solver": 1.0, "verifier": float("nan")},
        advantages={"solver": -0.5},
    )
    assert list(logged_rows(record, step=7, width=10)) == [
        (7, "1+1?", "2", "solver", "b" * 9 + "…", 1.0, -0.5),
        (7, "1+1?", "2", "verifier", "\\x1b[2Jno", None, None),
    ]


def test_trackio_keeps_metrics_options_and_tables_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio = pytest.importorskip("trackio", reason="needs the extra `trackio`")
    for module in ("utils", "sqlite_storage"):
        monkeypatch.setattr(f"trackio.{module}.TRACKIO_DIR", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for part in range(2):  # a resumed run goes on
        logger = TrackioLogger("games", run="runs-a")
        logger.log_hyperparams({"model": {"lr": 0.5}})
        logger.log_metrics({"train/loss": 2.0 - part}, step=part)
        log_table([logger], "rollouts", COLUMNS, [(part, *"pgr", HOSTILE, 1.0, None)], part)
        logger.finalize("success")
    assert trackio.__version__
    with sqlite3.connect(tmp_path / "games.db") as base:
        found = base.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
        [config] = base.execute("SELECT config FROM configs").fetchall()
        assert len(base.execute("SELECT DISTINCT run_name FROM metrics").fetchall()) == 1
    logged = [(step, json.loads(text)) for step, text in found]
    assert [(step, row["train/loss"]) for step, row in logged if "train/loss" in row] == [
        (0, 2.0),
        (1, 1.0),
    ]
    assert json.loads(config[0])["model"] == {"lr": 0.5}
    tables = [row["rollouts"]["_value"] for _, row in logged if "rollouts" in row]
    assert [row["reply"] for table in tables for row in table] == [HOSTILE, HOSTILE]
    assert tables[1][0]["step"] == 1
