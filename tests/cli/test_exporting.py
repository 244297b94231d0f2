"""`slm-math export`: the model of a checkpoint, made of it and of what its run started from."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from cli.evaluating import ask, ours
from safetensors.torch import load_file
from tiny import LORA, SCRATCH, Duo, Even, chats, grpo, model_folder, problems, sft, trainer

from slm_math.callbacks import ExportHF
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy, layout_of


class SaveHalfway(L.Callback):
    """Writes a checkpoint inside an epoch, and the export of the same moment."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *step: Any) -> None:
        if step[-1] == 1:
            root = Path(trainer.default_root_dir)
            trainer.save_checkpoint(root / "half.ckpt")
            layout = layout_of(pl_module.policy, pl_module.loaded)
            export_policy(pl_module.loaded, pl_module.chat, root / "half", **layout)


def adapter_of(base: Path) -> Path:
    policy = Policy(path=str(base), lora=LORA)
    export_policy(policy.load(), policy.chat(), base.parent / "adapter")
    return base.parent / "adapter"


POLICIES: dict[str, Callable[[Path], Policy]] = {
    "full": lambda base: Policy(path=str(base)),
    "adapter": lambda base: Policy(path=str(base), lora=LORA),
    "adapter that goes on": lambda base: Policy(path=str(adapter_of(base))),
    "scratch": lambda base: Policy(scratch=SCRATCH, chat_template="chatml"),
    "scratch with an adapter": lambda base: Policy(scratch=SCRATCH, lora=LORA),
    "two roles": lambda base: Policy(path=str(base), lora=LORA),
    "two roles from scratch": lambda base: Policy(scratch=SCRATCH, lora=LORA),
    "frozen role": lambda base: Policy(path=str(base), lora=LORA),
    "path of each role": lambda base: Policy(
        path={"solver": str(adapter_of(base)), "judge": str(base)}, lora=LORA
    ),
}


def trained(policy: Policy, root: Path, kind: str = "") -> Path:
    """The root of a run with an export, and with checkpoints of the same moments."""
    run = trainer(root, limit_train_batches=3, callbacks=[SaveHalfway(), ExportHF(check=False)])
    if kind == "frozen role":
        frozen = {"judge": str(adapter_of(Path(str(policy.path))))}
        module, data = grpo(policy, agent=Duo(), rewards=[Even()], frozen=frozen), problems()
    elif "role" in kind:
        both: dict[str, Any] = {"rewards": [Even(), Even(role="judge")], "agent": Duo()}
        module, data = grpo(policy, **both, train_roles=("solver", "judge")), problems()
    else:
        module, data = sft(policy), chats()
    run.fit(module, data)
    run.save_checkpoint(root / "end.ckpt")
    return root


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained an adapter of `base`, which is beside it."""
    folder = tmp_path_factory.mktemp("lora")
    return trained(Policy(path=str(model_folder(folder / "base")), lora=LORA), folder / "run")


def copied(run: Path, folder: Path) -> Path:
    """A run and its base elsewhere; the checkpoint still names where the base was."""
    shutil.copytree(run.parent, folder, dirs_exist_ok=True)
    return folder / run.name


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "README.md"  # it says of which step the weights are
    }


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The error of a refused export, which leaves nothing behind."""
    status, _, error = ask(capsys, "export", *arguments)
    assert status == 2
    assert ours(error).count("\n") == 1
    return ours(error)


# A base from a folder and from scratch, with an adapter and without, one role and several.
FAST = ("full", "scratch with an adapter", "frozen role", "path of each role")


