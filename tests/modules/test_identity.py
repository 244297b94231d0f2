"""A checkpoint knows what its run started from; an export does not replace it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LORA, SCRATCH, Duo, Even, chats, grpo, model_folder, problems, sft, trainer

from slm_math.callbacks import ExportHF
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy


def saved_by(policy: Policy, root: Path) -> Path:
    run = trainer(root, limit_train_batches=1)
    run.fit(sft(policy), chats())
    run.save_checkpoint(root / "saved.ckpt")
    return root / "saved.ckpt"


def rotated(folder: Path) -> None:
    """Changes what the base's config.json says of its network."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["rope_parameters"]["rope_theta"] *= 2
    file.write_text(json.dumps(config))


def adapter_of(base: Path, folder: Path, seed: int) -> Path:
    policy = Policy(path=str(base), lora=LORA)
    torch.manual_seed(seed)
    export_policy(policy.load(), policy.chat(), folder)
    return folder


def fresh(base: Path, **changes: Any) -> Policy:
    return Policy(path=str(base), lora=replace(LORA, **changes))


CHANGES: dict[str, tuple[Callable[[Path], Policy], str, bool]] = {
    "alpha": (lambda base: fresh(base, alpha=24), "lora.alpha was 8, is 24", True),
    "dropout": (lambda base: fresh(base, dropout=0.0), "lora.dropout was 0.3, is 0.0", False),
    "other base": (
        lambda base: fresh(model_folder(base.parent / "other", seed=4)),
        r"weights of the base was .*base \([0-9a-f]+\), is .*other \([0-9a-f]+\)",
        True,
    ),
    "changed in place": (
        lambda base: fresh(model_folder(base, seed=4)),
        "weights of the base was",
        True,
    ),
    "config": (lambda base: (rotated(base), fresh(base))[1], "config.json of the base was", True),
    "template": (
        lambda base: replace(fresh(base), chat_template="plain"),
        "chat template was",
        False,
    ),
    "adapter": (
        lambda base: Policy(path=str(adapter_of(base, base.parent / "adapter", 1))),
        "weights of the adapter was None, is",
        False,
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_checkpoint_of_another_start_is_refused(kind: str, tmp_path: Path) -> None:
    changed, message, evaluated = CHANGES[kind]
    base = model_folder(tmp_path / "base")
    checkpoint = saved_by(fresh(base), tmp_path)
    policy = changed(base)
    with pytest.raises(ValueError, match=f"is of another policy: .*{message}") as caught:
        trainer(tmp_path, max_epochs=2).fit(sft(policy), chats(), ckpt_path=checkpoint)
    assert "\n" not in str(caught.value)
    if evaluated:
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path).validate(sft(policy), chats(), ckpt_path=checkpoint)
    else:
        trainer(tmp_path).validate(sft(policy), chats(), ckpt_path=checkpoint)


def test_other_seed_of_random_weights_is_refused(tmp_path: Path) -> None:
    checkpoint = saved_by(Policy(scratch=SCRATCH), tmp_path)
    other = Policy(scratch=replace(SCRATCH, seed=7))
    with pytest.raises(ValueError, match=r"scratch\.seed was 0, is 7"):
        trainer(tmp_path, max_epochs=2).fit(sft(other), chats(), ckpt_path=checkpoint)
    trainer(tmp_path).validate(sft(other), chats(), ckpt_path=checkpoint)  # all weights are saved


def test_base_in_another_place_and_checkpoints_without_identity_are_taken(tmp_path: Path) -> None:
    checkpoint = saved_by(fresh(model_folder(tmp_path / "base")), tmp_path)
    (tmp_path / "base").rename(tmp_path / "moved")
    run = trainer(tmp_path, max_steps=2, max_epochs=2)
    run.fit(sft(fresh(tmp_path / "moved")), chats(), ckpt_path=checkpoint)
    state = torch.load(checkpoint, weights_only=False)
    del state["identity"]
    torch.save(state, checkpoint)
    run = trainer(tmp_path, max_steps=2, max_epochs=2)
    run.fit(sft(fresh(tmp_path / "moved", alpha=9)), chats(), ckpt_path=checkpoint)


# exports


@pytest.mark.parametrize("kind", ["policy", "link", "base", "inside", "other role", "root"])
def test_export_over_what_the_run_reads_is_refused_before_anything_loads(
    kind: str, tmp_path: Path
) -> None:
    model = model_folder(tmp_path / "run" / "export")
    policy, options, folder = Policy(path=str(model)), {}, "export"
    if kind == "link":
        (tmp_path / "link").symlink_to(model)
        policy = Policy(path=str(tmp_path / "link"))
    if kind == "base":
        policy = Policy(path=str(adapter_of(model, tmp_path / "adapter", 1)))
    if kind == "inside":
        policy = Policy(path=str(model_folder(model / "solver")))
    if kind == "other role":
        policy = Policy(scratch=SCRATCH)
        engines = {"judge": CheckpointEngine(str(model))}
        options = {"agent": Duo(), "rewards": [Even()], "engines": engines}
    if kind == "root":
        policy, folder = Policy(scratch=SCRATCH), "."
    module = grpo(policy, **options)
    with pytest.raises(ValueError, match="the export would replace"):
        trainer(tmp_path / "run", callbacks=[ExportHF(folder, check=False)]).fit(module, problems())
    assert module.loaded is None


def test_export_beside_the_policy_is_written(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "run" / "start")
    run = trainer(tmp_path / "run", limit_train_batches=1, callbacks=[ExportHF(check=False)])
    run.fit(sft(Policy(path=str(model), lora=Lora(r=2))), chats())
    assert (tmp_path / "run" / "export" / "adapter_config.json").is_file()
