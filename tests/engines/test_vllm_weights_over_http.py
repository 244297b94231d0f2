"""New weights for `vllm serve` processes: the order of the routes, what arrives, what an error
leaves behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engines.vllm_client import answers, ask, engine_of, gap, request, weights_of
from engines.vllm_endpoint import GENERATE, PUSH, UPDATE, serving
from tiny import SCRATCH

from slm_math.engines.base import EngineError, Weights
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.weights import save_adapter

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def one(tmp_path: Path):
    with serving() as servers, engine_of(servers, tmp_path) as engine:
        yield servers[0], engine


def test_the_order_of_an_update(one) -> None:
    server, engine = one
    engine.update(1, weights_of(5)[1])
    assert server.routes() == PUSH
    assert server.bodies("/pause") == [{"mode": "wait"}]


def test_features_of_images_are_forgotten_with_the_weights_that_made_them(one) -> None:
    server, engine = one
    engine.chat.images = True
    engine.update(1, weights_of(5)[1])
    assert server.routes() == [*UPDATE, "/reset_prefix_cache", "/reset_encoder_cache", "/resume"]


def test_all_weights_arrive_on_all_servers(tmp_path: Path) -> None:
    with serving(3) as servers, engine_of(servers, tmp_path) as engine:
        for version, seed in enumerate((5, 6), start=1):
            model, weights = weights_of(seed)
            engine.update(version, weights)
            for server in servers:
                mine = dict(model.named_parameters())
                assert all(
                    torch.equal(mine[name], p) for name, p in server.model.named_parameters()
                )
            replies = answers(engine, [engine.submit(request(str(i))) for i in range(6)])
            assert all(gap(model, reply) < 1e-5 and reply.version == version for reply in replies)  # type: ignore
        paths = {
            body["update_info"]["path"]
            for server in servers
            for body in server.bodies("/update_weights")
        }
        assert len(paths) == 1
        assert Path(next(iter(paths))).is_absolute()


def in_parts(seed: int) -> tuple[Any, Weights]:
    """A model whose first layer never changes, and its weights in two parts."""
    model, _ = weights_of(seed)
    always = dict(weights_of(5)[0].named_parameters())
    named = dict(model.named_parameters())
    fixed = {name: always[name].detach() for name in named if "layers.0." in name}
    model.load_state_dict(fixed, strict=False)
    rest = {name: p.detach() for name, p in named.items() if name not in fixed}
    return model, Weights(tensors=lambda: rest.items(), fixed=lambda: fixed.items())


def test_fixed_weights_are_sent_once(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path) as engine:
        for version, seed in enumerate((5, 6, 7), start=1):
            model, weights = in_parts(seed)
            engine.update(version, weights)
            replies = answers(engine, [engine.submit(request(str(i))) for i in range(4)])
            assert all(gap(model, reply) < 1e-5 for reply in replies)  # type: ignore[arg-type]
        for server in servers:
            sent = [body["update_info"]["part"] for body in server.bodies("/update_weights")]
            assert sent == ["fixed", "rest", "rest", "rest"]


@pytest.mark.parametrize("seen", [True, False])
def test_a_server_that_restarted_gets_fixed_weights_again(seen: bool, one) -> None:
    server, engine = one
    engine.update(1, in_parts(5)[1])
    server.kill()
    server.start()  # with other weights than the policy's in the first layer
    if seen:
        ask(engine)
    model, weights = in_parts(6)
    engine.update(2, weights)
    assert gap(model, ask(engine)) < 1e-5
    sent = [body["update_info"]["part"] for body in server.bodies("/update_weights")]
    assert sent == ["fixed", "rest"] * 2 + ["rest"] * seen


def test_the_name_of_the_weights_is_new_with_each_version_and_run(tmp_path: Path) -> None:
    with serving() as servers:
        for _ in range(2):
            with engine_of(servers, tmp_path) as engine:
                engine.update(1, weights_of(5)[1])
                engine.update(2, weights_of(5)[1])
        names = [body["new_version"] for body in servers[0].bodies("/update_weight_version")]
        assert len(set(names)) == 4


def test_sending_the_same_version_again_sends_the_weights_as_they_are_now(one) -> None:
    """A checkpoint was loaded: the step is the same one, the weights are not."""
    _, engine = one
    engine.update(1, weights_of(5)[1])
    model, weights = weights_of(6)
    engine.update(1, weights)
    assert gap(model, ask(engine)) < 1e-5


def test_bf16_weights_are_rounded_once(tmp_path: Path) -> None:
    with serving() as [server], engine_of([server], tmp_path) as engine:
        engine.dtype = "bfloat16"
        model, weights = weights_of(5)
        engine.update(1, weights)
        theirs = dict(server.model.named_parameters())
        for name, p in model.named_parameters():
            assert torch.equal(theirs[name], p.bfloat16().float())


@pytest.mark.parametrize("route", [*UPDATE[1:], "/reset_prefix_cache"])
def test_server_continues_after_a_failed_update(route: str, one) -> None:
    server, engine = one
    server.faults[route] = [(500, {"error": "out of memory"})]
    with pytest.raises(EngineError, match="out of memory") as caught:
        engine.update(1, weights_of(5)[1])
    assert server.url in str(caught.value)
    assert route in str(caught.value)
    # with half a model it had better not go on
    half = route in ("/update_weights", "/finish_weight_update")
    assert server.paused == half
    engine.update(1, weights_of(5)[1])
    assert not server.paused


def test_prefix_cache_that_is_not_reset_is_an_error(one) -> None:
    server, engine = one
    server.always["/reset_prefix_cache"] = (200, {"success": False})
    with pytest.raises(EngineError, match="prefix cache"):
        engine.update(1, weights_of(5)[1])
    assert not server.paused


def test_a_server_that_dies_in_an_update_is_an_error_or_left_out(tmp_path: Path) -> None:
    with serving(2) as servers, engine_of(servers, tmp_path, patience=1) as engine:
        ask(engine)
        servers[0].faults["/update_weights"] = ["hang up"]
        model, weights = weights_of(5)
        try:
            engine.update(1, weights)
        except EngineError as error:
            message = str(error)
        else:
            message = servers[0].url
            assert gap(model, ask(engine)) < 1e-5
        assert servers[0].url in message


def test_a_server_that_takes_no_weights_says_how_to_start(one) -> None:
    server, engine = one
    server.backend = None
    with pytest.raises(EngineError, match=r"scripts/serve_vllm\.sh"):
        engine.update(1, weights_of(5)[1])
    assert not server.paused


def test_weights_do_not_change_under_requests(one) -> None:
    server, engine = one
    server.delay = 0.3
    ticket = engine.submit(request())
    with pytest.raises(EngineError, match="unfinished"):
        engine.update(1, weights_of(5)[1])
    answers(engine, [ticket])


# adapters


def adapted(roles: tuple[str, ...], folder: Path) -> tuple[LoadedPolicy, Weights]:
    """A policy with an adapter that matters for each role, and the folders in which
    they are sent.
    """
    loaded = Policy(scratch=SCRATCH, lora=Lora(r=4, alpha=8, dropout=0.0)).load(roles)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in loaded.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.3)
    for role in roles:
        save_adapter(loaded, loaded.adapters[role], folder / role)
    loaded.model.eval()
    return loaded, Weights(adapters={role: folder / role for role in roles})


def theirs(loaded: LoadedPolicy, role: str, reply: Any) -> float:
    with loaded.use(role) as model:
        return gap(model, reply)


def test_each_role_has_its_adapter(one, tmp_path: Path) -> None:
    server, engine = one
    loaded, weights = adapted(("solver", "judge"), tmp_path)
    engine.update(1, weights)
    sent = [
        "/pause",
        *["/v1/load_lora_adapter"] * 2,
        "/update_weight_version",
        "/reset_prefix_cache",
        "/resume",
    ]
    assert server.routes() == sent
    for role, other in (("solver", "judge"), ("judge", "solver")):
        reply = ask(engine, request(role=role))
        assert theirs(loaded, role, reply) < 1e-5 < 1e-3 < theirs(loaded, other, reply)
    assert [body["model"] for body in server.bodies()] == ["solver", "judge"]


def test_a_role_may_speak_with_the_model_without_an_adapter(one, tmp_path: Path) -> None:
    server, engine = one
    loaded, weights = adapted(("solver", "judge"), tmp_path)
    engine.update(1, Weights(adapters={**weights.adapters, "critic": None}))
    reply = ask(engine, request(role="critic"))
    with loaded.model.disable_adapter():
        assert gap(loaded.model, reply) < 1e-5
    assert server.bodies()[0]["model"] == server.names[0]


def test_a_role_that_nobody_named_gets_no_reply(one, tmp_path: Path) -> None:
    _, engine = one
    engine.update(1, adapted(("solver", "judge"), tmp_path)[1])
    [result] = answers(engine, [engine.submit(request(role="critic"))])
    assert isinstance(result, EngineError)
    assert "no adapter serves role 'critic': there are adapters for solver, judge" in str(result)


def test_an_adapter_is_replaced(one, tmp_path: Path) -> None:
    server, engine = one
    loaded, weights = adapted(("solver",), tmp_path / "1")
    engine.update(1, weights)
    with torch.no_grad():
        for p in loaded.parameters():
            p.mul_(-1)
    save_adapter(loaded, loaded.adapters["solver"], tmp_path / "2")
    engine.update(2, Weights(adapters={"solver": tmp_path / "2"}))
    assert gap(loaded.model, ask(engine, request(role="solver"))) < 1e-5
    assert [body["load_inplace"] for body in server.bodies("/v1/load_lora_adapter")] == [True, True]


def test_a_server_that_restarted_gets_adapters_before_requests(one, tmp_path: Path) -> None:
    server, engine = one
    loaded, weights = adapted(("solver",), tmp_path)
    engine.update(1, weights)
    server.kill()
    ticket = engine.submit(request(role="solver"))
    for _ in range(10):
        engine.poll(0.05)
    before = len(server.asked)
    server.start()
    [reply] = answers(engine, [ticket])
    assert theirs(loaded, "solver", reply) < 1e-5
    routes = server.routes(before)
    assert routes.index("/v1/load_lora_adapter") < routes.index(GENERATE)


def test_a_server_that_restarted_unseen_gets_its_adapters_again(one, tmp_path: Path) -> None:
    server, engine = one
    loaded, weights = adapted(("solver",), tmp_path)
    engine.update(1, weights)
    server.kill()
    server.start()
    assert theirs(loaded, "solver", ask(engine, request(role="solver"))) < 1e-5


def test_a_server_without_the_adapter_route_says_how_to_start(one, tmp_path: Path) -> None:
    server, engine = one
    server.always["/v1/load_lora_adapter"] = (404, {"detail": "Not Found"})
    with pytest.raises(EngineError, match=r"scripts/serve_vllm\.sh"):
        engine.update(1, adapted(("solver",), tmp_path)[1])


def test_an_update_that_somebody_left_unfinished_is_ended_first(one) -> None:
    server, engine = one
    already = (
        500,
        {"error": "start_weight_update called while a weight update is already active."},
    )
    server.faults["/start_weight_update"] = [already]
    engine.update(1, weights_of(5)[1])
    routes = [
        route for route in server.routes() if "weight_update" in route or route == "/update_weights"
    ]
    assert routes == [
        "/start_weight_update",
        "/update_weights",  # which fails, and so ends it
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
    ]


@pytest.mark.parametrize("version", ["0.31.0", "0.32.0"])
def test_a_reply_of_weights_that_were_replaced_meanwhile_is_not_returned(
    version: str, tmp_path: Path
) -> None:
    """A server that restarted unseen answers with its first weights, and is called what the
    policy's are called before anybody asks what it has.
    """
    with serving(version=version) as [server], engine_of([server], tmp_path) as engine:
        model, weights = weights_of(5)
        engine.update(1, weights)
        [expected] = [body["new_version"] for body in server.bodies("/update_weight_version")]
        server.kill()
        server.start()

        def renamed(body: dict[str, Any]) -> tuple[list[int], str]:
            server.version, server.script = expected, None
            return [5, 6, 7, 8], "length"

        server.script = renamed
        reply = ask(engine)
        assert reply.token_ids != (5, 6, 7, 8)
        assert gap(model, reply) < 1e-5
