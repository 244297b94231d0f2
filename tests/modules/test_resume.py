"""Training that was interrupted and resumed equals training that ran through, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import (
    LORA,
    SCRATCH,
    Duo,
    chats,
    difference,
    first_reply,
    grpo,
    problems,
    sft,
    trainer,
    weights,
)

from slm_math.answers.graded import GradedTrace
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.rewards import Reward
from slm_math.types import Sampling


class Rare(Reward):
    """Right so seldom that many groups teach nothing and further problems are drawn."""

    def __call__(self, graded: GradedTrace) -> float:
        return float(sum(first_reply(graded.trace, "solver").token_ids) % 9 == 0)


RUNS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "sft-lora-dropout": lambda: (sft(Policy(scratch=SCRATCH, lora=LORA)), chats(batch_size=8)),
    "sft-full-muon": lambda: (sft(optim=Optim(kind="muon", lr=3e-3)), chats(batch_size=16)),
    "grpo-full": lambda: (grpo(objective=Objective(beta=0.05)), problems(batch_size=14)),
    "grpo-lora": lambda: (
        grpo(Policy(scratch=SCRATCH, lora=LORA), resample=2),
        problems(batch_size=14),
    ),
    "grpo-full-passes": lambda: (
        grpo(
            passes=2,
            resample=2,
            rewards=[Rare()],
            objective=Objective("gspo", beta=0.05),
            reference_update=0.5,
        ),
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

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise InterruptedError


def fit(
    kind: str, root: Path, *callbacks: L.Callback, ckpt: Path | None = None
) -> dict[str, torch.Tensor]:
    # a resumed run starts from another random state
    L.seed_everything(5 if ckpt is None else 77, verbose=False)
    module, data = RUNS[kind]()
    run = trainer(
        root, max_epochs=2, callbacks=list(callbacks), enable_checkpointing=bool(callbacks)
    )
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


# Each has something of its own to restore: a moving adapter as the reference, further problems and
# half a batch of passes; the random state of dropout; the state of an optimiser of two kinds.
FAST = ("grpo-lora-passes", "sft-lora-dropout", "sft-full-muon")


@pytest.mark.parametrize("kind", some(RUNS, FAST))
def test_resuming_within_an_epoch_changes_nothing(kind: str, straight: Any, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(InterruptedError):
        fit(kind, tmp_path, saver, Interrupt(1, 1))
    assert difference(straight(kind), fit(kind, tmp_path, ckpt=only(tmp_path / "ckpt"))) == 0


@pytest.mark.parametrize("kind", some(RUNS, ["grpo-full-passes"]))
def test_resuming_at_the_end_of_an_epoch_changes_nothing(
    kind: str, straight: Any, tmp_path: Path
) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", save_on_train_epoch_end=True, save_top_k=-1)
    with pytest.raises(InterruptedError):
        fit(kind, tmp_path, saver, Interrupt(1, 0))
    assert difference(straight(kind), fit(kind, tmp_path, ckpt=only(tmp_path / "ckpt"))) == 0


def test_the_resumed_runs_do_draw_further_problems(straight: Any, tmp_path: Path) -> None:
    """Or resuming with dynamic sampling would not be tried."""
    drawn: list[int] = []

    class Draws(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            drawn.append(len(module.last_rollouts))

    fit("grpo-full-passes", tmp_path, Draws())
    assert len(set(drawn)) > 1
    assert max(drawn) > 14 * 4


def only(folder: Path) -> Path:
    return max(
        folder.glob("*.ckpt"), key=lambda path: torch.load(path, weights_only=True)["global_step"]
    )


def test_checkpoint_holds_what_learns_and_where_the_run_stood(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1)
    with pytest.raises(InterruptedError):
        fit("sft-lora-dropout", tmp_path, saver, Interrupt(0, 2))
    saved = torch.load(only(tmp_path / "ckpt"), weights_only=True)
    assert saved["state_dict"]
    assert all("lora_" in name for name in saved["state_dict"])
    assert len(saved["optimizer_states"][0]["state"]) == len(saved["state_dict"])
    [rng] = saved["rng"]  # of every rank
    assert set(rng) == {"python", "numpy", "torch", "threads", "cuda"}
    assert saved["ChatData"].items() >= {"epoch": 0, "position": 2}.items()


@pytest.mark.parametrize("kind", some(RUNS, FAST))
def test_the_compared_runs_do_learn(kind: str, straight: Any) -> None:
    start = RUNS[kind]()[0].policy.load()
    named = dict(start.model.named_parameters())
    assert (
        difference(straight(kind), {name: named[name].detach() for name in start.trainable}) > 1e-3
    )


OTHERS: dict[str, tuple[Policy, Policy, str]] = {
    "full into lora": (
        Policy(scratch=SCRATCH),
        Policy(scratch=SCRATCH, lora=LORA),
        "missing .*unknown",
    ),
    "lora into full": (
        Policy(scratch=SCRATCH, lora=LORA),
        Policy(scratch=SCRATCH),
        "missing .*unknown",
    ),
    "other rank": (
        Policy(scratch=SCRATCH, lora=LORA),
        Policy(scratch=SCRATCH, lora=Lora(r=2)),
        "16 of another shape",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_checkpoint_of_another_policy_is_refused(kind: str, tmp_path: Path) -> None:
    saved, other, message = OTHERS[kind]
    first = trainer(tmp_path, limit_train_batches=1)
    first.fit(sft(saved), chats())
    first.save_checkpoint(tmp_path / "one.ckpt")
    for verb in ("fit", "validate"):
        with pytest.raises(
            ValueError, match=f"the checkpoint is of another policy: .*{message}"
        ) as caught:
            getattr(trainer(tmp_path), verb)(sft(other), chats(), ckpt_path=tmp_path / "one.ckpt")
        assert "\n" not in str(caught.value)


def test_roles_in_another_order_are_refused(tmp_path: Path) -> None:
    """The optimizer's state goes by the order of its groups alone."""
    rewards = [Rare(), Rare(role="judge")]

    def module(*roles: str) -> Any:
        return grpo(
            Policy(scratch=SCRATCH, lora=LORA), agent=Duo(), rewards=rewards, train_roles=roles
        )

    first = trainer(tmp_path, limit_train_batches=1)
    first.fit(module("solver", "judge"), problems())
    first.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match="train_roles are solver, judge, in this order"):
        trainer(tmp_path, max_epochs=2).fit(
            module("judge", "solver"), problems(), ckpt_path=tmp_path / "one.ckpt"
        )


