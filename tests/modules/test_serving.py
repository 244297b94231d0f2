"""Training with rollouts by `vllm serve`: weights arrive at every step and are checked; a lie stops
the run.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from engines.vllm_endpoint import GENERATE, KEY, PUSH, FakeVLLM, serving
from tiny import SCRATCH, Duo, Even, difference, grpo, problems, trainer, weights

from slm_math.callbacks.run_root import begin_run
from slm_math.engines import vllm_setup
from slm_math.engines.base import EngineError
from slm_math.engines.settings import Inference, Vllm
from slm_math.engines.settings import choose_engine as choose
from slm_math.modules.optim import Optim
from slm_math.modules.sft import SFTModule
from slm_math.policy.config import Lora, Policy
from slm_math.types import Sampling

pytestmark = pytest.mark.timeout(240)
OPTIM = Optim(lr=2e-2, warmup=0)  # a step that weights of the step before would betray


def module(servers: list[FakeVLLM], policy: Policy | None = None, **options: Any) -> Any:
    vllm = Vllm(servers=tuple(server.url for server in servers), patience=2, timeout=5)
    own = {"vllm": vllm, "sampling": Sampling(max_new_tokens=3), "group_size": 2, "optim": OPTIM}
    return grpo(policy, **(own | options))


class Seen(L.Callback):
    """What each step logged, and the largest difference between the policy that sampled and the
    servers' weights.
    """

    def __init__(self, servers: list[FakeVLLM]) -> None:
        self.servers, self.steps, self.behind, self.versions = servers, [], [], []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.versions.append(module.global_step)
        self.before = {name: p.detach().clone() for name, p in module.model.named_parameters()}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        for server in self.servers:
            theirs = dict(server.model.named_parameters())
            self.behind.append(
                max((theirs[name] - p).abs().max().item() for name, p in self.before.items())
            )


def fit(root: Path, model: Any, batches: int = 3, seen: Any = (), **options: Any) -> Any:
    training = trainer(
        root, limit_train_batches=batches, callbacks=[*([seen] if seen else [])], **options
    )
    training.fit(model, problems(batch_size=3))
    return training


def test_weights_arrive_at_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(2) as servers:
        model, seen = module(servers), Seen(servers)
        fit(tmp_path, model, seen=seen)
        assert seen.behind == [0.0] * 6
        assert [step["train/logp_diff"] for step in seen.steps] == pytest.approx([0] * 3, abs=5e-6)
        assert all(0 <= step["train/engine_gap"] < 1e-4 for step in seen.steps)
        assert {rollout.trace.turns[0].reply.version for rollout in model.last_rollouts} == {
            seen.versions[-1]
        }
        for server in servers:
            routes = [route for route in server.routes() if route != GENERATE]
            # nothing changed in a step of dead groups
            assert routes == PUSH * len(set(seen.versions))
        assert servers[0].url in capsys.readouterr().out  # the choice is printed
        assert (
            difference(weights(model), dict(SCRATCH.model(SCRATCH.tokenizer()).named_parameters()))
            > 1e-2
        )


def steps_before_the_end(
    root: Path, servers: list[FakeVLLM], batches: int = 3, **options: Any
) -> tuple[int, str]:
    """How many optimizer steps were made before EngineError, and what it says."""
    model = module(servers, **options)
    made: list[int] = []
    inner = model.step_optimizer
    model.step_optimizer = lambda: made.append(1) or inner()
    with pytest.raises(EngineError) as caught:
        fit(root, model, batches)
    return len(made), str(caught.value)


def test_a_server_that_ignores_updates_stops_the_run(tmp_path: Path) -> None:
    """Its first weights happen to be the policy's, so the first step is sound; the second one must
    not be made.
    """
    with serving() as servers:
        servers[0].ignores_weights = True
        made, message = steps_before_the_end(tmp_path, servers)
        assert made == 1
        assert "Nothing was trained" in message
        assert "step 1" in message


def test_a_server_of_another_model_stops_the_run_at_once(tmp_path: Path) -> None:
    with serving(seed=9) as servers:
        servers[0].ignores_weights = True
        assert steps_before_the_end(tmp_path, servers)[0] == 0


def test_a_server_at_another_temperature_stops_the_run(tmp_path: Path) -> None:
    with serving() as servers:
        servers[0].warp = 1.25
        assert steps_before_the_end(tmp_path, servers)[0] == 0


def test_one_stale_server_of_three_stops_the_run(tmp_path: Path) -> None:
    with serving(3, seed=9) as servers:
        servers[2].ignores_weights = True
        assert steps_before_the_end(tmp_path, servers, 1)[0] == 0


class Restart(L.Callback):
    """Restarts a server as the first rollout request of a batch reaches it."""

    def __init__(self, server: FakeVLLM, batch: int) -> None:
        self.server, self.batch = server, batch

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index == self.batch:
            answer, seen = self.server.answer, []

            def dying(route: str, body: dict[str, Any]) -> tuple[int, Any]:
                seen.append(route == GENERATE)
                if sum(seen) == 4:  # the check has passed
                    self.server.answer = answer
                    self.server.kill()
                    self.server.start()
                return answer(route, body)

            self.server.answer = dying  # type: ignore[method-assign]


def test_a_restart_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    with serving() as servers:
        model, seen = module(servers), Seen(servers)
        training = trainer(
            tmp_path, limit_train_batches=2, callbacks=[Restart(servers[0], 1), seen]
        )
        training.fit(model, problems(batch_size=3))
        assert servers[0].lives == 3
        assert seen.steps[1]["train/logp_diff"] < 5e-6
        assert seen.behind == [0.0, 0.0]


def test_a_restarted_server_that_ignores_its_weights_stops_the_run(tmp_path: Path) -> None:
    with serving() as servers:
        restart = Restart(servers[0], 1)
        model = module(servers)
        made: list[int] = []
        inner = model.step_optimizer
        model.step_optimizer = lambda: made.append(1) or inner()

        def lie(*_: Any) -> None:
            servers[0].ignores_weights = servers[0].lives > 1

        start = servers[0].start
        servers[0].start = lambda: start() or lie()  # type: ignore[method-assign]
        training = trainer(tmp_path, limit_train_batches=2, callbacks=[restart])
        with suppress(EngineError):
            training.fit(model, problems(batch_size=3))
        assert servers[0].lives == 3
        assert len(made) == 1


def test_dead_servers_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with serving(2) as servers:

        class Kill(L.Callback):
            def on_train_batch_start(
                self, trainer: Any, module: Any, batch: Any, index: int
            ) -> None:
                for server in servers if index == 1 else ():
                    server.kill()

        model = module(servers)
        with pytest.raises(EngineError) as caught:
            fit(tmp_path, model, seen=Kill())
        assert servers[0].url in str(caught.value)
        assert KEY not in str(caught.value)
        for server in servers:
            server.start()


def test_weights_are_sent_again_after_a_checkpoint_was_loaded(tmp_path: Path) -> None:
    with serving() as servers:
        first = module(servers)
        fit(tmp_path / "a", first, 2).save_checkpoint(tmp_path / "x.ckpt")
        trained = weights(first)
        before = len(servers[0].asked)
        second, seen = module(servers), Seen(servers)
        again = trainer(tmp_path / "b", limit_train_batches=3, callbacks=[seen], max_epochs=2)
        again.fit(second, problems(batch_size=3), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
        assert servers[0].routes(before)[: len(PUSH)] == PUSH
        assert seen.behind
        assert max(seen.behind) == 0.0
        assert difference(trained, weights(second)) > 0


def test_changed_weights_of_the_same_step_are_sent(tmp_path: Path) -> None:
    """Loading a checkpoint of the same step while the engine is open."""
    with serving() as servers:

        class Load(L.Callback):
            def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
                module.engines()
                with torch.no_grad():
                    for p in module.loaded.parameters():
                        p.mul_(1.5)
                module.serving.changed()
                module.engines()
                theirs = dict(servers[0].model.named_parameters())
                self.gap = max(
                    (theirs[n] - p).abs().max().item() for n, p in module.model.named_parameters()
                )

        load = Load()
        fit(tmp_path, module(servers), 1, load)
        assert load.gap == 0.0


def test_adapters_of_two_roles(tmp_path: Path) -> None:
    with serving() as servers:
        roles: dict[str, Any] = {"agent": Duo(), "train_roles": ("solver", "judge")}
        rewards = [Even(), Even(role="judge")]
        policy = Policy(scratch=SCRATCH, lora=Lora(r=2, dropout=0.0))
        model, seen = module(servers, policy, rewards=rewards, **roles), Seen([])
        fit(tmp_path, model, seen=seen)
        assert [step["train/logp_diff"] for step in seen.steps] == pytest.approx([0] * 3, abs=5e-6)
        assert all(step["train/engine_gap"] < 1e-4 for step in seen.steps)
        names = [body["lora_name"] for body in servers[0].bodies("/v1/load_lora_adapter")]
        assert sorted(names) == ["judge"] * 3 + ["solver"] * 3
        assert not servers[0].bodies("/update_weights")
        assert {body["model"] for body in servers[0].bodies()} == {"solver", "judge"}


def test_an_adapter_that_is_not_taken_stops_the_run(tmp_path: Path) -> None:
    with serving() as servers:
        servers[0].ignores_weights = True  # adapters that are there already stay as they are
        policy = Policy(scratch=SCRATCH, lora=Lora(r=8, dropout=0.0))
        options = {"optim": Optim(lr=0.2, warmup=0)}
        model = module(servers, policy, **options)
        with pytest.raises(EngineError, match="other log-probabilities"):
            fit(tmp_path, model, 3)


# the choice

SERVERS = Vllm(servers=("http://node2:8000",))
CHOICES = [
    # asked, servers, installed and tested, GPU, ranks -> kind, or what the refusal says
    ("transformers", False, True, True, 1, "transformers"),
    ("transformers", True, True, True, 1, ValueError("vllm.servers")),
    ("auto", True, False, False, 1, "servers"),
    ("auto", True, True, True, 4, "servers"),
    ("vllm", True, False, False, 1, "servers"),
    ("vllm", True, False, False, 4, "servers"),
    ("auto", False, True, True, 1, "vllm"),
    ("auto", False, True, False, 1, "transformers"),
    ("auto", False, False, True, 1, "transformers"),
    ("auto", False, False, False, 1, "transformers"),
    ("auto", False, True, True, 2, "transformers"),
    ("vllm", False, True, True, 1, "vllm"),
    ("vllm", False, True, False, 1, "vllm"),
    ("vllm", False, False, True, 1, ValueError("0.30.0")),
    ("vllm", False, True, True, 2, "vllm"),
]


@pytest.mark.parametrize(("asked", "servers", "tested", "gpu", "ranks", "expected"), CHOICES)
def test_the_choice(
    asked: Any,
    servers: bool,
    tested: bool,
    gpu: bool,
    ranks: int,
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm_setup, "installed", lambda: "0.32.0" if tested else "0.30.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    vllm = SERVERS if servers else Vllm()
    if isinstance(expected, ValueError):
        with pytest.raises(ValueError, match=str(expected)):
            choose(asked, vllm, ranks)
    else:
        assert choose(asked, vllm, ranks) == expected


def test_deterministic_sampling_leaves_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_setup, "installed", lambda: "0.32.0")
    assert choose(Inference(deterministic=True).wanted_engine, gpu=True) == "transformers"
    assert choose(Inference().wanted_engine, gpu=True) == "vllm"


@pytest.mark.parametrize("options", [{"engine": "vllm"}, {"vllm": SERVERS}])
def test_deterministic_sampling_with_vllm_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r"inference\.deterministic: .* remove deterministic"):
        Inference(deterministic=True, **options)


@pytest.mark.parametrize("memory", [0.0, 1.0, -0.1, 40])
def test_memory_is_a_share(memory: float) -> None:
    with pytest.raises(ValueError, match=r"vllm\.memory"):
        Vllm(memory=memory)
    assert Vllm(memory=0.4).memory == 0.4


def test_run_prints_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, grpo(group_size=2, sampling=Sampling(max_new_tokens=2)), 1)
    assert "rollouts: transformers engine" in capsys.readouterr().out
    assert SFTModule.sampled_for == "evaluations"  # fine-tuning has no rollouts


def test_the_manifest_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    model = grpo(vllm=SERVERS)
    made = trainer(tmp_path)
    begin_run(made, model)
    text = (tmp_path / "manifest.json").read_text()
    engine = json.loads(text)["engine"]
    assert (engine["kind"], engine["asked"], engine["servers"]) == (
        "servers",
        "auto",
        list(SERVERS.servers),
    )
    assert KEY not in text
