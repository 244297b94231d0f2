"""`slm-math ablate`: from an evaluation to what a turn was worth, with the model that made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from cli.evaluating import Said, ask, gsm8k, ours

from slm_math.records.files import read_records

AGENT = "--agents={twice: {class_path: tiny.Duo}}"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: ask(capsys, *arguments)


def test_an_evaluation_is_run_again_with_its_own_model(
    data: Path, tmp_path: Path, said: Said
) -> None:
    models = [tiny.model_folder(tmp_path / f"model{seed}", seed) for seed in (0, 1)]
    place = tmp_path / "model"
    place.symlink_to(models[0])
    options = ["--limit=4", "--inference.sampling.max_new_tokens=4", "--torch_threads=1"]
    options += ["--inference.sampling.temperature=1.0", f"--out={tmp_path / 'out'}"]
    assert said("eval", gsm8k(data), AGENT, f"--model={place}", *options)[0] == 0
    run = tmp_path / "out" / "twice"
    status, text, error = said("ablate", run, "--turn", "judge", "--draws", "2")
    assert status == 0, error
    assert "judge:1 of" in text
    assert "drawn again" in text
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(("┃", "│")))
    arms = run / "ablate" / "judge-1"
    found = json.loads((arms / "ablation.json").read_text())
    assert found["left out"]["n"] == 4
    assert found["drawn again"]["reruns"] == 8
    before = {one.id: one for one in read_records(run / "records.jsonl")}
    again = read_records(arms / "drawn-again" / "records.jsonl")
    for one in again:
        first, second = one.turns
        assert first == before[one.id].turns[0]  # of the record, with its times
        assert second.prompt == before[one.id].turns[1].prompt
    assert len({one.turns[1].reply for one in again}) > 1
    for name in ("left-out", "drawn-again"):  # evaluations like others
        assert said("compare", run, arms / name)[0] == 0

    place.unlink()
    place.symlink_to(models[1])
    status, _, error = said("ablate", run, "--turn", "judge", f"--out={tmp_path / 'other'}")
    assert status == 2
    assert "was evaluated with another model or decoding" in ours(error)


def test_an_evaluation_that_no_command_made_is_refused(tmp_path: Path, said: Said) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "records.jsonl").write_text(
        json.dumps({"id": "p", "sample": 0, "gold": "1", "correct": True, "events": []}) + "\n"
    )
    manifest = {"identity": {"problems": 1, "samples": 1}, "partial": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    status, _, error = said("ablate", folder, "--turn", "solver")
    assert status == 2
    assert "holds no configuration of `slm-math eval`" in " ".join(error.split())
