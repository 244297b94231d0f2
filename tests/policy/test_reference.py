"""The reference policy: where it stands at the start, that it stays there, and that it moves when
it should.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cases import some
from tiny import SCRATCH, Duo, Even, chats, grpo, problems, sft, trainer

from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import ExportHF
from slm_math.losses.advantages import Advantage
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.rewards import Reward
from slm_math.types import Sampling

TWO = Lora(r=2, dropout=0.0)
FAST = Optim(lr=1e-2, warmup=0, schedule="constant")
BOTH: dict[str, Any] = {
    "agent": Duo(),
    "rewards": [Even(), Even(role="judge")],
    "train_roles": ("solver", "judge"),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that SFT has moved away from its base model."""
    root = tmp_path_factory.mktemp("adapter")
    module = sft(Policy(scratch=SCRATCH), optim=Optim(lr=1e-3))
    trainer(root / "base", limit_train_batches=1, callbacks=[ExportHF(check=False)]).fit(
        module, chats()
    )
    policy = Policy(path=str(root / "base" / "export"), lora=TWO)
    trainer(root, limit_train_batches=3, callbacks=[ExportHF(check=False)]).fit(
        sft(policy, optim=Optim(lr=3e-2)), chats()
    )
    return root / "export"


CASES: dict[str, Callable[[Path], tuple[Policy, dict[str, Any]]]] = {
    "full": lambda adapter: (Policy(scratch=SCRATCH), {}),
    "fresh adapter": lambda adapter: (Policy(scratch=SCRATCH, lora=TWO), {}),
    "two fresh adapters": lambda adapter: (Policy(scratch=SCRATCH, lora=TWO), BOTH),
    "sft adapter": lambda adapter: (Policy(path=str(adapter)), {}),
    "two of an sft adapter": lambda adapter: (Policy(path=str(adapter)), BOTH),
}


class Curve(L.Callback):
    """Keeps a logged figure of every step."""

    def __init__(self, name: str = "train/kl") -> None:
        self.name = name
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.values.append(trainer.callback_metrics[self.name].item())


def curve(module: Any, root: Path, batches: int = 3) -> list[float]:
    keep = Curve()
    trainer(root, limit_train_batches=batches, callbacks=[keep]).fit(module, problems())
    return keep.values


STAYS, MOVES = 0.0, 0.3
FAST_STARTS = [("full", STAYS), ("sft adapter", STAYS), *product(CASES, [MOVES])]


@pytest.mark.parametrize(("kind", "moves"), some(product(CASES, (STAYS, MOVES)), FAST_STARTS))
def test_kl_is_zero_at_the_start_and_grows(
    kind: str, moves: float, adapter: Path, tmp_path: Path
) -> None:
    policy, options = CASES[kind](adapter)
    module = grpo(
        policy, objective=Objective(beta=0.01), optim=FAST, reference_update=moves, **options
    )
    first, *later = curve(module, tmp_path)
    assert first == pytest.approx(0, abs=1e-9)
    assert min(later) > 1e-6


SINGLE = ("full", "fresh adapter", "sft adapter")


