"""GGUF files: what llama.cpp's converter wrote is read back and compared."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import some
from cli.evaluating import ask, ours
from exports.shapes import base_of_shape, lora, stirred
from tiny import chats, sft, trainer

from slm_math.exports.gguf_file import VARIABLE, write_gguf
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy

pytest.importorskip("gguf")
CONVERTER = Path(__file__).with_name("convert_for_a_test.py")
FAULTS = {
    "vocabulary": r"tokens: 1 of \d+ are others, the first has number",
    "end": r"tokens: a turn ends with \d+, and not with \d+",
    "template": "template: it has another one",
    "weights": "weights: 2 tensors differ, such as model.layers.0.mlp.down_proj.weight",
}


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, which saves the seconds in which another one imports transformers."""
    monkeypatch.setenv(VARIABLE, str(CONVERTER))

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        assert command[1] == str(CONVERTER)
        monkeypatch.setattr(sys, "argv", command[1:])
        try:
            runpy.run_path(command[1], run_name="__main__")
        except SystemExit as stop:
            return subprocess.CompletedProcess(command, 1, "", str(stop.code))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("slm_math.exports.processes.subprocess.run", run)


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("kind", ["f16", "f32"])
@pytest.mark.parametrize("shape", ["qwen2", "llama"])
def test_file_with_the_weights_of_its_folder_is_taken(
    shape: str, kind: str, tmp_path: Path
) -> None:
    policy = Policy(path=str(base_of_shape(shape, tmp_path / "base")), lora=lora())
    loaded = stirred(policy, ("solver", "judge"))
    export_policy(loaded, policy.chat(), tmp_path / "x", merge=True)
    tensors = {"qwen2": 26, "llama": 21}[shape]  # of two layers, with biases or with a head
    names = [f"{role}/model-{kind}.gguf" for role in ("judge", "solver")]
    expected = [f"{name}: {tensors} tensors, the vocabulary and the template" for name in names]
    assert write_gguf(tmp_path / "x", kind) == "; ".join(expected)


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize("fault", FAULTS)
def test_file_that_differs_is_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(ValueError, match=r"model-f16\.gguf is not the model") as error:
        write_gguf(base_of_shape("qwen2", tmp_path / "x"), "f16")
    with pytest.raises(ValueError, match=FAULTS[fault]):
        raise error.value


@pytest.mark.usefixtures("converter")
def test_what_the_converter_does_not_take_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "refused")
    with pytest.raises(ValueError, match="does not take this model: NotImplementedError: this"):
        write_gguf(base_of_shape("qwen2", tmp_path / "x"), "f16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    policy = Policy(path=str(base_of_shape("llama", folder / "base")), lora=lora())
    training = trainer(folder / "run", limit_train_batches=1)
    training.fit(sft(policy), chats())
    training.save_checkpoint(folder / "run/end.ckpt")
    return folder / "run/end.ckpt"


@pytest.mark.usefixtures("converter")
def test_command_writes_the_file_of_a_merged_export(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gguf import GGUFReader

    options = ("--out", tmp_path / "x", "--gguf", "f16", "--check", "false")
    status, _, error = ask(capsys, "export", checkpoint, *options)
    assert status == 2
    assert "--gguf needs a whole model, and this export is an adapter: add --merge" in ours(error)
    assert not (tmp_path / "x").exists()
    status, out, _ = ask(capsys, "export", checkpoint, "--merge", *options)
    assert status == 0
    assert "written and read back: model-f16.gguf: 21 tensors" in out
    reader = GGUFReader(tmp_path / "x/model-f16.gguf")
    own = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    assert own["token_embd.weight"].dtype == torch.float16


@pytest.mark.parametrize("named", some(["", "/no/such/file"], [""]))
def test_converter_that_is_not_there_is_told_before_the_checkpoint_is_read(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, named)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, error = ask(
        capsys, "export", tmp_path / "no.ckpt", "--out", tmp_path / "x", "--gguf", "f16"
    )
    assert status == 2
    assert "--gguf needs convert_hf_to_gguf.py of llama.cpp" in ours(error)
    assert "no.ckpt" not in ours(error)
