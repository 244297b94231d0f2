"""From a pre-trained model to a better one: GRPO does what it is for."""

from pathlib import Path
from typing import Any

import pytest
from tiny import trainer

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval
from slm_math.data.problem_data import ProblemData
from slm_math.engines.settings import Inference
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.policy.config import Policy
from slm_math.types import Sampling

pytestmark = pytest.mark.slow


class Practiced:
    """The problems of a source's training split as its validation split."""

    def __init__(self, source: Any) -> None:
        self.name = source.name
        self.source = source

    def tasks(self, split: str) -> list[Any]:
        return self.source.tasks("train")


@pytest.fixture(scope="module")
def accuracies(
    sums: Any, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, float]]:
    """Of samples at temperature 1, before and after GRPO, on the 108 practiced sums (4 samples
    each).
    """
    root = tmp_path_factory.mktemp("learns")
    judge = AgentEval(
        {"sampled": SingleShot("solve_plain")},
        sources={"sums": Practiced(sums)},  # type: ignore[dict-item]
        samples=4,
        inference=Inference(sampling=Sampling(1.0, max_new_tokens=8)),
    )
    module = GRPOModule(
        Policy(path=str(pretrained)),
        agent=SingleShot("solve_plain"),
        optim=Optim(lr=1e-3, betas=(0.9, 0.98), warmup=2, schedule="linear", floor=0.2),
        inference=Inference(slots=128, sampling=Sampling(max_new_tokens=8)),
        seed=0,
    )
    found = []
    for number in range(2):
        run = trainer(root / str(number), callbacks=[judge])
        run.validate(module, ProblemData(sums, seed=0), verbose=False)
        found.append({name: value.item() for name, value in run.callback_metrics.items()})
        if number == 0:
            trainer(root, max_epochs=16).fit(module, ProblemData(sums, batch_size=16, seed=0))
    return found


def test_sampled_accuracy_rises_by_a_clear_margin(accuracies: list[dict[str, float]]) -> None:
    before, after = accuracies
    assert 0.3 < before["eval/sums/sampled/accuracy"] < 0.6
    assert after["eval/sums/sampled/accuracy"] > before["eval/sums/sampled/accuracy"] + 0.15
    assert after["eval/sums/sampled/low"] > before["eval/sums/sampled/high"]


def test_training_raises_accuracy_but_adds_no_new_answers(
    accuracies: list[dict[str, float]],
) -> None:
    """Once in four samples the right answer was there before, too."""
    before, after = accuracies
    gain = {
        name: after[f"eval/sums/sampled/{name}"] - before[f"eval/sums/sampled/{name}"]
        for name in ("accuracy", "pass@4")
    }
    assert gain["pass@4"] < gain["accuracy"]