def test_moving_reference_needs_one_in_the_checkpoint(tmp_path: Path) -> None:
    first = trainer(tmp_path, limit_train_batches=1)
    first.fit(grpo(objective=Objective(beta=0.05)), problems())
    first.save_checkpoint(tmp_path / "one.ckpt")
    other = grpo(objective=Objective(beta=0.05), reference_update=0.5)
    with pytest.raises(ValueError, match="no moving reference: set reference_update"):
        trainer(tmp_path, max_epochs=2).fit(other, problems(), ckpt_path=tmp_path / "one.ckpt")


@pytest.mark.parametrize(("passes", "updates"), [(1, 3), (2, 3)])
def test_max_steps_counts_updates_and_the_schedule_ends_with_them(
    passes: int, updates: int, tmp_path: Path
) -> None:
    module = grpo(passes=passes, optim=Optim(lr=0.01, warmup=0, schedule="linear"))
    run = trainer(tmp_path, max_steps=3, max_epochs=5)
    run.fit(module, problems())
    assert run.global_step == updates
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.0)


def test_batches_that_teach_nothing_do_not_use_up_the_schedule_of_max_steps(tmp_path: Path) -> None:
    class Half(Rare):
        """Only every other batch has something to learn."""

        steps = 0

        def __call__(self, graded: GradedTrace) -> float:
            Half.steps += 1
            return float(Half.steps % 2) if (Half.steps - 1) // 28 % 2 else 0.0

    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            rates.append(trainer.callback_metrics["train/lr"].item())

    module = grpo(rewards=[Half()], optim=Optim(lr=0.01, warmup=0, schedule="linear"))
    run = trainer(tmp_path, max_steps=4, max_epochs=9, callbacks=[Rates()])
    run.fit(module, problems())
    assert run.global_step == 4
    assert rates[1::2] == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_other_data_than_that_of_the_interrupted_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=1)
    first = trainer(tmp_path, max_steps=2, callbacks=[saver], enable_checkpointing=True)
    first.fit(sft(), chats(batch_size=8))
    for size, said in ((8, False), (4, True)):
        capsys.readouterr()
        again = trainer(tmp_path, max_steps=3)
        again.fit(sft(), chats(batch_size=size), ckpt_path=only(tmp_path / "ckpt"))
        assert ("batch_size was 8 and is 4" in capsys.readouterr().out) == said
