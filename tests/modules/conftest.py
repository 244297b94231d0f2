"""A model trained on one-step sums, half of them wrong: something for GRPO to improve, made in
seconds. A model that teaches, and models and adapters of roles.
"""

import random
from pathlib import Path

import pytest
from modules.two_roles import adapter
from tiny import model_folder, trainer

from slm_math.callbacks import ExportHF
from slm_math.data.base import Source, Split
from slm_math.data.chat_data import ChatData
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.prompts import render
from slm_math.types import Chat, Problem, Task, assistant, user


class Sums(Source):
    """a + b for a, b < 12. Its dialogues give each sum its right answer once, and once the number
    after it.
    """

    name = "sums"

    def tasks(self, split: Split) -> list[Task]:
        pairs = [(a, b) for a in range(12) for b in range(12)]
        random.Random(0).shuffle(pairs)
        chosen = pairs[:108] if split == "train" else pairs[108:]
        return [Task(Problem(f"sums/{a}+{b}", f"{a} + {b}"), str(a + b)) for a, b in chosen]

    def dialogues(self, split: Split, prompt: str = "solve_plain") -> list[Chat]:
        return [
            user(render(prompt, problem=task.problem.text))
            + assistant(f"#### {int(task.gold) + error}")
            for task in self.tasks(split)
            for error in (0, 1)
        ]


@pytest.fixture(scope="session")
def sums() -> Sums:
    return Sums()


@pytest.fixture(scope="session")
def pretrained(sums: Sums, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model, which has 112,192 parameters."""
    root = tmp_path_factory.mktemp("sums")
    policy = Policy(scratch=Scratch(hidden=64, layers=2, ffn=160, vocabulary=400))
    optim = Optim(kind="muon", lr=5e-3, matrix_lr=0.025, schedule="quadratic", warmup=10)
    module = SFTModule(policy, optim, tokens_per_batch=4096)
    data = ChatData(sums, batch_size=24, prompt="solve_plain", seed=0)
    trainer(root, max_epochs=40, callbacks=[ExportHF(check=False)]).fit(module, data)
    assert sum(p.numel() for p in module.model.parameters()) <= 200_000
    return root / "export"


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that differs from the student's."""
    return str(model_folder(tmp_path_factory.mktemp("teacher"), seed=3))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a copy of it and another one; a pair of adapters, and one of the other base."""
    root = tmp_path_factory.mktemp("zoo")
    for name, seed in (("model", 0), ("copy", 0), ("other", 1)):
        model_folder(root / name, seed)
    adapter(root / "model", root / "pair" / "solver", 1)
    adapter(root / "copy", root / "pair" / "judge", 2, r=3)
    adapter(root / "other", root / "stranger", 3)
    return root
