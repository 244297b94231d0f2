"""Training that was interrupted and resumed equals training that ran through, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import LORA, SCRATCH, chats, difference, grpo, problems, said, sft, trainer, weights

from slm_math.losses.policy import Objective
from slm_math.modules.optim import Optim
from slm_math.modules.policy import Lora, Policy
from slm_math.rewards import Reward
from slm_math.types import Sampling, Task, Trace


class Rare(Reward):
    """Right so seldom that many groups teach nothing and further problems are drawn."""

    def __call__(self, task: Task, trace: Trace) -> float:
        return float(sum(said(trace, "solver").token_ids) % 9 == 0)


RUNS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "sft-lora-dropout": lambda: (sft(Policy(scratch=SCRATCH, lora=LORA)), chats(batch_size=8)),
    "sft-full-muon": lambda: (sft(optim=Optim(kind="muon", lr=3e-3)), chats(batch_size=16)),
    "grpo-full": lambda: (grpo(objective=Objective(beta=0.05)), problems(batch_size=14)),
    "grpo-lora": lambda: (grpo(Policy(scratch=SCRATCH, lora=LORA), resample=2), problems(batch_size=14)),
    "grpo-full-passes": lambda: (
        grpo(passes=2, resample=2, rewards=[Rare()], objective=Objective("gspo", beta=0.05), reference_update=0.5),
        problems(batch_size=14),
    ),
    "grpo-lora-passes": lambda: (
        grpo(
            Policy(scratch=SCRATCH, lora=LORA),
            passes=2,
            resample=3,
            rewards=[Rare()],
            objective=Objective(beta=0.05, kl="k1", kl_in="reward"),
            reference_update=0.5,
            sampling=Sampling(top_p=0.9, max_new_tokens=6),
        ),
        problems(batch_size=14),
    ),
}


class Interrupt(L.Callback):
    """Stops a run as a kill would: before a batch, without any farewell."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise InterruptedError


def fit(kind: str, root: Path, *callbacks: L.Callback, ckpt: Path | None = None) -> dict[str, torch.Tensor]:
    L.seed_everything(5 if ckpt is None else 77, verbose=False)  # a resumed run starts from another random state
    module, data = RUNS[kind]()
    run = trainer(root, max_epochs=2, callbacks=list(callbacks), enable_checkpointing=bool(callbacks))
    run.fit(module, data, ckpt_path=ckpt)
    return weights(module)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, torch.Tensor]]:
    done: dict[str, dict[str, torch.Tensor]] = {}

    def run(kind: str) -> dict[str, torch.Tensor]:
        if kind not in done:
            done[kind] = fit(kind, tmp_path_factory.mktemp("straight"))
        return done[kind]

    return run


@pytest.mark.parametrize("kind", RUNS)
def test_resuming_within_an_epoch_changes_nothing(kind: str, straight: Any, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(InterruptedError):
        fit(kind, tmp_path, saver, Interrupt(1, 1))
    assert difference(straight(kind), fit(kind, tmp_path, ckpt=only(tmp_path / "ckpt"))) == 0


@pytest.mark.parametrize("kind", [kind for kind in RUNS if "muon" not in kind])
def test_resuming_at_the_end_of_an_epoch_changes_nothing(kind: str, straight: Any, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", save_on_train_epoch_end=True, save_top_k=-1)
    with pytest.raises(InterruptedError):
        fit(kind, tmp_path, saver, Interrupt(1, 0))
    assert difference(straight(kind), fit(kind, tmp_path, ckpt=only(tmp_path / "ckpt"))) == 0


def test_the_resumed_runs_do_draw_further_problems(straight: Any, tmp_path: Path) -> None:
    """Or resuming with dynamic sampling would not be tried."""
    drawn: list[int] = []

    class Draws(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            drawn.append(len(module.last))

    fit("grpo-full-passes", tmp_path, Draws())
    assert len(set(drawn)) > 1
    assert max(drawn) > 14 * 4


def only(folder: Path) -> Path:
    return max(folder.glob("*.ckpt"), key=lambda path: torch.load(path, weights_only=True)["global_step"])


def test_checkpoint_holds_what_learns_and_where_the_run_stood(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1)
    with pytest.raises(InterruptedError):
        fit("sft-lora-dropout", tmp_path, saver, Interrupt(0, 2))
    saved = torch.load(only(tmp_path / "ckpt"), weights_only=True)
    assert saved["state_dict"]
    assert all("lora_" in name for name in saved["state_dict"])
    assert len(saved["optimizer_states"][0]["state"]) == len(saved["state_dict"])
    [rng] = saved["rng"]  # of every rank
    assert set(rng) == {"python", "numpy", "torch", "cuda"}
    assert saved["ChatData"] == {"epoch": 0, "position": 2}


@pytest.mark.parametrize("kind", RUNS)
def test_the_compared_runs_do_learn(kind: str, straight: Any) -> None:
    start = RUNS[kind]()[0].policy.load()
    named = dict(start.model.named_parameters())
    assert difference(straight(kind), {name: named[name].detach() for name in start.trainable}) > 1e-3


OTHERS: dict[str, tuple[Policy, Policy, str]] = {
    "full into lora": (Policy(scratch=SCRATCH), Policy(scratch=SCRATCH, lora=LORA), "missing .*unknown"),
    "lora into full": (Policy(scratch=SCRATCH, lora=LORA), Policy(scratch=SCRATCH), "missing .*unknown"),
    "other rank": (Policy(scratch=SCRATCH, lora=LORA), Policy(scratch=SCRATCH, lora=Lora(r=2)), "16 of another shape"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_checkpoint_of_another_policy_is_refused(kind: str, tmp_path: Path) -> None:
    saved, other, message = OTHERS[kind]
    first = trainer(tmp_path, limit_train_batches=1)
    first.fit(sft(saved), chats())
    first.save_checkpoint(tmp_path / "one.ckpt")
    for verb in ("fit", "validate"):
        with pytest.raises(ValueError, match=f"the checkpoint is of another policy: .*{message}") as caught:
            getattr(trainer(tmp_path), verb)(sft(other), chats(), ckpt_path=tmp_path / "one.ckpt")
        assert "\n" not in str(caught.value)
