"""GRPO on problems with images, whose rollouts come from vLLM: in this process, and served."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import NEEDS_VLLM
from seeing import SEEING, Drawn, ask, drawing, engine_of
from tiny import grpo, trainer

from slm_math.data.problem_data import ProblemData
from slm_math.engines.base import EngineError
from slm_math.engines.settings import Vllm
from slm_math.modules.optim import Optim
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.types import user

pytestmark = [*NEEDS_VLLM, pytest.mark.timeout(900)]
SCRATCH = replace(SEEING, hidden=128, heads=4, ffn=128, context=512, vision="idefics3")
ADAPTERS = Lora(r=4, alpha=32, dropout=0.0, targets="all-linear")
LIMIT = 168**2  # pixels: four tiles and the whole


def trained(policy: Policy, root: Path, servers: Sequence[str], updates: int) -> Any:
    """A module after updates after each of which vLLM was the policy, for images, too, and whose
    greedy replies are vLLM's.
    """
    module = grpo(
        policy,
        engine="vllm",
        vllm=Vllm(tuple(servers)),
        optim=Optim(lr=1e-3 if policy.lora is None else 3e-3, warmup=0),
        group_size=3,
    )
    gaps: list[float] = []
    log = module.log_scalars

    def watched(values: Any, rows: int, shown: Sequence[str] = ()) -> None:
        # a step whose groups have one reward each compares no samples
        gaps.append(max(module.serving.gap or 0.0, values.get("logp_diff_max", 0.0)))
        log(values, rows, shown)

    module.log_scalars = watched
    data = ProblemData(Drawn(str(root / "drawn"), large=200), batch_size=4, seed=0)
    teardown, replies = module.teardown, []

    def last(stage: str) -> None:
        images = [drawing(root, f"last{n}", (84, 60 + n), n) for n in range(3)]
        chats = [user("Go", images[:1]), user("Go"), user("Both", images[1:])]
        for engine in (module.engines()["solver"], engine_of(module.loaded.model, module.chat)):
            replies.append(ask(engine, chats, temperature=0.0))
        teardown(stage)

    module.teardown = last
    run = trainer(root, max_epochs=-1, max_steps=updates)
    run.fit(module, data)
    assert run.global_step == updates
    assert len(gaps) >= updates
    assert max(gaps) <= 1e-4
    served, own = replies
    assert [reply.token_ids for reply in served] == [reply.token_ids for reply in own]
    return module


def of_tower(names: Sequence[str]) -> int:
    return sum("vision_model" in name or "connector" in name for name in names)


@pytest.fixture
def arrived() -> Iterator[list[list[str]]]:
    """The names of the weights of each part of an update that vLLM in this process receives."""
    from slm_math.engines.vllm_worker import Transfer

    seen: list[list[str]] = []
    receive = Transfer.receive_weights

    def watched(self: Any, update: Any) -> None:
        seen.append([name for name, _ in update.tensors])
        receive(self, update)

    Transfer.receive_weights = watched
    yield seen
    Transfer.receive_weights = receive


def test_trained_tower_in_process(tmp_path: Path, arrived: list[list[str]]) -> None:
    trained(Policy(scratch=SCRATCH, vision="trained"), tmp_path, (), 10)
    assert len(arrived) == 11  # the last one for the greedy replies
    assert all(of_tower(names) for names in arrived)


def test_frozen_tower_in_process(tmp_path: Path, arrived: list[list[str]]) -> None:
    trained(Policy(scratch=SCRATCH), tmp_path, (), 10)
    tower, *others = arrived
    assert of_tower(tower) == len(tower) > 0
    assert len(others) == 11
    assert not any(map(of_tower, others))


def test_adapters_in_process(tmp_path: Path, arrived: list[list[str]]) -> None:
    module = trained(Policy(scratch=SCRATCH, lora=ADAPTERS), tmp_path, (), 10)
    assert adapters_matter(module, tmp_path)
    assert arrived == []


def adapters_matter(module: Any, root: Path) -> bool:
    """Whether the model without its adapters says something else about an image."""
    chats = [user("Go", [drawing(root, "last0", (84, 60), 0)])]
    engine = engine_of(module.loaded.model, module.chat)
    [reply] = ask(engine, chats)
    with module.loaded.model.disable_adapter():
        [other] = ask(engine, chats)
    return max(abs(a - b) for a, b in zip(reply.logprobs, other.logprobs)) > 1e-2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that shows large images as tiles, without a limit of its own."""
    folder = tmp_path_factory.mktemp("served") / "model"
    policy = Policy(scratch=SCRATCH)
    export_policy(policy.load(), policy.chat(), folder)
    file = folder / "preprocessor_config.json"
    changed = {"do_image_splitting": True, "size": {"longest_edge": 252}}
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder


