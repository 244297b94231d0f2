"""vLLM before it is used: versions, servers that cannot be used, memory worked out by hand, and no
import.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engines.vllm_client import ask, engine_of, request, weights_of
from engines.vllm_endpoint import GENERATE, KEY, FakeVLLM, serving

from slm_math.engines import vllm_control, vllm_setup
from slm_math.engines.base import EngineError, Unusable
from slm_math.engines.vllm_setup import OVERHEAD, cache_bytes, kv_bytes, lora_rank, refusal, share
from slm_math.types import Reply

pytestmark = pytest.mark.timeout(240)
HOW = "scripts/serve_vllm.sh"
GIB, KIB = 2**30, 2**10


def config(layers: int, heads: int, kv_heads: int | None, hidden: int, **more: Any) -> Any:
    found = SimpleNamespace(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=hidden,
        **more,
    )
    found.get_text_config = lambda: found
    return found


# layers, attention heads, key-value heads, width: as on the models' cards
QWEN = {
    "0.5B": ((24, 14, 2, 896), 12),
    "1.5B": ((28, 12, 2, 1536), 28),
    "3B": ((36, 16, 2, 2048), 36),
}


@pytest.mark.parametrize("name", QWEN)
def test_keys_and_values_of_a_token(name: str) -> None:
    shape, kib = QWEN[name]
    assert kv_bytes(config(*shape), 2) == kib * KIB
    assert kv_bytes(config(*shape), 4) == 2 * kib * KIB


def test_keys_and_values_of_other_shapes() -> None:
    # without groups: every head has its own
    assert kv_bytes(config(2, 4, None, 32), 4) == 2 * 2 * 4 * 8 * 4
    # Qwen3-0.6B: not 1024 / 16
    assert kv_bytes(config(28, 16, 8, 1024, head_dim=128), 2) == 112 * KIB


def test_cache_for_all_slots() -> None:
    qwen = config(*QWEN["1.5B"][0])
    assert cache_bytes(qwen, 64, 3072, 32768, 2) == 64 * 3072 * 28 * KIB  # 5.25 GiB
    # no chat is longer than the context
    assert cache_bytes(qwen, 64, 3072, 2048, 2) == 64 * 2048 * 28 * KIB
    # one that fills the context has room
    assert cache_bytes(qwen, 1, 1000, 32768, 2) == 32768 * 28 * KIB


def test_share_of_weights_overhead_and_cache() -> None:
    # 1.5e9 weights of 2 bytes, 2 GiB overhead, 5.25 GiB of cache, on 80 GiB
    assert OVERHEAD == 2 * GIB
    expected = (3e9 / GIB + 2 + 5.25) / 80
    assert share(1_500_000_000, int(5.25 * GIB), 80 * GIB, 2) == pytest.approx(expected, abs=6e-4)
    # what training keeps does not change what vLLM needs while both fit
    assert share(1_500_000_000, int(5.25 * GIB), 80 * GIB, 2, 24 * GIB) == pytest.approx(
        expected, abs=6e-4
    )


def test_cache_that_does_not_fit_is_reduced() -> None:
    # 24 GiB, of which 22.8 may be used: 10 for training, 4 for 1 Gi weights and overhead, so 8.8
    # are left of the cache
    assert share(GIB, 20 * GIB, 24 * GIB, 2, 10 * GIB) == pytest.approx(12.8 / 24, abs=6e-4)


def test_a_quarter_of_the_cache_must_fit() -> None:
    fits = int(8.7 * 4 * GIB)
    assert share(GIB, fits, 24 * GIB, 2, 10 * GIB) == pytest.approx(12.8 / 24, abs=6e-4)
    with pytest.raises(ValueError, match=r"vllm\.memory") as caught:
        share(GIB, int(8.9 * 4 * GIB), 24 * GIB, 2, 10 * GIB)
    assert "22.9" in str(caught.value)
    assert "24.0" in str(caught.value)


@pytest.mark.parametrize(
    ("rank", "bound"), [(1, 8), (8, 8), (9, 16), (16, 16), (33, 64), (200, 256), (512, 512)]
)
def test_bounds_of_adapter_ranks(rank: int, bound: int) -> None:
    assert lora_rank(rank) == bound


def test_a_rank_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="512"):
        lora_rank(513)


@pytest.mark.parametrize("version", ["0.30.9", "0.33.0", "0.5.4", "1.0"])
def test_a_version_that_was_not_tested(version: str) -> None:
    reason = refusal(version)
    assert reason is not None
    assert all(part in reason for part in (version, ">=0.31", "<0.33"))


@pytest.mark.parametrize("version", ["0.31.0", "0.32.9", "0.32.1+cu129"])
def test_a_version_that_was_tested(version: str) -> None:
    assert refusal(version) is None


def test_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_setup, "installed", lambda: None)
    assert "pip install" in (refusal() or "")
    with pytest.raises(ValueError, match="pip install"):
        vllm_setup.import_vllm()


def imports_again(channel: Connection) -> None:
    """Imports our modules anew where importing any of vllm is an error."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "slm_math"]:
        del sys.modules[name]
    sys.modules["vllm"] = None  # type: ignore[assignment]
    for name in (
        *("slm_math.training", "slm_math.modules.grpo", "slm_math.evaluation.command"),
        *("slm_math.engines.vllm", "slm_math.engines.vllm_control"),
    ):
        importlib.import_module(name)
    servers = importlib.import_module("slm_math.engines.vllm_servers")
    servers.VLLMServers(["http://localhost:1"]).close()
    importlib.import_module("slm_math.engines.settings").choose_engine("auto")
    channel.send([name for name in sys.modules if name.startswith("vllm.")])


