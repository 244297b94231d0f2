"""Tables: Markdown and LaTeX that show text as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report.runs import record, varied, write

from slm_math.report import report
from slm_math.report.tables import Table, latex, markdown


@pytest.mark.parametrize(
    ("text", "tex", "md"),
    [
        ("a_b", r"a\_b", r"a\_b"),
        ("50 % & $5", r"50 \% \& \$5", r"50 % &amp; \$5"),
        ("a|b", r"a\textbar{}b", r"a\|b"),
        (r"\input{x}", r"\textbackslash{}input\{x\}", r"\\input\{x\}"),
        ("<b>", r"\textless{}b\textgreater{}", r"&lt;b\>"),
        ("[x](y)", r"{[}x{]}(y)", r"\[x\](y)"),
        ("a\nb\x1b", "a b?", "a b\ufffd"),
        ("x^2~#", r"x\textasciicircum{}2\textasciitilde{}\#", r"x^2\~\#"),
    ],
)
def test_text_is_escaped(text: str, tex: str, md: str) -> None:
    assert latex(text) == tex
    assert markdown(text) == md


def test_latex_table() -> None:
    table = Table("T", ("run", "n"), (("a_1", "5"),), "Note.")
    assert table.latex() == (
        "\\begin{table}\n\\centering\n\\caption{T. Note.}\n\\begin{tabular}{lr}\n\\toprule\nrun & "
        "n \\\\\n\\midrule\n"
        "a\\_1 & 5 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_markdown_table() -> None:
    table = Table("T", ("run", "n"), (("a", "5"),))
    assert table.markdown() == "**T**\n\n| run | n |\n| --- | ---: |\n| a | 5 |\n"


def test_files_for_papers(tmp_path: Path) -> None:
    write(tmp_path / "out" / "mine", varied())
    report([str(tmp_path / "out")], str(tmp_path / "r.html"), str(tmp_path / "plots"))
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {
        "accuracy.png",
        "accuracy.svg",
        "accuracy-by-level.svg",
        "summary.md",
        "summary.tex",
    } <= names
    assert (tmp_path / "plots" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    tex = (tmp_path / "plots" / "summary.tex").read_text(encoding="utf-8")
    assert tex.count(r"\begin{tabular}") == 3  # results, by level, by subject
    rows = re.findall(r"^Algebra & (\d+) & ([\d.]+)", tex, re.MULTILINE)
    assert rows == [("6", "66.7")]  # samples 0, 2, 4, 6 of 0, 2, ..., 10 are right


def test_a_tag_s_name_is_no_path(tmp_path: Path) -> None:
    rows = [record(i, True, tags={"../../up": str(i)}) for i in range(2)]
    write(tmp_path / "out" / "mine", rows)
    report([str(tmp_path / "out")], str(tmp_path / "r.html"), str(tmp_path / "plots"))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "plots", "r.html"}
    assert len(list((tmp_path / "plots").glob("accuracy-by-up*.svg"))) == 1
