"""The pages of the documentation: their links lead somewhere, their commands are understood, and
what troubleshooting quotes is what the code says.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from cases import some
from docs_text import DOCS, ROOT, anchors, commands, links, own_files, pages

from slm_math.cli import TRAINING, run
from slm_math.early import refuse
from slm_math.parsing import RENAMED
from slm_math.records.encoding import to_json
from slm_math.records.record import NoteEvent, Record, RecordedImage, RunEvent, TurnEvent
from slm_math.types import Draft

TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages()}
COMMANDS = {shlex.join(words): words for text in TEXTS.values() for words in commands(text)}
# What a shell would fill in
PLACEHOLDER = re.compile(r"\$\{")
PARSED = [name for name, words in COMMANDS.items() if not any(map(PLACEHOLDER.search, words))]
OF_TRAINING = [c for c in PARSED if c.split()[0] in TRAINING]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who saved what the pages say."""
    for text in TEXTS.values():
        for name, content in own_files(text).items():
            (tmp_path / name).write_text(content, encoding="utf-8")
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_pages_and_headings(page: str) -> None:
    for link in links(TEXTS[page]):
        name, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {link}"


def test_the_index_names_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in links(TEXTS["docs/index.md"])}
    missing = {path for path in pages() if path != DOCS / "index.md"} - listed
    assert not missing


@pytest.mark.parametrize("page", TEXTS)
def test_configs_that_a_page_names_are_there(page: str) -> None:
    named = set(re.findall(r"`(configs/[\w/.-]+\.yaml)`", TEXTS[page]))
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("command", [c for c in PARSED if c.split()[0] in TRAINING])
def test_nothing_in_a_training_command_is_misspelled(command: str, reader: Path) -> None:
    name, *arguments = COMMANDS[command]
    # paths that a reader has need not be here
    refuse(name, [*arguments, "--print_config"], RENAMED)


@pytest.mark.parametrize(
    "command", [c for c in PARSED if c.split()[0] not in {*TRAINING, "download"}]
)
def test_command_is_understood(
    command: str, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    understood(command, capsys)


@pytest.mark.parametrize("command", some(OF_TRAINING, OF_TRAINING[::8]))
def test_training_command_is_understood(
    command: str, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    understood(command, capsys)


def understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run([*COMMANDS[command], "--print_config"])
    assert stop.value.code in (0, None), capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("light_programs")
def test_what_training_says_to_try_runs(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that name runs/try, as they are, one after another."""
    tried = [words for words in commands(TEXTS["docs/training.md"]) if "runs/try" in str(words)]
    assert [words[0] for words in tried] == ["fit", "fit", "report", "export", "eval", "results"]
    for words in tried:
        run(words)
    assert "n = 2" in capsys.readouterr().out
    assert Path("runs/try/report.html").stat().st_size > 10_000


# what the code says


@pytest.fixture(scope="module")
def messages() -> str:
    """All texts of the code, one a line; what a message fills in is a zero byte."""
    files = [*(ROOT / "slm_math").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_bytes()))]
    texts = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    return "\n".join(map(_text, texts))


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    values = [part.value if isinstance(part, ast.Constant) else "\0" for part in parts]
    return "".join(map(str, values)).replace("\n", " ")


QUOTED = re.findall(r"^\*\*`(.+?)`\*\*", TEXTS["docs/troubleshooting.md"], re.MULTILINE)


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_message_is_in_the_code(quoted: str, messages: str) -> None:
    fixed = [re.escape(part) for part in quoted.split("...")]
    assert sum(map(len, fixed)) >= 10  # there is something to recognize
    assert re.search("[^\n]*".join(fixed), messages), quoted


def test_troubleshooting_quotes_messages() -> None:
    assert len(QUOTED) > 40
    assert TEXTS["docs/troubleshooting.md"].count("\n**`") == len(QUOTED)


def test_evaluation_names_every_field_of_a_record() -> None:
    image = RecordedImage("a.png", "1f", True)
    record = Record(
        "p/1",
        0,
        draft=Draft("x", "1"),
        answer_type="num",
        images=(image,),
        skipped=True,
        events=(
            TurnEvent(prompt_hash="2e", model="m", attempt=1, plays="solver"),
            RunEvent(earlier=("x = 1",)),
            NoteEvent("draft", "1", True, 0.5, "solver", (1,)),
        ),
        parts={"solver": {"correct": 1.0}},
        rewards={"solver": 1.0},
        advantages={"solver": 0.5},
        reward_errors={"solver": {"judge": "no reply"}},
    )
    row = to_json(record)
    names = {*row, *(name for event in row["events"] for name in event), *row["images"][0]}
    _, _, section = TEXTS["docs/evaluation.md"].partition("## The files")
    assert {name for name in names if f"`{name}`" not in section} == set()
