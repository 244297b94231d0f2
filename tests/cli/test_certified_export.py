"""`slm-math export` and ExportHF with certificates, and `slm-math check-export`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.evaluating import ask, ours
from exports.shapes import inside
from safetensors.torch import load_file, save_file
from tiny import LORA, chats, model_folder, sft, trainer

from slm_math.callbacks import ExportHF
from slm_math.exports import certificate as certificates
from slm_math.policy import export as exports
from slm_math.policy.config import Policy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained an adapter, with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    policy = Policy(path=str(model_folder(folder / "base")), lora=LORA)
    training = trainer(folder / "run", limit_train_batches=2)
    training.fit(sft(policy), chats())
    training.save_checkpoint(folder / "run/end.ckpt")
    return folder / "run"


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """Its export, with the certificate of a fresh process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        from slm_math.exporting import export

        export("run/end.ckpt", "x")
    return run.parent / "x"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plain` runs here, which saves the seconds in which another process imports torch."""
    defaults = {**(certificates.certified.__kwdefaults__ or {})}
    own = list(certificates.certified.__defaults__ or ())
    assert own[-1] is certificates.fresh
    assert not defaults
    monkeypatch.setattr(certificates.certified, "__defaults__", (*own[:-1], inside))


@pytest.mark.slow
def test_export_comes_with_its_certificate(exported: Path) -> None:
    found = json.loads((exported / "certificate.json").read_text())
    assert found["passed"] is True
    assert found["largest_difference"] < 1e-4
    assert {"adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(
        found["files"]
    )
    card = (exported / "README.md").read_text()
    assert "passed: 5 prompts" in card
    assert "# x\n" in card
    assert "folder = 'x'\n" in card
    assert str(exported.parent) not in card


@pytest.mark.usefixtures("in_this_process")
def test_export_that_is_unchanged_is_confirmed(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in exported.iterdir()}
    status, out, _ = ask(capsys, "check-export", exported)
    assert status == 0
    assert "no file has changed since" in out
    assert "passed: 5 prompts" in out
    assert {path: path.read_bytes() for path in exported.iterdir()} == before


@pytest.mark.parametrize("change", ["weights", "template", "gone", "base"])
def test_what_has_changed_since_the_certificate_is_named(
    change: str, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "x"))
    said = {
        "weights": "adapter_model.safetensors has changed",
        "template": "chat_template.jinja has changed",
        "gone": "tokenizer.json is missing",
        "base": "the base of the adapter has changed",
    }[change]
    if change == "weights":  # by the last bit of one number
        state = load_file(folder / "adapter_model.safetensors")
        first = next(iter(state.values())).flatten()
        first[0] = torch.nextafter(first[0], torch.tensor(torch.inf))
        save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    elif change == "template":
        with (folder / "chat_template.jinja").open("a") as file:
            file.write(" ")
    elif change == "gone":
        (folder / "tokenizer.json").unlink()
    else:
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = str(model_folder(tmp_path / "other", seed=3))
        (folder / "adapter_config.json").write_text(json.dumps(config))
    status, out, error = ask(capsys, "check-export", folder)
    assert status == 2
    assert f"{folder} is not what its certificate is of: " in ours(error)
    assert said in ours(error)
    assert ours(error).count("\n") == 1
    assert not out


def spoiled(monkeypatch: pytest.MonkeyPatch, where: Any) -> None:
    """Exports that come with another chat template than the policy's."""
    write = exports.export_policy

    def wrong(loaded: Any, chat: Any, folder: Path, **options: Any) -> None:
        write(loaded, chat, folder, **options)
        path = folder / "chat_template.jinja"
        path.write_text("Say it. " + path.read_text())

    monkeypatch.setattr(where, "export_policy", wrong)


@pytest.mark.usefixtures("in_this_process")
def test_export_that_differs_is_kept_under_another_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(monkeypatch, exports)
    (tmp_path / "x.failed").mkdir()  # of an earlier export
    kept = tmp_path / "x.failed-2"
    status, out, error = ask(capsys, "export", run / "end.ckpt", "--out", tmp_path / "x")
    assert status == 2
    assert "x was not exported, since plain transformers does not make the same" in ours(error)
    assert "template: it writes 'Say it. " in ours(error)
    assert f"kept as {kept}" in ours(error)
    assert "is the model of epoch" not in out
    assert json.loads((kept / "certificate.json").read_text())["passed"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.failed", "x.failed-2"]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("wrong", [False, True])
def test_training_ends_well_whatever_the_certificate_says(
    wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if wrong:
        spoiled(monkeypatch, __import__("slm_math.callbacks.export", fromlist=["export"]))
    training = trainer(tmp_path, limit_train_batches=1, max_epochs=2, callbacks=[ExportHF()])
    module = sft()
    if wrong:
        with pytest.warns(UserWarning, match="failed: template: it writes 'Say it. "):
            training.fit(module, chats())
    else:
        training.fit(module, chats())
        said = [line for line in capsys.readouterr().out.splitlines() if "certificate" in line]
        assert len(said) == 1  # of the last epoch alone
        assert "passed: 5 prompts" in said[0]
    assert training.state.finished
    found = json.loads((tmp_path / "export/certificate.json").read_text())
    assert found["passed"] is not wrong
    card = (tmp_path / "export/README.md").read_text()
    assert ("passed: 5 prompts" in card) is not wrong
    assert ("failed: template" in card) is wrong
    assert not module.model.config.use_cache


def test_folder_without_certificate_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = ask(capsys, "check-export", model_folder(tmp_path / "x"))
    assert status == 2
    assert "has no certificate.json: slm-math export and ExportHF write one" in ours(error)
