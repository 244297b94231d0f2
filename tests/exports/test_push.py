"""Exports on a hub: what is sent, who may see it, and what is refused before any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.evaluating import ask, ours
from exports.hub import TOKEN, Hub

from slm_math.exports.push import check_push, push_folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    yield server
    server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("config.json", b"{}"), ("solver/model.safetensors", b"\0" * 99)):
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "x"


@pytest.mark.parametrize("private", [True, False])
def test_all_files_arrive_in_a_repository_that_is_private_by_default(
    private: bool, hub: Hub, folder: Path
) -> None:
    options = {} if private else {"private": False}
    assert push_folder(folder, "me/model", **options) == f"{hub.url}/me/model/commit/abc"
    assert hub.repositories == {"me/model": "private" if private else "public"}
    assert hub.files == {"config.json": b"{}", "solver/model.safetensors": b"\0" * 99}


def test_token_that_the_hub_refuses_is_told_in_a_line_without_it(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(
        ValueError, match=r"did not take it as me/model \(HTTP status 401\)"
    ) as error:
        push_folder(folder, "me/model")
    assert "hf_another" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not hub.files


def test_hub_that_is_not_there_is_told(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match=r"x is exported, but the hub could not be reached"):
        push_folder(folder, "me/model")


@pytest.mark.parametrize("name", ["model", "me/model/x", "../me", "me/", "me/-x y"])
def test_name_of_no_repository_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    check_push("me/model-1.5b_x")
    with pytest.raises(ValueError, match="takes OWNER/NAME"):
        check_push(name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("HF_TOKEN", "", "HF_TOKEN=..."), ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set")],
)
def test_push_without_token_or_hub_is_refused_before_the_checkpoint_is_read(
    name: str,
    value: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv(name, value)
    status, _, error = ask(
        capsys, "export", tmp_path / "no.ckpt", "--out", tmp_path / "x", "--push", "me/model"
    )
    assert status == 2
    assert said in ours(error)
    assert TOKEN not in error
    assert "no.ckpt" not in ours(error)
