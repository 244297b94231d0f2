"""Roles whose names are those of modules, or of what other adapters were called: each has its own
weights, in training, in its export, in an evaluation and in checkpoints.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import model_folder

from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.modules.saved_policy import present_names
from slm_math.policy.adapters import active
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy

TWO = Lora(r=2, dropout=0.0)
NAMES = [
    ("model", "judge"),
    ("layers", "q_proj"),
    ("lora_A", "weight"),
    ("solver", "solver_reference"),
    ("keys", "forward"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("base"))


def numbered(policy: Policy, roles: tuple[str, ...], frozen: dict[str, str]) -> tuple:
    """A policy whose first role has weights of 1, the second of 2, and so on."""
    loaded = policy.load(roles, frozen)
    with torch.no_grad():
        for number, role in enumerate((*roles, *frozen), 1):
            for name, weight in loaded.model.named_parameters():
                if name in loaded.weights_of(loaded.adapter_of(role)):
                    weight.fill_(number)
    return loaded, policy.chat()


def values(folder: Path) -> set[float]:
    weights = load_file(folder / "adapter_model.safetensors")
    assert all(".lora_A.weight" in name or ".lora_B.weight" in name for name in weights)
    return {number for weight in weights.values() for number in weight.unique().tolist()}


@pytest.mark.parametrize("roles", NAMES)
def test_each_role_is_exported_and_evaluated_with_its_own_weights(
    roles: tuple[str, str], base: Path, tmp_path: Path
) -> None:
    policy = Policy(path=str(base), lora=TWO)
    loaded, chat = numbered(policy, roles, {})
    loaded.copy_adapters()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 2
    export_policy(loaded, chat, tmp_path / "export")
    engine = CheckpointEngine(str(tmp_path / "export"))
    engine._load()
    for number, role in enumerate(roles, 1):
        assert values(tmp_path / "export" / role) == {number + 2.0}
        with loaded.reference(role):
            named = dict(loaded.model.named_parameters())
            name = loaded.model.active_adapter
            assert {named[n].mean().item() for n in loaded.weights_of(name)} == {float(number)}
    contexts = [each.context() for each in engine._engines]
    assert len(contexts) == 2


def test_frozen_role_beside_one_with_the_former_name_of_its_adapter(
    base: Path, tmp_path: Path
) -> None:
    policy = Policy(path=str(base), lora=TWO)
    export_policy(*numbered(policy, ("judge",), {}), tmp_path / "adapter")
    loaded = policy.load(("judge_frozen",), {"judge": str(tmp_path / "adapter")})
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.fill_(5)
    export_policy(loaded, policy.chat(), tmp_path / "export")
    assert values(tmp_path / "export" / "judge") == {1.0}
    assert values(tmp_path / "export" / "judge_frozen") == {5.0}


def test_checkpoint_with_the_former_names_is_read(base: Path) -> None:
    """Earlier versions called an adapter as its role."""
    loaded, _ = numbered(Policy(path=str(base), lora=TWO), ("solver", "judge"), {})
    now = {f"model.{n}": p for n, p in loaded.model.named_parameters() if n in loaded.trainable}
    former = {name.replace(".@", "."): weight for name, weight in now.items()}
    assert any(".lora_A.judge.weight" in name for name in former)
    assert present_names(former, loaded).keys() == now.keys()
    assert present_names(now, loaded).keys() == now.keys()
    with active(loaded.model, "@judge"):
        assert all(now[name].mean() == 2 for name in now if ".@judge." in name)