@pytest.mark.parametrize(
    ("kind", "kl_in"),
    some(product(SINGLE, ("loss", "reward")), zip(SINGLE, ("loss", "reward", "loss"))),
)
def test_wrong_reference_stops_the_first_update(
    kind: str, kl_in: Any, adapter: Path, tmp_path: Path
) -> None:
    class Disturb(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
            named = dict(module.named_parameters())
            name = next(n for n in named if "lora_B" in n or "norm" in n)
            with torch.no_grad():
                named[name].add_(1.0)

    policy, options = CASES[kind](adapter)
    module = grpo(policy, objective=Objective(beta=0.01, kl_in=kl_in), **options)
    with pytest.raises(RuntimeError, match="reference policy differs"):
        trainer(tmp_path, callbacks=[Disturb()]).fit(module, problems())


@pytest.mark.parametrize("kind", CASES)
def test_reference_that_goes_all_the_way_is_the_policy(
    kind: str, adapter: Path, tmp_path: Path
) -> None:
    policy, options = CASES[kind](adapter)
    module = grpo(
        policy, objective=Objective(beta=0.01), optim=FAST, reference_update=1.0, **options
    )
    assert curve(module, tmp_path) == pytest.approx([0, 0, 0], abs=1e-9)


def test_slow_reference_is_the_moving_average(tmp_path: Path) -> None:
    """After steps k = 1, 2 with share a: ref_k = ref_(k-1) + a (policy_k - ref_(k-1)), weight by
    weight.
    """
    module = grpo(objective=Objective(beta=0.01), optim=FAST, reference_update=0.25)
    states: list[dict[str, torch.Tensor]] = []

    class Keep(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
            self.on_train_batch_end(trainer, module)

        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            states.append(
                {n: p.detach().double().clone() for n, p in module.model.named_parameters()}
            )

    trainer(tmp_path, limit_train_batches=2, callbacks=[Keep()]).fit(module, problems())
    for name, got in module.loaded.reference_model.named_parameters():
        want = states[0][name]
        for state in states[1:]:
            want = want + 0.25 * (state[name] - want)
        assert torch.allclose(got.double(), want, atol=1e-7)


def test_reference_does_not_learn(tmp_path: Path) -> None:
    module = grpo(
        Policy(scratch=SCRATCH, lora=TWO),
        objective=Objective(beta=0.1),
        optim=FAST,
        reference_update=0.5,
    )
    curve(module, tmp_path, 1)
    assert not any("@reference" in name for name in module.loaded.trainable)
    assert not any(p.requires_grad for n, p in module.model.named_parameters() if "@reference" in n)


def test_no_reference_without_a_kl_term(tmp_path: Path) -> None:
    module = grpo(optim=FAST)
    trainer(tmp_path, limit_train_batches=1).fit(module, problems())
    assert module.loaded.reference_model is None


ESTIMATORS = ("k1", "k2", "k3")


@pytest.mark.parametrize(
    ("kind", "masked"),
    some(product(ESTIMATORS, (False, True)), zip(ESTIMATORS, (True, False, True))),
)
def test_kl_in_the_reward_is_taken_off_it(kind: Any, masked: bool, tmp_path: Path) -> None:
    """A = (r - beta * sum of k_t) - mean of these, also for samples that are masked; by plain
    forward passes.
    """
    objective = Objective(beta=0.5, kl=kind, kl_in="reward")
    ragged = Sampling(max_new_tokens=6, stop=("a", "e", "o", "t"))
    options: dict[str, Any] = {
        "optim": FAST,
        "sampling": ragged,
        "advantage": Advantage(scale="none"),
        "mask_truncated": masked,
    }
    module = grpo(objective=objective, **options)
    before: list[dict[str, torch.Tensor]] = []

    class Keep(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            before.append({n: p.detach().clone() for n, p in module.model.named_parameters()})

    trainer(tmp_path, limit_train_batches=2, callbacks=[Keep()]).fit(module, problems())
    start, policy = (SCRATCH.model(SCRATCH.tokenizer()).eval() for _ in range(2))
    policy.load_state_dict(before[1], strict=False)
    penalised = []
    for rollout in module.last_rollouts:
        reply = rollout.trace.turns[0].reply
        ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
        chosen = torch.tensor(reply.token_ids)[:, None]
        with torch.no_grad():
            one, other = (
                model(ids)
                .logits[0, len(reply.prompt_ids) - 1 : -1]
                .log_softmax(-1)
                .gather(-1, chosen)
                .double()
                for model in (policy, start)
            )
        d = other - one
        k = {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - 1 - d}[kind]
        penalised.append(rollout.rewards["solver"] - 0.5 * k.sum().item())
    table = torch.tensor(penalised).view(-1, 4)
    want = (table - table.mean(1, keepdim=True)).flatten().tolist()
    assert [each.advantages["solver"] for each in module.last_records] == pytest.approx(
        want, abs=1e-4
    )
    assert max(penalised) > 1 or min(penalised) < -1e-3


PRECISIONS = ("32-true", "bf16-mixed")


@pytest.mark.parametrize(
    ("kind", "precision"),
    some(product(SINGLE, PRECISIONS), zip(SINGLE, (*PRECISIONS[::-1], "bf16-mixed"))),
)
def test_kl_in_the_reward_is_exactly_zero_at_the_start(
    kind: str, precision: Any, adapter: Path, tmp_path: Path
) -> None:
    """Or rounding, divided by a standard deviation that is nothing else, would be trained on."""
    policy, options = CASES[kind](adapter)
    objective = Objective(beta=0.5, kl="k1", kl_in="reward")
    module = grpo(policy, **({"rewards": [Same()]} | options), objective=objective)
    run = trainer(tmp_path, limit_train_batches=1, precision=precision)
    run.fit(module, problems())
    assert {each.advantages["solver"] for each in module.last_records} == {0.0}


class Same(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return 1.0


def test_second_fit_of_a_module_keeps_its_reference(tmp_path: Path) -> None:
    module = grpo(objective=Objective(beta=0.01), optim=FAST)
    assert curve(module, tmp_path, 1) == pytest.approx([0], abs=1e-9)
    assert curve(module, tmp_path, 1)[0] > 1e-6


def test_reference_that_is_nan_is_no_reference(tmp_path: Path) -> None:
    class Spoil(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
            module.loaded.reference_model.model.norm.weight.data.fill_(float("nan"))

    with pytest.raises(RuntimeError, match="reference policy differs"):
        trainer(tmp_path, callbacks=[Spoil()]).fit(grpo(objective=Objective(beta=0.01)), problems())