@pytest.fixture(scope="module")
def limited(script: Any, model: Path) -> Iterator[str]:
    """The address of a server with a limit of pixels."""
    limit = json.dumps({"size": {"longest_edge": 168}})
    log = model.parent / "limited.log"
    server = script.servers.ServerProcess(model, "file", log, "--mm-processor-kwargs", limit)
    yield from up(server)


def up(server: Any) -> Iterator[str]:
    try:
        server.start()
        server.wait(500)
        yield server.url
    finally:
        server.kill()


def test_trained_tower_and_a_limit_served(limited: str, model: Path, tmp_path: Path) -> None:
    policy = Policy(path=str(model), vision="trained", max_pixels=LIMIT)
    module = trained(policy, tmp_path, [limited], 3)
    [image] = [drawing(tmp_path, "last", (200, 200), 1)]
    assert module.chat.sight.shape(image) == (2, 2)


def test_frozen_tower_served(limited: str, model: Path, tmp_path: Path) -> None:
    """The server has the trained tower of another run, so that it needs this policy's once."""
    from safetensors import safe_open

    from slm_math.engines import vllm_transfer

    written: list[tuple[str, int]] = []
    write = vllm_transfer.tensors_file

    def watched(*given: Any) -> Path:
        path = write(*given)
        with safe_open(path, "pt") as file:
            written.append((path.name, of_tower(list(file.keys()))))
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_transfer, "tensors_file", watched)
        trained(Policy(path=str(model), max_pixels=LIMIT), tmp_path, [limited], 10)
    (first, tower), *others = written
    assert first == "fixed.safetensors"
    assert tower > 0
    assert others == [("weights.safetensors", 0)] * 11


@pytest.mark.parametrize("limit", [84**2, 252**2])
def test_another_limit_ends_the_run_before_a_step(
    limited: str, model: Path, tmp_path: Path, limit: int
) -> None:
    policy = Policy(path=str(model), max_pixels=limit)
    module = grpo(policy, engine="vllm", vllm=Vllm((limited,)))
    data = ProblemData(Drawn(str(tmp_path / "drawn")), batch_size=4, seed=0)
    run = trainer(tmp_path, max_steps=2)
    with pytest.raises(EngineError, match="about an image, and the same without one") as caught:
        run.fit(module, data)
    assert run.global_step == 0
    size = json.dumps({"size": {"longest_edge": int(limit**0.5)}})
    assert f"--mm-processor-kwargs '{size}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapters_served(script: Any, model: Path, tmp_path: Path) -> None:
    """The limit is that of the folder here."""
    policy = Policy(path=str(model), max_pixels=LIMIT)
    folder = tmp_path / "model"
    export_policy(policy.load(), policy.chat(), folder)
    for url in up(script.servers.ServerProcess(folder, "adapters", tmp_path / "log")):
        policy = Policy(path=str(folder), lora=ADAPTERS, max_pixels=LIMIT)
        module = trained(policy, tmp_path, [url], 10)
        assert adapters_matter(module, tmp_path)
        assert not list((tmp_path / "vllm").glob("*.safetensors"))
