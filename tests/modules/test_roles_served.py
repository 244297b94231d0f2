"""Frozen roles and exports of several roles on `vllm serve`: LoRA requests by role, sent once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.vllm_endpoint import serving
from tiny import SCRATCH, Duo, Even, grpo, problems, trainer

from slm_math.engines.base import EngineError, Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.settings import Vllm
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.types import Sampling, user

pytestmark = pytest.mark.timeout(240)
LORA = Lora(r=2, dropout=0.0)
ROLES = ("solver", "judge")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of two roles on the model of the fake server."""
    torch.manual_seed(4)
    policy = Policy(scratch=SCRATCH, lora=LORA)
    loaded = policy.load(ROLES)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("pair") / "export"
    export_policy(loaded, policy.chat(), folder, with_base=True)
    return folder


def replies(engine: Any, role: str) -> list[tuple[int, ...]]:
    greedy = Sampling(0.0, max_new_tokens=6)
    tickets = [
        engine.submit(Request(user(f"{n} + {n}"), greedy, key=(n,), role=role)) for n in range(3)
    ]
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll(0.1))
    failed = [one for one in found.values() if isinstance(one, Exception)]
    if failed:
        raise failed[0]
    return [found[ticket].token_ids for ticket in tickets]


def engine_of(servers: Any, path: Path | dict[str, str]) -> VLLMServers:
    return VLLMServers([servers[0].url], path=path if isinstance(path, dict) else str(path))


@pytest.mark.parametrize("frozen", ["base", "adapter"])
def test_a_frozen_role_is_sent_once_and_checked_at_every_update(
    frozen: str, pair: Path, tmp_path: Path
) -> None:
    with serving() as servers:
        module = grpo(
            Policy(path=str(pair / "base"), lora=LORA),
            agent=Duo(),
            frozen={"judge": "base" if frozen == "base" else str(pair)},
            vllm=Vllm(servers=(servers[0].url,), patience=2, timeout=5),
            sampling=Sampling(max_new_tokens=3),
            group_size=2,
            optim=Optim(lr=2e-2, warmup=0),
        )
        run = trainer(tmp_path, max_steps=3, max_epochs=9)
        run.fit(module, problems(batch_size=3))
        sent = [body["lora_name"] for body in servers[0].bodies("/v1/load_lora_adapter")]
        assert sent.count("solver") == 3
        assert sent.count("judge") == (frozen == "adapter")
        name = "tiny" if frozen == "base" else "judge"
        asked = [body["model"] for body in servers[0].bodies()]
        assert set(asked) == {"solver", name}
        checks = 2 * 3  # two questions after each of three updates
        assert asked.count(name) >= checks + 3 * 3 * 2
        assert run.callback_metrics["train/engine_gap"] < 1e-4


def test_a_server_with_another_frozen_adapter_stops_the_run(pair: Path, tmp_path: Path) -> None:
    with serving() as servers:
        server = servers[0]
        load = server.adapter
        # it takes the trained adapter, and for the frozen one has a file of its own
        server.adapter = lambda body: load(  # type: ignore[method-assign]
            body | ({"lora_path": str(pair / "solver")} if body["lora_name"] == "judge" else {})
        )
        module = grpo(
            Policy(path=str(pair / "base"), lora=LORA),
            agent=Duo(),
            frozen={"judge": str(pair)},
            vllm=Vllm(servers=(server.url,), patience=2, timeout=5),
        )
        with pytest.raises(EngineError, match="other log-probabilities than the policy"):
            trainer(tmp_path, limit_train_batches=1).fit(module, problems(batch_size=3))


def test_a_shared_adapter_is_one_adapter_of_the_server(tmp_path: Path) -> None:
    with serving() as servers:
        module = grpo(
            Policy(scratch=SCRATCH, lora=LORA, shared_adapter=True),
            agent=Duo(),
            rewards=[Even(), Even(role="judge")],
            train_roles=ROLES,
            vllm=Vllm(servers=(servers[0].url,), patience=2, timeout=5),
            group_size=2,
        )
        trainer(tmp_path, limit_train_batches=1).fit(module, problems(batch_size=3))
        assert {b["lora_name"] for b in servers[0].bodies("/v1/load_lora_adapter")} == {"solver"}
        assert {body["model"] for body in servers[0].bodies()} == {"solver"}


def test_export_of_two_roles_is_evaluated_on_a_server(pair: Path) -> None:
    paths = {
        "solver": str(pair / "solver"),
        "judge": str(pair / "judge"),
        "critic": str(pair / "base"),
    }
    want = CheckpointEngine(paths)
    with serving() as servers, closing(engine_of(servers, paths)) as engine:
        for role in paths:
            assert replies(engine, role) == replies(want, role)
        with pytest.raises(EngineError, match="no adapter serves role 'stranger'"):
            replies(engine, "stranger")
        names = [body["lora_name"] for body in servers[0].bodies("/v1/load_lora_adapter")]
        assert [name.partition("-")[0] for name in names] == ["solver", "judge"]
        assert set(engine.identity()["weights"]) == set(paths)


def test_one_adapter_is_evaluated_on_a_server_and_not_its_base(pair: Path) -> None:
    want = replies(CheckpointEngine(str(pair / "solver")), "anyone")
    assert want != replies(CheckpointEngine(str(pair / "base")), "anyone")
    with serving() as servers, closing(engine_of(servers, pair / "solver")) as engine:
        assert replies(engine, "anyone") == want


def test_a_server_that_loads_no_adapters_must_have_them(pair: Path) -> None:
    with serving() as servers:
        servers[0].always["/v1/load_lora_adapter"] = (404, {"detail": "Not Found"}, {})
        hint = r"does not serve the adapter .*--lora-modules \w+="
        with closing(engine_of(servers, pair)) as engine, pytest.raises(EngineError, match=hint):
            replies(engine, "solver")
        for role in ROLES:
            servers[0].adapter({"lora_name": role, "lora_path": str(pair / role)})
        with closing(engine_of(servers, pair)) as engine:
            want = CheckpointEngine(str(pair))
            for role in ROLES:
                assert replies(engine, role) == replies(want, role)
