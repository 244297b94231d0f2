"""Roles that learn one after another: whose turn it is, and that the others stay as they are."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import SCRATCH, Duo, Even, difference, grpo, problems, trainer, weights

from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.modules.turns import Turns
from slm_math.policy.config import Lora, Policy

BOTH = ("solver", "judge")
OPTIM = Optim(lr=1e-2, role_lr={"judge": 3e-2}, warmup=2, schedule="linear", weight_decay=0.1)


def duo(**options: Any) -> Any:
    defaults: dict[str, Any] = {
        "agent": Duo(),
        "rewards": [Even(), Even(role="judge")],
        "train_roles": BOTH,
        "optim": OPTIM,
        "alternate": 1,
    }
    policy = options.pop("policy", Policy(scratch=SCRATCH, lora=Lora(r=2, dropout=0.0)))
    return grpo(policy, **(defaults | options))


class Watch(L.Callback):
    """After each step: whose turn it was, what the roles' weights and moments are, and their rates
    before and after.
    """

    def __init__(self) -> None:
        self.learned: list[tuple[str, ...]] = []
        self.states: list[dict[str, dict[str, torch.Tensor]]] = []
        self.rates: list[dict[str, float]] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.states:
            self.keep(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
        self.learned.append(module.learning_roles)
        self.keep(module)
        self.logged.append({name: float(v) for name, v in trainer.callback_metrics.items()})

    def keep(self, module: Any) -> None:
        optimizer = module.optimizers()
        state: dict[str, dict[str, torch.Tensor]] = {role: {} for role in BOTH}
        for group in optimizer.param_groups:
            for number, weight in enumerate(group["params"]):
                own = state[group["role"]]
                name = f"{group.get('muon', '')}{number}"
                own[f"{name}/weight"] = weight.detach().clone()
                for key, moment in optimizer.state.get(weight, {}).items():
                    own[f"{name}/{key}"] = torch.as_tensor(moment).clone()
        for name, weight in module.loaded.model.named_parameters():
            for role in BOTH:
                if f".{role}_reference." in name:
                    state[role][name] = weight.detach().clone()
        self.states.append(state)
        self.rates.append({group["role"]: group["lr"] for group in optimizer.param_groups})


def watched(root: Path, batches: int = 6, **options: Any) -> Watch:
    watch = Watch()
    run = trainer(root, limit_train_batches=2, max_epochs=batches // 2, callbacks=[watch])
    run.fit(duo(**options), problems())
    return watch


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optim": Optim(lr=1e-2, kind="muon", weight_decay=0.1)},
    "passes and a moving reference": {
        "passes": 2,
        "objective": Objective(beta=0.05),
        "reference_update": 0.5,
    },
    "replaced groups": {"resample": 2},
}


FAST = ("adamw",)


@pytest.mark.parametrize("kind", some(OPTIONS, FAST))
def test_role_that_waits_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    """Its weights, moments, reference and rate, bit for bit; those of the other one move."""
    watch = watched(tmp_path, **OPTIONS[kind])
    assert watch.learned == [("solver",), ("judge",)] * 3
    for step, [learning] in enumerate(watch.learned):
        [waiting] = set(BOTH) - {learning}
        before, after = watch.states[step], watch.states[step + 1]
        assert same(before[waiting], after[waiting])
        assert not same(before[learning], after[learning])
        assert watch.rates[step][waiting] == watch.rates[step + 1][waiting]


def test_turn_passes_after_so_many_steps_also_across_epochs(tmp_path: Path) -> None:
    watch = watched(tmp_path, alternate=3)
    assert watch.learned == [("solver",)] * 3 + [("judge",)] * 3
    learns = [(one["train/solver/learns"], one["train/judge/learns"]) for one in watch.logged]
    assert learns == [(1, 0)] * 3 + [(0, 1)] * 3


def test_each_role_goes_through_its_whole_schedule(tmp_path: Path) -> None:
    """Warm-up of 2 of its 3 own updates, and then down to 0, at its own peak."""
    watch = watched(tmp_path)
    by_role = {role: [rates[role] for rates in watch.rates] for role in BOTH}
    for role, peak in (("solver", 1e-2), ("judge", 3e-2)):
        starts = [n for n, [learning] in enumerate(watch.learned) if learning == role]
        used = [by_role[role][n] for n in starts]
        assert used == pytest.approx([peak / 2, peak, peak])
        assert by_role[role][-1] == pytest.approx(0.0)


def test_max_steps_counts_the_updates_of_all_roles(tmp_path: Path) -> None:
    module, watch = duo(passes=2), Watch()
    run = trainer(tmp_path, max_steps=8, max_epochs=-1, callbacks=[watch])
    run.fit(module, problems(limit=None))
    assert run.global_step == 8
    assert watch.learned == [("solver",), ("judge",)] * 2
    assert module.lr_schedulers().done == [4, 4]
    assert list(watch.rates[-1].values()) == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("every", [None, 1, 3])
def test_updates_of_a_role_are_those_of_its_turns(every: int | None, passes: int) -> None:
    turns = Turns(("a", "b", "c"), every)
    for updates in range(40):
        for role in turns.roles:
            counted = sum(role in turns.at(update // passes) for update in range(updates))
            assert turns.updates_of(role, updates, passes) == counted


def test_groups_that_teach_only_the_role_that_waits_are_replaced(tmp_path: Path) -> None:
    """With `resample`, in the judge's turn no group is kept whose judges earned the same."""
    module = duo(resample=3)
    kept: list[tuple[tuple[str, ...], bool]] = []
    advantages = module.assign_advantages

    def watching(groups: Any, rows: Any, kl: Any) -> Any:
        for group in groups:
            [role] = module.learning_roles
            kept.append((module.learning_roles, len({one.rewards[role] for one in group}) > 1))
        return advantages(groups, rows, kl)

    module.assign_advantages = watching
    trainer(tmp_path, limit_train_batches=4).fit(module, problems(limit=None))
    assert {roles for roles, _ in kept} == {("solver",), ("judge",)}
    assert all(teaches for _, teaches in kept)