def test_nothing_imports_vllm_before_it_is_used() -> None:
    """Looking for its version is no import. A fork of this process has torch already."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=imports_again, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv() == []  # and EOFError if it failed
    process.join()


# servers, before anything is asked


@pytest.mark.parametrize("version", ["0.30.2", "0.33.0", "1.0.0"])
def test_a_version_outside_of_the_tested_range_is_refused(version: str, tmp_path: Path) -> None:
    with serving(version=version) as [server], engine_of([server], tmp_path) as engine:
        with pytest.raises(ValueError, match=r">=0\.31") as caught:
            engine.submit(request())
        assert version in str(caught.value)
        assert "<0.33" in str(caught.value)
        assert server.url in str(caught.value)
        assert not server.bodies()


@pytest.mark.parametrize("version", ["0.31.2", "0.32.1", "0.32.3+cpu", "0.32.1.dev4+gabc123"])
def test_versions_of_the_tested_range(version: str, tmp_path: Path) -> None:
    with serving(version=version) as servers, engine_of(servers, tmp_path) as engine:
        assert engine.identity()["version"] == [version]


@pytest.mark.parametrize("version", ["dev", ""])
def test_what_is_no_version_is_refused_with_the_range(version: str, tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match=r">=0\.31")
    with serving(version=version) as servers, engine_of(servers, tmp_path) as engine, refused:
        engine.submit(request())


def test_servers_of_different_models_are_refused(tmp_path: Path) -> None:
    one, other = FakeVLLM(root="/models/a"), FakeVLLM(root="/models/b")
    try:
        with (
            engine_of([one, other], tmp_path) as engine,
            pytest.raises(ValueError, match="/models/a, /models/b"),
        ):
            engine.submit(request())
    finally:
        one.kill()
        other.kill()


def test_the_smallest_context_counts(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path) as engine:
        servers[1].context = 40
        ask(engine, request(max_new_tokens=200, stop=("0", "1", "e", " ", "a")))
        [body] = [body for server in servers for body in server.bodies()]
        assert body["sampling_params"]["max_tokens"] == 40 - len(body["token_ids"])


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    "route", ["/version", "/v1/models", "/pause", "/start_weight_update", "/update_weight_version"]
)
def test_a_missing_route_says_how_to_start(route: str, status: int, tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.always[route] = (status, {"detail": "Not Found"})
        with pytest.raises(EngineError) as caught:
            engine.update(1, weights_of(5)[1])
        assert all(part in str(caught.value) for part in (route, server.url, HOW, str(status)))


def test_a_missing_route_for_requests_says_how_to_start(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.always[GENERATE] = (404, {"detail": "Not Found"})
        with pytest.raises(Unusable) as caught:
            ask(engine)
        assert HOW in str(caught.value)


def test_a_server_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    with serving() as [server], engine_of([server], tmp_path, patience=5) as engine:
        server.kill()
        with monkeypatch.context() as patch:
            patch.setattr(vllm_control, "time", clock)
            with pytest.raises(EngineError, match="did not come up") as caught:
                engine.submit(request())
        assert sum(pauses) == 5
        assert HOW in str(caught.value)
        assert server.url in str(caught.value)
        assert server.url in capsys.readouterr().out
        server.start()
        assert isinstance(ask(engine), Reply)


def test_a_control_route_never_shows_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with serving() as [server], engine_of([server], tmp_path) as engine:
        server.always["/version"] = (401, {"error": f"Bearer {KEY} is not known here"})
        with pytest.raises(EngineError) as caught:
            engine.submit(request())
        assert KEY not in str(caught.value)
