"""Model cards: what they say of a run, and that nothing of it is markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import SCRATCH, chats, model_folder, sft, trainer

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval, ExportHF
from slm_math.engines.settings import Inference
from slm_math.exports.card import Origin, plain_text, write_card
from slm_math.policy.config import Lora, Policy
from slm_math.types import Sampling

HOSTILE = "a | b <script>alert(1)</script> [x](http://y) `c` **d** \x1b[2J\n# e & &lt; <!-- -->"


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_card_of_a_run_has_its_settings_and_its_last_figures(tmp_path: Path) -> None:
    sampling = Inference(sampling=Sampling(0.0, max_new_tokens=4))
    evaluation = AgentEval({"one": SingleShot("solve_plain")}, limit=6, inference=sampling)
    run = trainer(
        tmp_path / "run",
        limit_train_batches=1,
        max_epochs=2,
        callbacks=[ExportHF(check=False), evaluation],
    )
    run.fit(sft(Policy(path=str(model_folder(tmp_path / "base")), lora=Lora(r=4))), chats())
    card = (tmp_path / "run/export/README.md").read_text()
    assert front(card)["library_name"] == "peft"
    assert "base_model" not in front(card)  # a folder of this machine
    assert str(tmp_path) not in card.split("## Command")[0]
    summary = json.loads((tmp_path / "run/eval/epoch-1/one/summary.json").read_text())
    accuracy, low, high = (100 * summary[name] for name in ("accuracy", "low", "high"))
    row = next(line for line in card.splitlines() if line.startswith("| one |"))
    assert f"{accuracy:.1f} \\[{low:.1f}, {high:.1f}\\], n = 6 |" in row
    assert card.count("| one |") == 1  # of these weights, not of those of the epoch before
    assert "Graded by grader version" in card
    assert "| epoch, step | 1, 2 |" in card
    assert "This export was not compared with the policy" in card
    assert "AutoPeftModelForCausalLM" in card


def test_card_of_weights_that_nobody_evaluated_says_so(tmp_path: Path) -> None:
    write_card(tmp_path, Origin(Policy(scratch=SCRATCH)), None)
    card = (tmp_path / "README.md").read_text()
    assert "These weights were not evaluated in training." in card
    assert "| base | none, trained from random weights |" in card
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("run", ["0123abcd", "another"])
def test_text_of_files_is_shown_as_it_is(run: str, tmp_path: Path) -> None:
    root = tmp_path / "x <b>y"
    (root / "export").mkdir(parents=True)
    manifest = {
        "run": "0123abcd",
        "started": HOSTILE,
        "policy": None,
        "command": ["fit", "--x", "````\n<script>"],
        "environment": {"versions": {"torch": HOSTILE}, "commit": HOSTILE},
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    config = {"model": {"class_path": HOSTILE}, "data": {"source": HOSTILE}, "seed_everything": 3}
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    policy = Policy(scratch=SCRATCH)
    write_card(root / "export", Origin(policy, (root,), run=run), None)
    card = (root / "export/README.md").read_text()
    assert ("| seed | 3 |" in card) == (run == "0123abcd")  # the folder may hold another run
    card, blocks = re.subn(r"(?sm)^(`{3,})(sh|python)\n.*?\n\1$", "", card)
    assert blocks == (2 if run == "0123abcd" else 1)
    assert not re.search(r"[<>]|(?<!\\)`", card)
    assert "\x1b" not in card
    for line in card.splitlines():
        if line.startswith("|") and line != "|---|---|":
            assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_plain_text_is_one_line_without_markup() -> None:
    text = plain_text(HOSTILE)
    assert "\n" not in text
    assert not re.search(r"[<>]|(?<!\\)[|`*\[\]#]", text)
    assert "\\x1b" in text.replace("\\\\", "\\")
    assert len(plain_text("a" * 5000)) == 300
