"""The reference pages are those that the code has now."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_reference import stale
from reference.docstrings import read_docstring
from reference.pages import CALLBACKS, PAGES
from reference.sources import described

from slm_math.cli import COMMANDS, TRAINING
from slm_math.short_names import __all__ as engines


def test_pages_are_fresh() -> None:
    names = [path.name for path in stale()]
    assert not names, f"stale: {', '.join(names)}: run python scripts/build_reference.py"


def test_every_command_and_engine_has_its_place() -> None:
    commands, classes = PAGES["cli"](), PAGES["engines"]()
    assert all(f"\n## {name}\n" in commands for name in COMMANDS)
    assert all(f"[`{name}`](#training)" in commands for name in TRAINING)
    assert all(f"\n### {name}\n" in classes for name in engines)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        # what `__init__` and its bases take, and hand on
        ("slm_math.rewards.Format", "kind passed failed wrong finish layout weight role name"),
        ("slm_math.data.GSM8K", "path validation limit"),
        ("slm_math.agents.CodeFeedback", "prompt output_prompt"),
        (f"{CALLBACKS}.Checkpoints", "dirpath minutes"),
    ],
)
def test_options_are_those_of_the_class(path: str, options: str) -> None:
    assert [option.name for option in described(path).options] == options.split()


def test_defaults_and_types_are_written_out() -> None:
    lora = {option.name: option for option in described("slm_math.policy.lora.Lora").options}
    assert lora["targets"].default == "attention"  # a constant of the module
    shapes = {each.name: each for each in described("slm_math.rewards.Length").options}
    assert shapes["shape"].type == "Literal['ramp', 'brief', 'cosine', 'window']"
    retry = {o.name: o for o in described("slm_math.agents.SolverVerifier").options}
    assert retry["verify_prompt"].meaning == "Slots: `{problem}` `{draft}` `{answer}`."


def test_docstring_becomes_markdown() -> None:
    doc = read_docstring(
        """Does it.

        Takes a < b and `<c>`; two
        lines.

        - one
          point
        - another

        Args:
            n: a number,
                over two lines.
            low, high: its bounds.

        Raises ValueError.
        """
    )
    assert doc.summary == "Does it."
    assert doc.text == (
        "Takes a \\< b and `<c>`; two lines.\n\n- one point\n- another\n\nRaises ValueError."
    )
    assert doc.options == {
        "n": "a number, over two lines.",
        "low": "its bounds.",
        "high": "its bounds.",
    }


def test_links_lead_to_sections(tmp_path: Path) -> None:
    for name, write in PAGES.items():
        for part in write().split("](")[1:]:
            page, _, anchor = part.partition(")")[0].partition("#")
            if page.startswith("../") or not anchor:
                continue
            text = PAGES[page.removesuffix(".md") if page else name]()
            heads = [line.lstrip("#").strip() for line in text.splitlines() if line[:1] == "#"]
            assert anchor in [head.lower().replace(" ", "-") for head in heads], part