@pytest.mark.parametrize("kind", some(POLICIES, FAST))
def test_model_of_a_checkpoint_is_the_export_of_its_moment(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = POLICIES[kind](model_folder(tmp_path / "base"))
    root = trained(policy, tmp_path / "run", kind)
    for name, same in (("half", "half"), ("end", "export")):
        status, out, _ = ask(
            capsys, "export", "--check=false", root / f"{name}.ckpt", "--out", tmp_path / name
        )
        assert status == 0
        assert f"{tmp_path / name} is the model of epoch" in out
        assert files(tmp_path / name) == files(root / same)
    assert files(root / "half") != files(root / "export")
    assert {path.name for path in tmp_path.iterdir()} <= {"base", "adapter", "run", "half", "end"}


def test_the_folder_of_a_run_stands_for_its_last_checkpoint(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(lora, tmp_path)
    (run / "checkpoints").mkdir(exist_ok=True)
    for checkpoint, name in (("end", "last"), ("half", "best")):
        shutil.copy(run / f"{checkpoint}.ckpt", run / "checkpoints" / f"{name}.ckpt")
    status, out, _ = ask(capsys, "export", "--check=false", run, "--out", tmp_path / "x")
    assert status == 0
    last = run / "checkpoints" / "last.ckpt"
    assert f"checkpoint: {last}, the last of the run; others there: best.ckpt" in out
    assert files(tmp_path / "x") == files(run / "export")


def test_merged_export_is_base_plus_scaled_product(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    assert (
        ask(capsys, "export", "--check=false", lora / "end.ckpt", "--out", out, "--merge")[0] == 0
    )
    whole, base = (
        load_file(folder / "model.safetensors") for folder in (out, lora.parent / "base")
    )
    state = torch.load(lora / "end.ckpt", weights_only=True)["state_dict"]
    name = "model.layers.0.self_attn.q_proj"
    a, b = (
        state[f"model.base_model.model.{name}.lora_{part}.default.weight"].double() for part in "AB"
    )
    expected = base[f"{name}.weight"].double() + LORA.alpha / LORA.r * b @ a
    assert b.abs().max() > 0
    torch.testing.assert_close(whole[f"{name}.weight"].double(), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(whole["model.norm.weight"], base["model.norm.weight"])


def test_export_in_bfloat16_rounds_the_trained_weights(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(
        capsys,
        "export",
        "--check=false",
        lora / "end.ckpt",
        "--out",
        tmp_path / "x",
        "--dtype",
        "bfloat16",
    )
    half, whole = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (tmp_path / "x", lora / "export")
    )
    assert {name: value.bfloat16().tolist() for name, value in whole.items()} == {
        name: value.tolist() for name, value in half.items()
    }
    assert {value.dtype for value in half.values()} == {torch.bfloat16}


def test_paths_of_a_run_are_seen_from_where_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("project", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "project")
    model_folder(Path("base"))
    trained(Policy(path="base", lora=LORA), Path("run"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (
        ask(capsys, "export", "--check=false", "../project/run/end.ckpt", "--out", "new/model")[0]
        == 0
    )
    assert files(Path("new/model")) == files(tmp_path / "project/run/export")


def test_base_that_moved_is_named_and_found_where_it_is(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(lora, tmp_path / "copy")
    content = torch.load(run / "end.ckpt", weights_only=True)
    content["policy"]["settings"]["path"] = str(tmp_path / "gone")
    torch.save(content, run / "end.ckpt")
    error = said(capsys, run / "end.ckpt", "--out", tmp_path / "x")
    assert f"{tmp_path / 'gone'} does not exist" in error
    assert "--path names where it is now" in error
    moved = ("--path", run.parent / "base")
    assert (
        ask(capsys, "export", "--check=false", run / "end.ckpt", "--out", tmp_path / "x", *moved)[0]
        == 0
    )
    weights = (load_file(f / "adapter_model.safetensors") for f in (tmp_path / "x", run / "export"))
    one, other = ({name: value.tolist() for name, value in each.items()} for each in weights)
    assert one == other
    config = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(run.parent / "base")


@pytest.mark.parametrize("kind", ["weights", "tokenizer"])
def test_other_model_in_the_place_of_the_base_is_refused(
    kind: str, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = model_folder(tmp_path / "other", seed=5 if kind == "weights" else 0)
    if kind == "tokenizer":
        (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    error = said(capsys, lora / "end.ckpt", "--out", tmp_path / "x", "--path", other)
    assert "is of another policy" in error
    assert {"weights": "weights of the base", "tokenizer": "chat template"}[kind] in error
    assert not (tmp_path / "x").exists()


def test_full_model_needs_no_weights_of_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint has all of them."""
    root = trained(Policy(path=str(model_folder(tmp_path / "base"))), tmp_path / "run")
    model_folder(tmp_path / "base", seed=9)
    assert (
        ask(capsys, "export", "--check=false", root / "end.ckpt", "--out", tmp_path / "x")[0] == 0
    )
    assert files(tmp_path / "x") == files(root / "export")


class Trap:
    """Loading it as a pickle would make a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.made),)


def harmed(kind: str, path: Path) -> None:
    content = torch.load(path, weights_only=True)
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "object":
        torch.save(content | {"own": Trap(path.parent / "trapped")}, path)
    elif kind == "older":
        torch.save({name: value for name, value in content.items() if name != "policy"}, path)
    elif kind == "newer":
        content["policy"]["settings"]["glow"] = 3
        torch.save(content, path)
    elif kind == "weights":
        content["state_dict"].popitem()
        torch.save(content, path)
    elif kind == "gone":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()


REASONS = {
    "torn": "damaged: its end is missing",
    "object": "it holds an object of",
    "older": "does not say of which policy it is",
    "newer": "this one knows no policy.glow",
    "weights": "1 missing",
    "gone": "there is no checkpoint",
    "folder": "holds no checkpoint: name the folder of a run, such as runs/sft-lora, or a",
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_is_no_checkpoint_is_named(
    kind: str, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "end.ckpt"
    shutil.copy(lora / "end.ckpt", path)
    harmed(kind, path)
    error = said(capsys, path, "--out", tmp_path / "x")
    assert REASONS[kind] in error
    assert str(path) in error
    assert [each.name for each in tmp_path.iterdir()] == ([] if kind == "gone" else ["end.ckpt"])


@pytest.mark.parametrize("place", ["its base", "its export", "a file"])
def test_nothing_is_overwritten(
    place: str, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(lora, tmp_path)
    (run / "notes").write_text("mine")
    out = {"its base": tmp_path / "base", "its export": run / "export", "a file": run / "notes"}[
        place
    ]
    before = files(tmp_path)
    error = said(capsys, run / "end.ckpt", "--out", out)
    assert "is not empty" in error or "is a file" in error
    assert files(tmp_path) == before


def test_folders_beside_the_new_one_stay(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ExportHF writes `export.new` and removes `export.old`; here these may be anybody's."""
    for name in ("x.new", "x.old", "x"):
        (tmp_path / name).mkdir()
    (tmp_path / "x.old" / "notes").write_text("mine")
    assert (
        ask(capsys, "export", "--check=false", lora / "end.ckpt", "--out", tmp_path / "x")[0] == 0
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x", "x.new", "x.old"]
    assert (tmp_path / "x.old" / "notes").read_text() == "mine"


def test_folder_of_a_killed_export_is_removed_by_the_next(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".x.slm-math-export-ab12", ".y.slm-math-export-ab12", ".x-notes"):
        (tmp_path / name / "model").mkdir(parents=True)
    assert (
        ask(capsys, "export", "--check=false", lora / "end.ckpt", "--out", tmp_path / "x")[0] == 0
    )
    left = sorted(each.name for each in tmp_path.iterdir())
    assert left == [".x-notes", ".y.slm-math-export-ab12", "x"]


def test_adapter_over_four_bits_is_exported_without_them(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files say nothing of the bits of its base; no GPU and no bitsandbytes are needed."""
    content = torch.load(lora / "end.ckpt", weights_only=True)
    content["policy"]["settings"]["quantize"] = content["identity"]["quantize"] = "nf4"
    torch.save(content, tmp_path / "end.ckpt")
    assert (
        ask(capsys, "export", "--check=false", tmp_path / "end.ckpt", "--out", tmp_path / "x")[0]
        == 0
    )
    assert files(tmp_path / "x") == files(lora / "export")
