"""Small models, data and trainers that tests share."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from slm_math.agents import Agent, SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.data.arithmetic import Arithmetic
from slm_math.data.base import Source, Split
from slm_math.data.chat_data import ChatData
from slm_math.data.problem_data import ProblemData
from slm_math.engines.base import Engine, Request
from slm_math.engines.settings import Inference
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Lora, Policy
from slm_math.policy.scratch import Scratch
from slm_math.policy.sharding import whole
from slm_math.rewards import Reward
from slm_math.types import Chat, Generate, Problem, Reply, Sampling, Trace, Workflow, user

SCRATCH = Scratch(hidden=32, layers=2, ffn=64)
LORA = Lora(r=4, alpha=8, dropout=0.3)


class Worked(Arithmetic):
    """Arithmetic whose dialogues are the worked solutions of its tasks."""

    def dialogues(self, split: Split, prompt: str = "solve_plain") -> list[Chat]:
        return Source.dialogues(self, split, prompt)


SOURCE = Worked(train=84, validation=14, test=14)


class Even(Reward):
    """A scripted reward that any model earns now and then: 1 when the reply's token ids add up to
    an even number.
    """

    def __call__(self, graded: GradedTrace) -> float:
        return float(sum(first_reply(graded.trace, self.role).token_ids) % 2 == 0)


def first_reply(trace: Trace, role: str) -> Reply:
    """The first reply of a role."""
    return next(turn.reply for turn in trace.turns if turn.request.role == role)


class Duo(Agent):
    """A solver and a judge, one turn each."""

    roles = ("solver", "judge")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        yield [Generate(user(problem.text))]
        yield [Generate(user(problem.text), role="judge")]
        return None


class Endpoint(Engine):
    """A chat endpoint: text, no token ids."""

    name = "the endpoint"

    def __init__(self) -> None:
        self.asked = 0
        self.open: list[int] = []

    def submit(self, request: Request) -> int:
        self.asked += 1
        self.open.append(self.asked)
        return self.asked

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        done, self.open = self.open, []
        return [(ticket, Reply("yes")) for ticket in done]

    @property
    def busy(self) -> int:
        return len(self.open)


def trainer(root: Path, **options: Any) -> L.Trainer:
    quiet = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    steps = {"num_sanity_val_steps": 0, "log_every_n_steps": 1, "max_epochs": 1}
    return L.Trainer(default_root_dir=root, accelerator="cpu", **(quiet | steps | options))


def sft(policy: Policy | None = None, **options: Any) -> SFTModule:
    defaults = {"optim": Optim(lr=1e-2)}
    return SFTModule(policy or Policy(scratch=SCRATCH), **with_inference(defaults | options))


def with_inference(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a module; those of its `inference` may stand among them by themselves."""
    names = {field.name for field in fields(Inference)}
    own = {name: value for name, value in options.items() if name in names}
    rest = {name: value for name, value in options.items() if name not in names}
    return rest | ({"inference": Inference(**own)} if own else {})


def grpo(policy: Policy | None = None, **options: Any) -> GRPOModule:
    defaults = {
        "agent": SingleShot("solve_plain"),
        "rewards": [Even()],
        "sampling": Sampling(max_new_tokens=6),
        "group_size": 4,
        "optim": Optim(lr=1e-3, warmup=0),
        "seed": 0,  # a test's outcome does not depend on the global seed that another one set
    }
    return GRPOModule(policy or Policy(scratch=SCRATCH), **with_inference(defaults | options))


def chats(**options: Any) -> ChatData:
    return ChatData(SOURCE, **({"batch_size": 8, "prompt": "solve_plain", "seed": 0} | options))


def problems(**options: Any) -> ProblemData:
    return ProblemData(SOURCE, **({"batch_size": 7, "limit": 28, "seed": 0} | options))


def model_folder(folder: Path, seed: int = 0) -> Path:
    """A small model with its tokenizer, in a folder as a hub would hold it."""
    tokenizer = SCRATCH.tokenizer()
    replace(SCRATCH, seed=seed).model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def watch_gradients(module: Any) -> dict[str, torch.Tensor]:
    """The gradients of the module's last step, once it is made; no step moves the weights."""
    found: dict[str, torch.Tensor] = {}

    def keep() -> float:
        named = module.model.named_parameters()
        found.update({name: p.grad.clone() for name, p in named if p.grad is not None})
        return 0.0

    module.step_optimizer = keep
    return found


def weights(module: Any) -> dict[str, torch.Tensor]:
    """A copy of what learns."""
    named = dict(module.loaded.model.named_parameters())
    return {name: whole(named[name]).detach().clone() for name in module.loaded.trainable}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference between two sets of weights of the same names."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)
