"""Published data sets from the hub: what is read, what is downloaded, and a hub that is away."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.request import getproxies

import huggingface_hub
import pytest
from data.published import HELD_OUT, PROBLEMS, QUESTIONS, everything, write_jsonl, write_parquet
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from slm_math.data import GSM8K, MATH, MATH500
from slm_math.data.download import download
from slm_math.data.files import HubFile
from slm_math.data.hub import hub_is_away

AWAY = hub_is_away  # as it is, which other tests replace


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A hub that serves small files; returns the list of what was asked for."""
    files = {
        "openai/gsm8k": {"train": QUESTIONS, "test": QUESTIONS[:5]},
        "DigitalLearningGmbH/MATH-lighteval": {"train": PROBLEMS[:30], "test": PROBLEMS[30:]},
    }
    asked = []

    def hf_hub_download(repo_id: str, filename: str, *, repo_type: str, revision: str) -> str:
        asked.append((repo_id, filename))
        assert repo_type == "dataset"
        assert len(revision) == 40
        if repo_id == "HuggingFaceH4/MATH-500":
            return str(write_jsonl(tmp_path / "hub" / filename, HELD_OUT[:1]))
        split = filename.split("/")[-1].split("-")[0]
        return str(write_parquet(tmp_path / "hub" / repo_id / filename, files[repo_id][split]))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return asked


def test_without_a_path_the_hub_is_read(tmp_path: Path, hub: list) -> None:
    write_jsonl(tmp_path / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "test.jsonl", QUESTIONS[:5])
    assert everything(GSM8K()) == everything(GSM8K(str(tmp_path)))
    trained = MATH(validation=0).tasks("train")
    assert len(trained) == 39
    assert "What is $5^2$?" not in {task.problem.text for task in trained}
    assert [task.gold for task in MATH().tasks("test")] == ["25"]


def test_a_missing_test_problem_stops_training_on_hub_data(
    hub: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HELD_OUT[0], "problem", "What is $5^3$?")
    with pytest.raises(ValueError, match="1 of MATH-500's problems were not found"):
        MATH().tasks("train")


def test_an_unreachable_hub_is_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("long\nstory")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        GSM8K().tasks("test")
    assert str(error.value) == (
        "cannot get openai/gsm8k/main/test-00000-of-00001.parquet from the hub: it is not in the "
        "cache and the hub "
        "cannot be reached; check the network or HF_ENDPOINT; or set `path` to a local copy of "
        "openai/gsm8k"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
        GSM8K().tasks("test")


def test_a_hub_that_is_away_is_not_asked_again_and_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr("slm_math.data.hub.hub_is_away", AWAY)
        monkeypatch.setattr("slm_math.data.files.hub_is_away", AWAY)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="cache and the hub cannot be reached"):
                GSM8K().tasks("test")
    error = capfd.readouterr().err
    assert error == f"note: {address} cannot be reached: only what was downloaded is used\n"


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in getproxies():
        monkeypatch.delenv(f"{name}_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not AWAY(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_download_fetches_each_file_once_and_reports_failures(
    tmp_path: Path, hub: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_model(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_model)
    local = GSM8K(str(write_jsonl(tmp_path / "train.jsonl", QUESTIONS)))
    failures = download([str(tmp_path), "someone/model"], [GSM8K(), MATH(), MATH500(), local])
    assert len(hub) == len(set(hub)) == 5
    assert local.hub_files() == []
    assert all(isinstance(file, HubFile) for file in GSM8K().hub_files())
    assert len(failures) == 1
    assert "someone/model" in failures[0]
    assert capsys.readouterr().err.count(f"error: {failures[0]}\n") == 1