class Interrupt(L.Callback):
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise InterruptedError


@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_resuming_in_the_middle_of_a_cycle_changes_nothing(batch: int, tmp_path: Path) -> None:
    """Batch 1 is in the middle of the solver's turn, batch 3 in that of the judge's, an epoch
    later.
    """

    def fit(name: str, *callbacks: L.Callback, ckpt: Path | None = None) -> Any:
        L.seed_everything(5 if ckpt is None else 77, verbose=False)  # adapters are random
        module = duo(alternate=2, objective=Objective(beta=0.05), reference_update=0.5)
        run = trainer(
            tmp_path / name,
            limit_train_batches=2,
            max_epochs=3,
            callbacks=list(callbacks),
            enable_checkpointing=bool(callbacks),
        )
        run.fit(module, problems(), ckpt_path=ckpt)
        return module

    straight = fit("straight")
    saving = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(InterruptedError):
        fit("stopped", saving, Interrupt(batch))
    [last] = (tmp_path / "saved").glob(f"*step={batch}.ckpt")
    resumed = fit("resumed", ckpt=last)
    assert difference(weights(straight), weights(resumed)) == 0
    assert resumed.lr_schedulers().done == straight.lr_schedulers().done == [4, 2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"alternate": 0}, "alternate"),
        ({"train_roles": ["solver"], "rewards": None, "frozen": {"judge": "base"}}, "solver only"),
        ({"policy": Policy(scratch=SCRATCH)}, "solver and judge share all weights"),
        (
            {"policy": Policy(scratch=SCRATCH, lora=Lora(r=2), shared_adapter=True)},
            "share one adapter",
        ),
    ],
)
def test_turns_that_cannot_be_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        duo(**({"optim": Optim()} | options))  # with one rate for all
