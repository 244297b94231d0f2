"""Roles on the real vLLM: frozen ones do not move, and exports of several are LoRA requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from on_vllm.checks import NEEDS_VLLM
from tiny import Duo, grpo, problems, trainer

from slm_math.callbacks import ExportHF
from slm_math.engines.base import EngineError, Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.settings import Vllm
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.types import Sampling, user

pytestmark = [*NEEDS_VLLM, pytest.mark.timeout(1200)]
ROLES = ("solver", "judge")
GREEDY = Sampling(0.0, max_new_tokens=12)
LORA = Lora(r=4, alpha=8, dropout=0.0)
STEPS = 20


def replies(engine: Any, role: str) -> list[tuple[int, ...]]:
    asked = [Request(user(f"{n} + {n} = ?"), GREEDY, role=role) for n in range(6)]
    tickets = [engine.submit(request) for request in asked]
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll(1.0))
    for result in found.values():
        if isinstance(result, EngineError):
            raise result
    return [found[ticket].token_ids for ticket in tickets]


@pytest.fixture(scope="module")
def base(models: Any) -> Path:
    return models["tied"][0]


@pytest.fixture(scope="module")
def pair(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of two roles, whose adapters do something."""
    torch.manual_seed(1)
    policy = Policy(path=str(base), lora=LORA)
    loaded = policy.load(ROLES)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("export") / "pair"
    export_policy(loaded, policy.chat(), folder)
    return folder


@pytest.fixture(scope="module")
def expected(base: Path, pair: Path) -> dict[str, list[tuple[int, ...]]]:
    """role -> greedy replies on plain transformers, of the adapters and of the base."""
    engine = CheckpointEngine({role: str(pair / role) for role in ROLES} | {"critic": str(base)})
    found = {role: replies(engine, role) for role in (*ROLES, "critic")}
    assert len({str(each) for each in found.values()}) == 3
    return found


def test_export_of_two_roles_is_served_in_process(base: Path, pair: Path, expected: Any) -> None:
    from slm_math.engines.vllm import VLLMEngine

    paths = {role: str(pair / role) for role in ROLES} | {"critic": str(base)}
    with closing(VLLMEngine(paths, "float32", slots=16, context=512)) as engine:
        assert {role: replies(engine, role) for role in expected} == expected
        with pytest.raises(EngineError, match="no adapter serves role 'stranger'"):
            replies(engine, "stranger")
    with closing(VLLMEngine(str(pair), "float32", slots=16, context=512)) as engine:
        assert {role: replies(engine, role) for role in ROLES} == {
            role: expected[role] for role in ROLES
        }


def test_export_from_scratch_is_two_requests_of_plain_vllm(script: Any, tmp_path: Path) -> None:
    """No code of ours serves it: vLLM's own `LLM` with a `LoRARequest` for each role."""
    policy = Policy(scratch=script.inside.SCRATCH, lora=LORA)
    loaded = policy.load(ROLES)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    export_policy(loaded, policy.chat(), tmp_path / "new", with_base=True)
    pair = (tmp_path / "new").rename(tmp_path / "moved")
    ours = CheckpointEngine(str(pair))
    want = {role: replies(ours, role) for role in ROLES}
    from slm_math.engines.vllm_setup import import_vllm

    import_vllm()
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    options: dict[str, Any] = {"enforce_eager": True, "max_model_len": 512, "seed": 0}
    options |= {"kv_cache_memory_bytes": 2**26}
    llm = LLM(str(pair / "base"), dtype="float32", enable_lora=True, max_loras=2, **options)
    chat = policy.chat()
    prompts = [{"prompt_token_ids": list(chat.encode(user(f"{n} + {n} = ?")))} for n in range(6)]
    greedy = SamplingParams(temperature=0, max_tokens=12, stop_token_ids=sorted(chat.ends()))
    for number, role in enumerate(ROLES, 1):
        out = llm.generate(
            prompts, greedy, lora_request=LoRARequest(role, number, str(pair / role))
        )
        assert [tuple(one.outputs[0].token_ids) for one in out] == want[role]
    llm.llm_engine.engine_core.shutdown()


class Watch(ExportHF):
    """The replies of the role that does not learn, before and after, and each step's gap."""

    def __init__(self) -> None:
        super().__init__(check=False)
        self.seen: list[Any] = []
        self.gaps: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(replies(pl_module.engines()["judge"], "judge"))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        engines = pl_module.engines()
        self.seen += [replies(engines["judge"], "judge"), replies(engines["solver"], "solver")]

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.gaps.append(float(trainer.callback_metrics["train/engine_gap"]))


@pytest.fixture
def servers(
    request: pytest.FixtureRequest, script: Any, base: Path, tmp_path: Path
) -> Iterator[tuple[str, ...]]:
    """The addresses of servers of the base, none for vLLM in this process."""
    running = script.servers.started(base, "adapters", 1, tmp_path) if request.param else []
    yield tuple(server.url for server in running)
    for server in running:
        server.kill()


@pytest.mark.parametrize("servers", [False, True], ids=["in process", "served"], indirect=True)
@pytest.mark.parametrize("frozen", ["base", "adapter"])
def test_a_role_that_does_not_learn_does_not_move(
    frozen: str, servers: Any, base: Path, pair: Path, expected: Any, tmp_path: Path
) -> None:
    module = grpo(
        Policy(path=str(base), lora=LORA),
        agent=Duo(),
        frozen={"judge": "base" if frozen == "base" else str(pair)},
        optim=Optim(lr=3e-2, warmup=0, schedule="constant"),
        group_size=2,
        engine="vllm",
        vllm=Vllm(servers=servers, context=None if servers else 512),
    )
    watch = Watch()
    trainer(tmp_path / "run", max_steps=STEPS, max_epochs=9, callbacks=[watch]).fit(
        module, problems(batch_size=4)
    )
    before, after, solver = watch.seen
    assert module.trainer.global_step == STEPS
    assert before == after == expected["critic" if frozen == "base" else "judge"]
    assert solver != before
    assert max(watch.gaps) < 1e-4


@pytest.mark.parametrize("servers", [True], ids=["served"], indirect=True)
def test_export_of_two_roles_is_loaded_into_a_server(
    servers: Any, base: Path, pair: Path, expected: Any
) -> None:
    from slm_math.engines.vllm_servers import VLLMServers

    paths = {role: str(pair / role) for role in ROLES} | {"critic": str(base)}
    with closing(VLLMServers(servers, path=paths, send_seed=False)) as engine:
        assert {role: replies(engine, role) for role in expected} == expected
    with closing(VLLMServers(servers, path=str(pair / "judge"), send_seed=False)) as engine:
        assert replies(engine, "anyone") == expected["judge"]
