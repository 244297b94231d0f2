"""Roles that learn, and roles that stay as they are, on one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import some
from modules.two_roles import BOTH, FAST, GREEDY, PAIR, TWO, replies
from safetensors.torch import load_file
from tiny import SCRATCH, Duo, Even, chats, difference, grpo, problems, sft, trainer, weights

from slm_math.callbacks import AgentEval, ExportHF
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.settings import Inference
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loading import load_model
from slm_math.rewards import Reward

IDS = torch.tensor([[7, 11, 4, 19, 23]])


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """The logits that the model computes for IDS."""
    return model.eval()(IDS).logits


STEPS = 20
FROZEN: dict[str, Callable[[Path], tuple[Policy, str]]] = {
    "base of new adapters": lambda zoo: (Policy(path=str(zoo / "model"), lora=TWO), "base"),
    "base of an adapter": lambda zoo: (Policy(path=str(zoo / "pair" / "solver")), "base"),
    "base from scratch": lambda zoo: (Policy(scratch=SCRATCH, lora=TWO), "base"),
    "adapter": lambda zoo: (
        Policy(path=str(zoo / "model"), lora=TWO),
        str(zoo / "pair" / "judge"),
    ),
    "one of a pair": lambda zoo: (Policy(path=str(zoo / "pair")), str(zoo / "pair")),
}


class Watch(ExportHF):
    """The replies of the role that does not learn, and its weights, before and after training."""

    def __init__(self) -> None:
        super().__init__(check=False)
        self.seen: list[Any] = []

    def look(self, module: Any) -> None:
        weights = [p.detach().clone() for p in module.loaded.frozen_parameters()]
        base = dict(module.loaded.model.get_base_model().named_parameters())
        weights += [p.detach().clone() for name, p in base.items() if "lora_" not in name]
        self.seen.append((replies(module.engines()["judge"], "judge"), weights))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.look(pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.look(pl_module)


@pytest.mark.parametrize("kind", some(FROZEN, ["one of a pair"]))
def test_a_role_that_does_not_learn_does_not_move(kind: str, zoo: Path, tmp_path: Path) -> None:
    policy, frozen = FROZEN[kind](zoo)
    module = grpo(policy, agent=Duo(), frozen={"judge": frozen}, optim=FAST, group_size=2)
    watch = Watch()
    trainer(tmp_path, max_steps=STEPS, max_epochs=9, callbacks=[watch]).fit(
        module, problems(batch_size=4)
    )
    assert module.trainer.global_step == STEPS
    (replies_before, before), (replies_after, after) = watch.seen
    assert replies_before == replies_after
    assert len(before) == len(after)
    assert all(torch.equal(one, other) for one, other in zip(before, after))
    assert replies(module.engines()["solver"], "solver") != replies_before  # another one did


def test_a_frozen_role_speaks_with_its_own_weights(zoo: Path, tmp_path: Path) -> None:
    """The logits of each role are those of its folder, loaded alone."""
    policy = Policy(path=str(zoo / "pair" / "solver"))
    module = sft(policy, frozen={"judge": str(zoo / "pair"), "critic": "base"})
    trainer(tmp_path, limit_train_batches=0).fit(module, chats())
    alone = {"solver": "pair/solver", "judge": "pair/judge", "critic": "model"}
    for role, path in alone.items():
        with module.loaded.use(role) as model:
            assert torch.equal(logits(model), logits(load_model(str(zoo / path)))), role
    assert all(".default." in name for name in module.loaded.trainable)


def test_sft_of_one_role_leaves_the_other_as_it_is(zoo: Path, tmp_path: Path) -> None:
    files = {role: load_file(zoo / "pair" / role / "adapter_model.safetensors") for role in PAIR}
    for trained, frozen in (PAIR, PAIR[::-1]):
        module = sft(
            Policy(path=str(zoo / "pair")),
            train_roles=(trained,),
            frozen={frozen: str(zoo / "pair")},
        )
        trainer(tmp_path / trained, limit_train_batches=2).fit(module, chats())
        [name] = module.loaded.frozen_adapters
        state = module.loaded.model.state_dict()
        kept = {key: state[key.replace(".weight", f".{name}.weight")] for key in files[frozen]}
        assert all(torch.equal(kept[key], files[frozen][key]) for key in kept)
        learned = {key: state[key.replace(".weight", ".default.weight")] for key in files[trained]}
        assert difference(learned, files[trained]) > 1e-3


def test_each_role_starts_from_its_own_adapter(zoo: Path, tmp_path: Path) -> None:
    for path in (zoo / "pair", {role: str(zoo / "pair" / role) for role in PAIR}):
        module = grpo(Policy(path=path if isinstance(path, dict) else str(path)), **BOTH)
        trainer(tmp_path, limit_train_batches=0).fit(module, problems())
        for role in PAIR:
            with module.loaded.use(role) as model:
                assert torch.equal(logits(model), logits(load_model(str(zoo / "pair" / role))))


def test_a_role_whose_path_is_the_base_gets_a_new_adapter(zoo: Path, tmp_path: Path) -> None:
    paths = {"solver": str(zoo / "pair" / "solver"), "judge": str(zoo / "model")}
    module = grpo(Policy(path=paths, lora=Lora(r=5, dropout=0.0)), **BOTH)
    trainer(tmp_path, limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(
        module, problems()
    )
    config = module.loaded.model.peft_config
    assert (config["@solver"].r, config["@judge"].r) == (2, 5)
    further = grpo(Policy(path=str(tmp_path / "export")), **BOTH)
    trainer(tmp_path / "b", limit_train_batches=0).fit(further, problems())
    assert difference(weights(module), weights(further)) == 0


class Nothing(Reward):
    """Never earned."""

    def __call__(self, graded: Any) -> float:
        return 0.0


@pytest.mark.parametrize("learner", PAIR)
def test_an_update_of_one_role_leaves_the_tensors_of_the_other(
    learner: str, zoo: Path, tmp_path: Path
) -> None:
    rewards = [Even(role=role) if role == learner else Nothing(role=role) for role in PAIR]
    module = grpo(Policy(path=str(zoo / "pair")), **(BOTH | {"rewards": rewards}))
    before: dict[str, torch.Tensor] = {}
    keep = ExportHF(check=False)
    keep.on_train_start = lambda t, m: before.update(weights(m))  # type: ignore[method-assign]
    trainer(tmp_path, limit_train_batches=3, callbacks=[keep]).fit(module, problems())
    moved = {
        name for name, value in weights(module).items() if not torch.equal(value, before[name])
    }
    assert moved
    assert all(f".@{learner}." in name for name in moved)


def test_roles_share_one_adapter(tmp_path: Path) -> None:
    policy = Policy(scratch=SCRATCH, lora=TWO, shared_adapter=True)
    module = grpo(policy, **BOTH)
    trainer(tmp_path, limit_train_batches=2, callbacks=[ExportHF(check=False)]).fit(
        module, problems()
    )
    assert len(module.optimizers().param_groups) == 1
    engines = module.engines()
    assert engines["solver"] is engines["judge"]
    assert replies(engines["solver"], "judge") == replies(
        CheckpointEngine(str(tmp_path / "export")), "judge"
    )


@pytest.mark.parametrize("frozen", ["base", "pair"])
def test_evaluated_role_may_be_frozen(frozen: str, zoo: Path, tmp_path: Path) -> None:
    path = frozen if frozen == "base" else str(zoo / frozen)
    module = sft(Policy(path=str(zoo / "model"), lora=TWO), frozen={"judge": path})
    evaluation = AgentEval({"duo": Duo()}, limit=2, inference=Inference(sampling=GREEDY))
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[evaluation])
    run.fit(module, chats())
    assert (tmp_path / "eval" / "epoch-0" / "duo" / "records.jsonl").is_file()


def test_resumed_run_needs_the_same_frozen_adapter(zoo: Path, tmp_path: Path) -> None:
    def module(frozen: Path | str) -> Any:
        return sft(Policy(path=str(zoo / "model"), lora=TWO), frozen={"judge": str(frozen)})

    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(module(zoo / "pair" / "judge"), chats())
    run.save_checkpoint(tmp_path / "x.ckpt")
    state = torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]
    assert all(".default." in name for name in state)  # what is trained, and nothing else
    for frozen in (zoo / "pair" / "solver", "base"):
        with pytest.raises(ValueError, match="frozen judge was"):
            trainer(tmp_path / "again", max_epochs=2).fit(
                module(frozen), chats(), ckpt_path=tmp_path / "x.ckpt"
            )
