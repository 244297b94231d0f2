"""Which samples are trained on, and under which distribution: dynamic sampling, truncated replies,
top-p, top-k, min-p.
"""

from array import array
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny import SCRATCH, SOURCE, Even, difference, grpo, problems, trainer, weights

from slm_math.answers.graded import GradedTrace
from slm_math.data.problem_data import ProblemData
from slm_math.losses.objective import Objective
from slm_math.modules.optim import Optim
from slm_math.rewards import Reward
from slm_math.types import Sampling


class Sometimes(Even):
    """Even for every third problem; all samples of the others earn the same."""

    def __call__(self, graded: GradedTrace) -> float:
        return (
            super().__call__(graded)
            if int(graded.task.problem.id.rpartition("/")[2]) % 3 == 0
            else 0.0
        )


class Same(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return 1.0


def fit(module: Any, root: Path, batches: int = 1, **data: Any) -> L.Trainer:
    run = trainer(root, limit_train_batches=batches)
    run.fit(module, problems(**data))
    return run


def trained(module: Any) -> list[str]:
    """The problems of the groups that were given advantages."""
    return list(dict.fromkeys(each.id for each in module.last_records if each.advantages))


def test_dead_groups_make_room_for_further_problems(tmp_path: Path) -> None:
    module = grpo(rewards=[Sometimes()], resample=9, group_size=8)
    run = fit(module, tmp_path, batch_size=4)
    assert len(trained(module)) == 4
    seen = dict.fromkeys(r.task.problem.id for r in module.last_rollouts)
    assert len(seen) > 4
    alive = [
        p
        for p in seen
        if len({r.rewards["solver"] for r in module.last_rollouts if r.task.problem.id == p}) > 1
    ]
    assert trained(module) == alive[:4]
    dead = 1 - len(alive) / len(seen)
    assert run.callback_metrics["train/frac_reward_zero_std"].item() == pytest.approx(
        dead, abs=1e-6
    )


def test_further_problems_are_the_next_of_the_order(tmp_path: Path) -> None:
    module = grpo(rewards=[Same()], resample=2)
    data = problems(batch_size=4)
    trainer(tmp_path, limit_train_batches=1).fit(module, data)
    want = [data.tasks[i].problem.id for batch in data._loader.plan()[:3] for i in batch]
    assert list(dict.fromkeys(r.task.problem.id for r in module.last_rollouts)) == want
    assert data.state_dict().items() >= {"epoch": 0, "position": 3}.items()


def test_sampling_again_ends_at_its_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo(rewards=[Same()], resample=2)
    before = SCRATCH.model(SCRATCH.tokenizer())
    fit(module, tmp_path, batch_size=4)
    assert len(module.last_rollouts) == 3 * 4 * 4
    assert trained(module) == []
    assert difference(weights(module), dict(before.named_parameters())) == 0
    assert "all 12 groups are dead" in capsys.readouterr().out


def test_dropped_groups_do_not_count_in_the_average(tmp_path: Path) -> None:
    """The same update whether dead groups were dropped or never asked for; kept, they make it
    smaller.
    """

    class Chosen(ProblemData):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.tasks = [task for task in self.tasks if task.problem.id in keep]

    norms, keep = [], {task.problem.id for task in SOURCE.tasks("train")}
    for resample in (None, 0):
        module = grpo(rewards=[Sometimes()], resample=resample, group_size=8)
        run = trainer(tmp_path, limit_train_batches=1)
        run.fit(module, Chosen(SOURCE, batch_size=14, seed=0))
        norms.append(run.callback_metrics["train/grad_norm"].item())
    keep = set(trained(module))
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(grpo(rewards=[Sometimes()], group_size=8), Chosen(SOURCE, batch_size=len(keep), seed=0))
    norms.append(run.callback_metrics["train/grad_norm"].item())
    assert 0 < len(keep) < 14
    assert norms[1] == pytest.approx(norms[2], rel=1e-4)
    assert norms[0] < 0.7 * norms[1]


def test_masked_truncated_replies_count_in_the_baseline_only(tmp_path: Path) -> None:
    module: Any = grpo(mask_truncated=True, sampling=Sampling(max_new_tokens=5), group_size=8)
    make, weights = module.signals, []

    def signals(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        weights.append(made.weights)
        return made

    module.signals = signals
    run = fit(module, tmp_path, batch_size=14)
    cut = [each.hit_length_limit("solver") for each in module.last_rollouts]
    assert 0 < sum(cut) < len(cut)
    lengths = [len(each.trace.turns[0].reply.token_ids) for each in module.last_rollouts]
    by_rollout = weights[0].split(lengths)
    want = 1 / sum(length for length, was_cut in zip(lengths, cut) if not was_cut)
    for own, was_cut in zip(by_rollout, cut):
        assert own.tolist() == pytest.approx([0.0 if was_cut else want] * len(own))
    rewards = torch.tensor([r.rewards["solver"] for r in module.last_rollouts]).view(-1, 8)
    first = [each.advantages["solver"] for each in module.last_records[:8]]
    want = (rewards[0] - rewards[0].mean()) / (rewards[0].std() + 1e-4)
    assert first == pytest.approx(want.tolist(), abs=1e-6)
    assert run.callback_metrics["train/truncated"].item() == pytest.approx(sum(cut) / len(cut))


CUT = {
    "top_p": Sampling(top_p=0.6, max_new_tokens=6),
    "top_k": Sampling(top_k=5, max_new_tokens=6),
    "min_p": Sampling(min_p=0.5, max_new_tokens=6),
    "all": Sampling(temperature=0.7, top_p=0.9, top_k=50, min_p=0.01, max_new_tokens=6),
    "banned": Sampling(not_first=("a", "b"), max_new_tokens=6),
}


def packed(kept: bytes) -> list[int]:
    return list(array("i", kept))


@pytest.mark.parametrize("kind", CUT)
def test_first_update_on_truncated_samples_is_on_policy(kind: str, tmp_path: Path) -> None:
    module = grpo(sampling=CUT[kind], objective=Objective(beta=0.05))
    logged = fit(module, tmp_path).callback_metrics
    assert logged["train/logp_diff_max"] < 1e-4
    assert logged["train/kl"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["top_p", "top_k", "min_p", "all"])
def test_recorded_support_is_what_the_rule_leaves(kind: str, tmp_path: Path) -> None:
    module = grpo(sampling=CUT[kind], optim=Optim(lr=1e-30, warmup=0))
    fit(module, tmp_path)
    plan, model = CUT[kind], SCRATCH.model(SCRATCH.tokenizer()).eval()
    for rollout in module.last_rollouts[:5]:
        reply = rollout.trace.turns[0].reply
        ids = [*reply.prompt_ids, *reply.token_ids]
        with torch.no_grad():
            probs = (model(torch.tensor([ids])).logits[0] / plan.temperature).softmax(-1).double()
        for t, (token, kept, logp) in enumerate(
            zip(reply.token_ids, reply.support, reply.logprobs)
        ):
            p = probs[len(reply.prompt_ids) - 1 + t].tolist()
            order = sorted(range(len(p)), key=lambda i: -p[i])[: plan.top_k or None]
            mass, left = sum(p[i] for i in order), []
            for i in order:
                if plan.top_p < 1 and sum(p[j] for j in left) / mass >= plan.top_p:
                    break
                left.append(i)
            left = [i for i in left if p[i] >= plan.min_p * p[order[0]]]
            got = packed(kept)
            assert token in got
            # rounding of the cumulative sum may move its edge by one
            assert len(set(got) ^ set(left)) <= 1
            assert logp == pytest.approx(
                torch.tensor(p[token] / sum(p[i] for i in got)).log().item(), abs=1e-4
            )


def test_gradient_on_truncated_samples_is_that_of_the_truncated_policy(tmp_path: Path) -> None:
    """-sum of A * grad log (p_token / sum of p over the kept tokens), written out with a plain
    model.
    """
    module: Any = grpo(sampling=CUT["all"])
    found: dict[str, torch.Tensor] = {}
    module.step_optimizer = lambda: (
        found.update({n: p.grad.clone() for n, p in module.model.named_parameters()}) or 0.0
    )
    fit(module, tmp_path)
    model, loss, tokens = SCRATCH.model(SCRATCH.tokenizer()), torch.zeros(()), 0
    for rollout, record in zip(module.last_rollouts, module.last_records):
        reply = rollout.trace.turns[0].reply
        logits = model(torch.tensor([[*reply.prompt_ids, *reply.token_ids]])).logits[0] / 0.7
        for t, (token, kept) in enumerate(zip(reply.token_ids, reply.support)):
            here = logits[len(reply.prompt_ids) - 1 + t]
            left = packed(kept)
            loss = loss - record.advantages["solver"] * (here[token] - here[left].logsumexp(0))
            tokens += 1
    (loss / tokens).backward()
    assert max(p.grad.abs().max() for p in model.parameters()) > 1e-3
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-5)


def test_without_truncation_nothing_is_recorded(tmp_path: Path) -> None:
    module = grpo()
    fit(module, tmp_path)
    assert not any(r.trace.turns[0].reply.support for r in module.last_rollouts)


def test_every_step_draws_anew_and_every_problem_its_own(tmp_path: Path) -> None:
    """With one problem in all batches, no two steps and no two samples of a step
    repeat each other.
    """
    sampled: list[tuple[int, ...]] = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            sampled.extend(r.trace.turns[0].reply.token_ids for r in module.last_rollouts)

    module = grpo(optim=Optim(lr=1e-30, warmup=0), sampling=Sampling(max_new_tokens=24))
    trainer(tmp_path, max_epochs=3, callbacks=[Keep()]).fit(module, problems(limit=1, batch_size=1))
    assert len(sampled) == 12
    assert len(set(sampled)) == 12
